// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// supervisor starts the components of a cluster and detects when one exits. A cluster
// stops when any of its components exits.
type supervisor struct {
	dir        directory
	executable string
	ended      chan error
	parts      sync.WaitGroup

	mu      sync.Mutex
	running []*os.Process
}

func newSupervisor(dir directory) (*supervisor, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the executable: %w", err)
	}
	return &supervisor{dir: dir, executable: executable, ended: make(chan error, 16)}, nil
}

// start starts a component with its output in its own log file; program is the program
// that this executable is run as. It must be called on a thread that exists as long as
// the cluster: the component is killed when the thread ends.
func (s *supervisor) start(part, program string, args ...string) error {
	log, err := os.Create(s.dir.log(part))
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", part, err)
	}
	defer log.Close()
	cmd := exec.Command(s.executable, args...)
	cmd.Args[0] = program
	cmd.Dir = s.dir.state("")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", part, err)
	}
	s.mu.Lock()
	s.running = append(s.running, cmd.Process)
	s.mu.Unlock()
	s.parts.Go(func() {
		s.ended <- fmt.Errorf("%s exited (%v); its log is %s", part, describeExit(cmd.Wait()), s.dir.log(part))
	})
	return nil
}

// wait returns when a component exits, with an error that names it, or when the context
// ends.
func (s *supervisor) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.ended:
		return err
	}
}

// kill kills all components and waits until they have exited. Their data is discarded
// with the cluster, so they are not terminated gracefully.
func (s *supervisor) kill() {
	s.mu.Lock()
	for _, process := range s.running {
		process.Kill()
	}
	s.mu.Unlock()
	s.parts.Wait()
}

func describeExit(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
