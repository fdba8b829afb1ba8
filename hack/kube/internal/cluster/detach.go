// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyVariable names the environment variable with the number of the file
// descriptor on which a detached cluster reports that it is ready.
const readyVariable = "KUBE_READY_FD"

// detach runs "kube up" again as a background process, and waits until it reports
// that the cluster is ready.
func detach(a upArguments, args []string) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the executable: %w", err)
	}
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("creating a pipe: %w", err)
	}
	defer readyRead.Close()
	// The last --detach on the command line takes precedence.
	cmd := exec.Command(executable, append(append([]string{"up"}, args...), "--detach=false")...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{readyWrite}
	cmd.Env = append(os.Environ(), readyVariable+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	readyWrite.Close()
	if err != nil {
		return fmt.Errorf("starting the cluster's process: %w", err)
	}
	stop := forwardSignals(cmd.Process)
	defer stop()
	if n, _ := readyRead.Read(make([]byte, 1)); n > 0 {
		return nil
	}
	if err := cmd.Wait(); err != nil {
		return errors.New("the cluster did not start")
	}
	return errors.New("the cluster was stopped before it was ready")
}

// forwardSignals forwards SIGINT and SIGTERM to a process until stop is called.
func forwardSignals(to *os.Process) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for s := range signals {
			to.Signal(s)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// keepReadyDescriptor prevents the components of the cluster from inheriting the
// descriptor of readyVariable: while one has it open, the parent does not detect that
// this process has exited.
func keepReadyDescriptor() {
	if number, err := strconv.Atoi(os.Getenv(readyVariable)); err == nil {
		unix.CloseOnExec(number)
	}
}

// notifyParent notifies the process that waits in detach, if any, that the cluster
// is ready, and detaches from its terminal.
func notifyParent(dir directory) error {
	number, err := strconv.Atoi(os.Getenv(readyVariable))
	if err != nil {
		return nil // not detached
	}
	log, err := os.OpenFile(dir.log("up"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("opening the cluster's log: %w", err)
	}
	defer log.Close()
	for _, descriptor := range []int{unix.Stdout, unix.Stderr} {
		if err := unix.Dup3(int(log.Fd()), descriptor, 0); err != nil {
			return fmt.Errorf("redirecting output to the cluster's log: %w", err)
		}
	}
	ready := os.NewFile(uintptr(number), "ready")
	defer ready.Close()
	if _, err := ready.WriteString("works"); err != nil {
		return fmt.Errorf("reporting that the cluster is ready: %w", err)
	}
	return nil
}
