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

// waitingLines is how many lines may wait to be written.
const waitingLines = 1000

// Logs passes lines on to a writer that may block, such as a pipe that nobody
// reads, without ever blocking itself: lines that find too many waiting are
// dropped and counted.
type Logs struct {
	to    io.Writer
	lines chan []byte
	// end asks for the end, ended says that it has come.
	end, ended chan struct{}
	dropped    atomic.Uint64
}

// NewLogs returns Logs that write to to until Close.
func NewLogs(to io.Writer) *Logs {
	l := &Logs{to: to, lines: make(chan []byte, waitingLines), end: make(chan struct{}), ended: make(chan struct{})}
	go l.run()
	return l
}

func (l *Logs) run() {
	defer close(l.ended)
	for {
		select {
		case line := <-l.lines:
			l.write(line)
		case <-l.end:
			for len(l.lines) > 0 {
				l.write(<-l.lines)
			}
			return
		}
	}
}

// write writes a line. Of a failure nobody can be told.
func (l *Logs) write(line []byte) { _, _ = l.to.Write(line) }

// Register registers the number of lines that were dropped.
func (l *Logs) Register(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: config.MetricLogDropped,
		Help: "Lines of the log that were dropped because nobody took them.",
	}, func() float64 { return float64(l.dropped.Load()) }))
}

// Write takes a line. It never fails.
func (l *Logs) Write(line []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(line):
	default:
		l.dropped.Add(1)
	}
	return len(line), nil
}

// Close waits until all lines are written, but not longer than patience. Lines
// that come after it are lost.
func (l *Logs) Close(patience time.Duration) {
	close(l.end)
	select {
	case <-l.ended:
	case <-time.After(patience):
	}
}
