// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// worksLine is in the line by which kube up tells that the cluster works.
	worksLine = "the cluster works"
	// stopLimit is how long a cluster may take to end before it is killed.
	stopLimit = 30 * time.Second
)

// process is kube up in the foreground.
type process struct {
	cmd      *exec.Cmd
	progress func(line string)
	stderr   bytes.Buffer

	// started gets the outcome of starting, works is closed when the cluster does,
	// ended when the process has; err then says how.
	started chan error
	works   chan struct{}
	ended   chan struct{}
	err     error
}

func newProcess(progress func(string), program string, args ...string) *process {
	p := &process{
		cmd: exec.Command(program, args...), progress: progress,
		started: make(chan error, 1), works: make(chan struct{}), ended: make(chan struct{}),
	}
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = endWithParent()
	return p
}

// start returns when the cluster works, or does not.
func (p *process) start(ctx context.Context) error {
	go p.run()
	if err := <-p.started; err != nil {
		return err
	}
	select {
	case <-p.works:
		return nil
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("starting the cluster: %w", context.Cause(ctx))
	}
}

// run owns the process from its start to its end. It keeps its thread, because
// the kernel ends the process with the thread that started it.
func (p *process) run() {
	runtime.LockOSThread()
	defer close(p.ended)
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.err = fmt.Errorf("starting the cluster: %w", err)
		p.started <- p.err
		return
	}
	p.started <- nil
	p.follow(stdout)
	p.err = errors.New("the cluster ended")
	if err := p.cmd.Wait(); err != nil {
		p.err = fmt.Errorf("the cluster ended: %w", err)
	}
	if text := strings.TrimSpace(p.stderr.String()); text != "" {
		p.err = fmt.Errorf("%w: %s", p.err, lastLines(text, 10))
	}
}

// readyLine is how kube up tells that a part is ready.
var readyLine = regexp.MustCompile(`^msg=ready part=("[^"]*"|\S+) after=(\S+)$`)

// follow reads what the process tells until its end.
func (p *process) follow(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		line := lines.Text()
		switch part := readyLine.FindStringSubmatch(line); {
		case strings.Contains(line, worksLine):
			close(p.works)
		case p.progress == nil:
		case part != nil:
			p.progress(strings.Trim(part[1], `"`) + " after " + part[2])
		default:
			p.progress(line)
		}
	}
}

// stop ends the process and waits for its end.
func (p *process) stop() error {
	if p.cmd.Process == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		<-p.ended // it had ended already
		return nil
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopLimit):
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("killing the cluster: %w", err)
	}
	<-p.ended
	return fmt.Errorf("the cluster did not end within %s and was killed", stopLimit)
}
