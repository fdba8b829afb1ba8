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
	"runtime"
	"strings"
	"syscall"
	"time"
)

// stopLimit is how long a process may take to end before it is killed.
const stopLimit = 20 * time.Second

// processes are what was started beside a cluster.
type processes struct {
	// dir holds a log for each.
	dir string
	// failed is told when one ends that was not stopped.
	failed  context.CancelCauseFunc
	running []*process
}

// process is a running program.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	// stopping is closed when it is asked to end, ended when it has.
	stopping, ended chan struct{}
}

// start runs a program with its output in a log. It ends with this program,
// however that ends.
func (ps *processes) start(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{
		name: name, cmd: cmd, log: filepath.Join(ps.dir, name+".log"),
		stopping: make(chan struct{}), ended: make(chan struct{}),
	}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, endWithParent()
	started := make(chan error)
	go ps.run(p, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	ps.running = append(ps.running, p)
	return p, nil
}

// run owns a process from its start to its end. It keeps its thread, because the
// kernel ends the process with the thread that started it.
func (ps *processes) run(p *process, started chan<- error) {
	runtime.LockOSThread()
	defer close(p.ended)
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = p.cmd.Wait() // its state says more
	select {
	case <-p.stopping:
	default:
		ps.failed(fmt.Errorf("%s ended by itself (%s): %s", p.name, p.cmd.ProcessState, p.lastWords()))
	}
}

// stop ends all processes, the last one first.
func (ps *processes) stop() error {
	var err error
	for i := len(ps.running) - 1; i >= 0; i-- {
		err = errors.Join(err, ps.running[i].stop())
	}
	return err
}

// stop ends the process and waits for its end. Stopping twice is no error.
func (p *process) stop() error {
	select {
	case <-p.stopping:
		return nil
	default:
		close(p.stopping)
	}
	// It may have ended by now; the wait tells.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopLimit):
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	return fmt.Errorf("%s did not end within %s and was killed: %s", p.name, stopLimit, p.lastWords())
}

// lastWords are the end of the process's log.
func (p *process) lastWords() string {
	const most = 2000
	file, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(0, size-most), io.SeekStart)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}
