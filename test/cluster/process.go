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
	"strings"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/test/child"
)

const (
	// readyMessage is part of the line that `kube up` prints when the cluster is ready.
	readyMessage = "the cluster works"
	// stopLimit is how long a cluster may take to stop before it is killed.
	stopLimit = 30 * time.Second
)

// process is `kube up` in the foreground.
type process struct {
	cmd      *exec.Cmd
	progress func(line string)
	stderr   bytes.Buffer

	// ready is closed when the cluster is ready, ended when the process has ended; err
	// is the reason, set before.
	ready chan struct{}
	ended chan struct{}
	err   error
}

func newProcess(progress func(string), program string, args ...string) *process {
	p := &process{cmd: exec.Command(program, args...), progress: progress, ready: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	return p
}

// start returns when the cluster is ready or has failed to start.
func (p *process) start(ctx context.Context) error {
	stdout, writer := io.Pipe()
	p.cmd.Stdout = writer
	running, err := child.Start(p.cmd, syscall.SIGTERM)
	if err != nil {
		p.err = fmt.Errorf("starting the cluster: %w", err)
		close(p.ended)
		return p.err
	}
	go p.readOutput(stdout)
	go p.wait(running, writer)
	select {
	case <-p.ready:
		return nil
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("starting the cluster: %w", context.Cause(ctx))
	}
}

// wait records how the process ended.
func (p *process) wait(running *child.Process, stdout io.Closer) {
	defer close(p.ended)
	<-running.Ended()
	_ = stdout.Close()
	p.err = errors.New("the cluster ended")
	if err := running.Err(); err != nil {
		p.err = fmt.Errorf("the cluster ended: %w", err)
	}
	if text := strings.TrimSpace(p.stderr.String()); text != "" {
		p.err = fmt.Errorf("%w: %s", p.err, lastLines(text, 10))
	}
}

// partLine is the line that `kube up` prints when a component is ready.
var partLine = regexp.MustCompile(`^msg=ready part=("[^"]*"|\S+) after=(\S+)$`)

// readOutput reads the process's output until it ends.
func (p *process) readOutput(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		line := lines.Text()
		switch part := partLine.FindStringSubmatch(line); {
		case strings.Contains(line, readyMessage):
			close(p.ready)
		case p.progress == nil:
		case part != nil:
			p.progress(strings.Trim(part[1], `"`) + " ready after " + part[2])
		default:
			p.progress(line)
		}
	}
}

// stop stops the process and waits for it to end.
func (p *process) stop() error {
	if p.cmd.Process == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		<-p.ended // it has ended already
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
	return fmt.Errorf("the cluster did not stop within %s and was killed", stopLimit)
}
