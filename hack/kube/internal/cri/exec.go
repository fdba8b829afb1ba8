// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	utilexec "k8s.io/utils/exec"

	"github.com/flagcache/flagcache/hack/kube/internal/stage"
)

// execution is an additional command in a container.
type execution struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	terminal       *os.File // the command's end of a terminal, instead of the streams
}

// ExecSync runs a command in a container and returns what it writes.
func (r *Runtime) ExecSync(ctx context.Context, id string, args []string, timeout time.Duration) ([]byte, []byte, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, nil, err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var stdout, stderr bytes.Buffer
	err = r.execute(ctx, c, execution{args: args, stdout: &stdout, stderr: &stderr})
	if errors.Is(err, context.DeadlineExceeded) {
		err = status.Errorf(codes.DeadlineExceeded, "command %q timed out after %s", args, timeout)
	}
	return stdout.Bytes(), stderr.Bytes(), err
}

// execute runs a command in the container and returns when it has exited. An exit status
// other than 0 is a utilexec.CodeExitError.
func (r *Runtime) execute(ctx context.Context, c *container, e execution) error {
	process := c.process()
	if process == nil {
		return c.notRunning()
	}
	cmd := &exec.Cmd{Args: e.args, Env: c.environment(), Dir: c.config.GetWorkingDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if user := r.userOf(c); user != nil {
		cmd.SysProcAttr.Credential = credential(user)
	}
	if e.terminal != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = e.terminal, e.terminal, e.terminal
		cmd.SysProcAttr.Setctty = true
	} else {
		cmd.Stdout, cmd.Stderr = e.stdout, e.stderr
	}
	input, err := e.connectInput(cmd)
	if err != nil {
		return err
	}
	err = stage.OnOwnThread(func() error {
		if err := enter(process.Pid); err != nil {
			return err
		}
		if cmd.Path, err = stage.Find(e.args[0], cmd.Env); err != nil {
			return utilexec.CodeExitError{Err: err, Code: 127}
		}
		return cmd.Start()
	})
	input.closeChildEnd()
	if err != nil {
		input.Close()
		return fmt.Errorf("executing %q: %w", e.args, err)
	}
	input.copy(e.stdin)
	return await(ctx, cmd)
}

func (c *container) notRunning() error {
	return status.Errorf(codes.FailedPrecondition, "container %s is not running", c.config.GetMetadata().GetName())
}

// await waits for the command, and kills it and its process group when the context ends.
func await(ctx context.Context, cmd *exec.Cmd) error {
	stop := context.AfterFunc(ctx, func() { unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code := int(exitCode(exit.ProcessState))
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return err
}

// input is the pipe to a command's standard input. It is not managed by exec.Cmd, which
// would wait for the end of the client's input even after the command has exited.
type input struct {
	read, write *os.File
}

func (e *execution) connectInput(cmd *exec.Cmd) (input, error) {
	if e.stdin == nil || e.terminal != nil {
		return input{}, nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return input{}, fmt.Errorf("creating a pipe: %w", err)
	}
	cmd.Stdin = read
	return input{read, write}, nil
}

func (i input) closeChildEnd() {
	if i.read != nil {
		i.read.Close()
	}
}

func (i input) Close() {
	if i.write != nil {
		i.write.Close()
	}
}

// copy feeds the command until the client's input or the command ends.
func (i input) copy(from io.Reader) {
	if i.write == nil {
		return
	}
	go func() {
		defer i.write.Close()
		_, _ = io.Copy(i.write, from) // a command need not read all of its input
	}()
}

func credential(user *stage.User) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(user.UID), Gid: uint32(user.GID)}
	for _, group := range user.Groups {
		c.Groups = append(c.Groups, uint32(group))
	}
	return c
}

// enter moves the calling thread into the namespaces and the root of a process. Commands
// that it starts then have no more privileges than their user.
func enter(pid int) error {
	namespaces := []struct {
		name string
		kind int
	}{
		{"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"net", unix.CLONE_NEWNET},
		{"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS},
	}
	files := make([]*os.File, len(namespaces))
	for i, n := range namespaces {
		file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/" + n.name)
		if err != nil {
			return fmt.Errorf("finding the container's %s namespace: %w", n.name, err)
		}
		defer file.Close()
		files[i] = file
	}
	// The root and working directory must be the thread's own to be changed.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("separating the thread: %w", err)
	}
	for i, n := range namespaces {
		if err := unix.Setns(int(files[i].Fd()), n.kind); err != nil {
			return fmt.Errorf("entering the container's %s namespace: %w", n.name, err)
		}
	}
	return stage.GiveUpRights()
}
