// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/test/child"
	"github.com/flagcache/flagcache/test/machine"
)

// startLimit bounds the time until a server has started.
const startLimit = 10 * time.Second

// startLine is the log line with which a server reports its addresses.
type startLine struct {
	Message   string `json:"msg"`
	OFREP     string `json:"ofrep"`
	Telemetry string `json:"telemetry"`
}

const startMessage = "starting"

// server is a server process to measure.
type server struct {
	command   *exec.Cmd
	ofrep     string
	telemetry string
	drained   chan struct{}
}

// start starts a program on a core and waits until it reports its addresses.
func start(ctx context.Context, cpu int, environ []string, program string, args ...string) (*server, error) {
	s := &server{command: exec.Command(program, args...), drained: make(chan struct{})}
	s.command.Env = append(os.Environ(), environ...)
	s.command.Stderr = os.Stderr
	s.command.SysProcAttr = child.Attributes(syscall.SIGKILL)
	output, err := s.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("connecting to the output of %s: %w", program, err)
	}
	if err := startPinned(s.command, cpu); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	lines := make(chan startLine, 1)
	go s.read(output, lines)
	select {
	case line := <-lines:
		s.ofrep, s.telemetry = line.OFREP, line.Telemetry
		return s, nil
	case <-s.drained:
		err = errors.New("it exited")
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startLimit):
		err = errors.New("it did not report its addresses")
	}
	return nil, errors.Join(fmt.Errorf("starting %s: %w", program, err), s.stop())
}

// read finds the start line and then drains the pipe.
func (s *server) read(output io.Reader, started chan<- startLine) {
	defer close(s.drained)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		var line startLine
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == startMessage {
			started <- line
			break
		}
	}
	_, _ = io.Copy(io.Discard, output)
}

func (s *server) stop() error {
	if err := s.command.Process.Kill(); err != nil {
		return fmt.Errorf("stopping a server: %w", err)
	}
	<-s.drained
	// Wait reports the signal as an error.
	_ = s.command.Wait()
	return nil
}

func (s *server) cpu() (time.Duration, error) {
	used, err := machine.UsageOf(s.command.Process.Pid)
	return used.CPU, err
}

// allocations returns the number of objects that the server has allocated.
func (s *server) allocations(ctx context.Context) (float64, error) {
	body, err := exchange(ctx, http.MethodGet, "http://"+s.telemetry+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, allocationsMetric+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("the server has no metric %s", allocationsMetric)
}

// exchange sends a request and returns the body of the response, which must be a 200.
func exchange(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("requesting %s: %w", url, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("requesting %s: %w", url, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the response of %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s responded %s: %s", url, response.Status, answer)
	}
	return answer, nil
}

// awaitAnswer repeats a request until the response is a 200 and returns its body.
func awaitAnswer(ctx context.Context, url string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		answer, err := exchange(ctx, http.MethodPost, url, body)
		if err == nil {
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
