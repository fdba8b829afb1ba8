// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// streams are the standard streams of a container's program: the ends for the program
// and the ends for the runtime.
type streams struct {
	stdin, stdout, stderr *os.File
	input                 *os.File
	outputs               []*os.File
	copies                sync.WaitGroup
}

// openStreams connects the streams of a program to its log.
func (c *container) openStreams() (*streams, error) {
	s := &streams{}
	stdout, outEnd, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("creating a pipe: %w", err)
	}
	s.stdout, s.outputs = outEnd, append(s.outputs, stdout)
	stderr, errEnd, err := os.Pipe()
	if err != nil {
		s.close()
		return nil, fmt.Errorf("creating a pipe: %w", err)
	}
	s.stderr, s.outputs = errEnd, append(s.outputs, stderr)
	if c.config.GetStdin() {
		s.stdin, s.input, err = os.Pipe()
	} else {
		s.stdin, err = os.Open(os.DevNull)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("creating the standard input: %w", err)
	}
	s.copies.Go(func() { c.log.copy(stdout, "stdout") })
	s.copies.Go(func() { c.log.copy(stderr, "stderr") })
	return s, nil
}

func (s *streams) close() {
	s.closeChildEnds()
	s.closeOwnEnds()
}

// closeChildEnds closes the ends for the program.
func (s *streams) closeChildEnds() {
	for _, file := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if file != nil {
			file.Close()
		}
	}
}

func (s *streams) closeOwnEnds() {
	for _, file := range append(s.outputs, s.input) {
		if file != nil {
			file.Close()
		}
	}
}

// wait returns when all output is in the log.
func (s *streams) wait() {
	s.copies.Wait()
	s.closeOwnEnds()
}

// copy writes the output of a program to the log and to attached clients.
func (l *logFile) copy(from io.Reader, stream string) {
	// Lines longer than this are written in parts, as other runtimes do.
	reader := bufio.NewReaderSize(from, 16<<10)
	for {
		line, err := reader.ReadSlice('\n')
		if len(line) > 0 {
			l.write(stream, line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}
