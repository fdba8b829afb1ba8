// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package child runs child processes that end with this program, however it ends: on
// Linux the kernel signals them when their parent dies. It is for the servers and
// clusters of tests, benchmarks and the demo.
package child

import (
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a running child process.
type Process struct {
	// Cmd is the command that was started.
	Cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// Start starts cmd in a process group of its own, out of reach of the terminal's
// Ctrl-C. On Linux it receives the signal when this program dies.
func Start(cmd *exec.Cmd, signal syscall.Signal) (*Process, error) {
	cmd.SysProcAttr = Attributes(signal)
	p := &Process{Cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run owns the process from start to end. It locks its thread, because the kernel
// sends the signal when the thread that started the process ends.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer close(p.ended)
	err := p.Cmd.Start()
	started <- err
	if err == nil {
		p.err = p.Cmd.Wait()
	}
}

// Ended is closed when the process has ended and its output was copied.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err is the result of waiting for the process. It must not be called before the
// process has ended.
func (p *Process) Err() error { return p.err }

// FreeAddress returns a TCP address of host, a name or an IP address, whose port was
// free a moment ago. Another process may take the port before a child listens on it.
func FreeAddress(host string) (*net.TCPAddr, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("finding a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr), nil
}
