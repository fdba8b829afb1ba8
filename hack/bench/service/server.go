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

	"github.com/flagcache/flagcache/hack/bench/machine"
	"github.com/flagcache/flagcache/test/child"
)

// startLimit is how long a server may take to serve.
const startLimit = 10 * time.Second

// startLine is the line by which a server tells where it listens.
type startLine struct {
	Message   string `json:"msg"`
	OFREP     string `json:"ofrep"`
	Telemetry string `json:"telemetry"`
}

const startMessage = "starting"

// server is a process that is measured.
type server struct {
	command   *exec.Cmd
	ofrep     string
	telemetry string
	drained   chan struct{}
}

// start runs a program on the core and waits until it tells its addresses.
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
	told := make(chan startLine, 1)
	go s.read(output, told)
	select {
	case line := <-told:
		s.ofrep, s.telemetry = line.OFREP, line.Telemetry
		return s, nil
	case <-s.drained:
		err = errors.New("it ended")
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startLimit):
		err = errors.New("it did not say where it listens")
	}
	return nil, errors.Join(fmt.Errorf("starting %s: %w", program, err), s.stop())
}

// read finds the starting line, and then keeps the pipe empty.
func (s *server) read(output io.Reader, told chan<- startLine) {
	defer close(s.drained)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		var line startLine
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == startMessage {
			told <- line
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
	// It ends by the signal, which Wait reports as an error.
	_ = s.command.Wait()
	return nil
}

func (s *server) cpu() (time.Duration, error) {
	used, err := machine.UsageOf(s.command.Process.Pid)
	return used.CPU, err
}

// allocations is how many objects the server has allocated since its start.
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

// exchange asks a server something and returns its answer, which must be a 200.
func exchange(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", url, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", url, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %s", url, response.Status, answer)
	}
	return answer, nil
}

// awaitAnswer returns the first answer that is a 200.
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
