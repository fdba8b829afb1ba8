// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
)

// maxQueuedLines is the maximum number of lines that wait to be written.
const maxQueuedLines = 1000

// Logs forwards lines to a writer that may block, such as a pipe that is not
// read, without blocking itself: if too many lines wait, further ones are
// dropped and counted.
type Logs struct {
	to    io.Writer
	lines chan []byte
	// stop requests the end of run, stopped is closed after it.
	stop, stopped chan struct{}
	dropped       atomic.Uint64
}

// NewLogs returns Logs that write to to until they are closed.
func NewLogs(to io.Writer) *Logs {
	l := &Logs{to: to, lines: make(chan []byte, maxQueuedLines), stop: make(chan struct{}), stopped: make(chan struct{})}
	go l.run()
	return l
}

func (l *Logs) run() {
	defer close(l.stopped)
	for {
		select {
		case line := <-l.lines:
			l.write(line)
		case <-l.stop:
			for len(l.lines) > 0 {
				l.write(<-l.lines)
			}
			return
		}
	}
}

// write writes a line. A failure cannot be reported anywhere.
func (l *Logs) write(line []byte) { _, _ = l.to.Write(line) }

// Register registers the metric of dropped lines.
func (l *Logs) Register(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: config.MetricLogDropped,
		Help: "Log lines that were dropped because the log was not read fast enough.",
	}, func() float64 { return float64(l.dropped.Load()) }))
}

// Write queues a line. It never blocks or fails.
func (l *Logs) Write(line []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(line):
	default:
		l.dropped.Add(1)
	}
	return len(line), nil
}

// Close waits until all lines are written, at most for timeout. Later lines are
// lost.
func (l *Logs) Close(timeout time.Duration) {
	close(l.stop)
	select {
	case <-l.stopped:
	case <-time.After(timeout):
	}
}
