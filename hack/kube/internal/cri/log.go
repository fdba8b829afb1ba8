// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// logFile is the log of a container in the format that the kubelet reads: time,
// stream, F for a full line or P for a part of one, and the text.
type logFile struct {
	path string

	mu       sync.Mutex
	file     *os.File
	attached map[*attachment]bool
}

// attachment is a client that receives the output as it is written.
type attachment struct {
	stdout, stderr io.Writer
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path, attached: map[*attachment]bool{}}
	return l, l.reopen()
}

// reopen closes the file and opens the one that is now at the path.
func (l *logFile) reopen() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("opening the container's log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	return nil
}

// write adds a line or, if the text does not end with a newline, a part of one. Failures
// are ignored, because they must not stop the program.
func (l *logFile) write(stream string, line []byte) {
	tag := "F"
	text, full := bytes.CutSuffix(line, []byte("\n"))
	if !full {
		tag = "P"
	}
	entry := fmt.Appendf(nil, "%s %s %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), stream, tag, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_, _ = l.file.Write(entry)
	}
	for client := range l.attached {
		client.write(stream, line)
	}
}

func (a *attachment) write(stream string, line []byte) {
	to := a.stdout
	if stream == "stderr" {
		to = a.stderr
	}
	if to != nil {
		_, _ = to.Write(line) // a disconnected client detaches itself
	}
}

// attach sends all output to a client until detach is called.
func (l *logFile) attach(a *attachment) (detach func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attached[a] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.attached, a)
	}
}

// Close closes the file; later output is dropped.
func (l *logFile) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
