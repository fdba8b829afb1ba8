// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// supervisor starts the components of a cluster and detects when one exits. A cluster
// stops when any of its components exits, except for one that is to be restarted and was
// killed.
type supervisor struct {
	dir        directory
	executable string
	ended      chan error
	parts      sync.WaitGroup

	mu       sync.Mutex
	stopping bool
	running  map[string]*os.Process
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
	cmd, err := s.run(part, program, args)
	if err != nil {
		return err
	}
	s.parts.Go(func() { s.ended <- s.exited(part, cmd.Wait()) })
	return nil
}

// keep starts a component as start does, and again whenever it is killed, as the kubelet
// restarts the static pods of a control plane. Its log is that of all its processes.
func (s *supervisor) keep(part, program string, args ...string) error {
	started := make(chan error, 1)
	s.parts.Go(func() {
		runtime.LockOSThread() // this thread exists as long as the component
		cmd, err := s.run(part, program, args)
		started <- err
		for err == nil {
			if err = cmd.Wait(); !killed(err) || s.stopped() {
				s.ended <- s.exited(part, err)
				return
			}
			if cmd, err = s.run(part, program, args); err != nil {
				s.ended <- fmt.Errorf("restarting %s: %w", part, err)
			}
		}
	})
	return <-started
}

// killed reports whether a process was ended by SIGKILL.
func killed(err error) bool {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// run starts a process of a component and registers it.
func (s *supervisor) run(part, program string, args []string) (*exec.Cmd, error) {
	log, err := os.OpenFile(s.dir.log(part), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", part, err)
	}
	defer log.Close()
	cmd := exec.Command(s.executable, args...)
	cmd.Args[0] = program
	cmd.Dir = s.dir.state("")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, fmt.Errorf("starting %s: the cluster is stopping", part)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", part, err)
	}
	if s.running == nil {
		s.running = map[string]*os.Process{}
	}
	s.running[part] = cmd.Process
	return cmd, nil
}

func (s *supervisor) exited(part string, err error) error {
	return fmt.Errorf("%s exited (%v); its log is %s", part, describeExit(err), s.dir.log(part))
}

func (s *supervisor) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
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
	s.stopping = true
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
