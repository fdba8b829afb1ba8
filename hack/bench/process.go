// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/test/child"
)

// stopLimit is how long a process may take to stop before it is killed.
const stopLimit = 20 * time.Second

// processes are the programs that were started beside a cluster.
type processes struct {
	// dir holds their logs.
	dir string
	// failed is called when a process ends without being stopped.
	failed  context.CancelCauseFunc
	running []*process
}

// process is a running program.
type process struct {
	*child.Process
	name, log string
	// stopping is closed when the process is stopped.
	stopping chan struct{}
}

// start runs a program with its output in a log.
func (ps *processes) start(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, log: filepath.Join(ps.dir, name+".log"), stopping: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("creating the log of %s: %w", name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if p.Process, err = child.Start(cmd, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	ps.running = append(ps.running, p)
	go ps.watch(p)
	return p, nil
}

// watch reports a process that ends without being stopped.
func (ps *processes) watch(p *process) {
	<-p.Ended()
	select {
	case <-p.stopping:
	default:
		ps.failed(fmt.Errorf("%s exited unexpectedly (%s): %s", p.name, p.Cmd.ProcessState, p.logTail()))
	}
}

// stop stops all processes in reverse order.
func (ps *processes) stop() error {
	var err error
	for i := len(ps.running) - 1; i >= 0; i-- {
		err = errors.Join(err, ps.running[i].stop())
	}
	return err
}

// stop stops the process and waits for it to end. Stopping twice is no error.
func (p *process) stop() error {
	select {
	case <-p.stopping:
		return nil
	default:
		close(p.stopping)
	}
	// If it has ended already, so much the better.
	_ = p.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.Ended():
		return nil
	case <-time.After(stopLimit):
	}
	_ = p.Cmd.Process.Kill()
	<-p.Ended()
	return fmt.Errorf("%s did not stop within %s and was killed: %s", p.name, stopLimit, p.logTail())
}

// logTail is the end of the process's log.
func (p *process) logTail() string {
	const limit = 2000
	file, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(0, size-limit), io.SeekStart)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}
