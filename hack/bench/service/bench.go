// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/flagcache/flagcache/hack/bench/page"
	"github.com/flagcache/flagcache/test/machine"
)

// sample is one measurement of a server.
type sample struct {
	// PerCPUSecond is requests per second of the server's CPU time, PerSecond per second.
	PerCPUSecond, PerSecond float64
	// Allocations is the number of allocated objects per request.
	Allocations float64
}

// figures are the measurements of a server in one case.
type figures struct {
	Samples []sample
	// P99s are the latencies at half of the maximum throughput.
	P99s []time.Duration
}

// result are the measurements of a case.
type result struct {
	Case          benchCase
	Bare, Service figures
}

// bench measures all cases and writes the report.
func bench(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "bench-service-")
	if err != nil {
		return fmt.Errorf("creating a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	where, err := chooseCores()
	if err != nil {
		return err
	}
	r := report{Started: time.Now(), Options: o}
	if r.Machine, err = machine.This(); err != nil {
		return err
	}
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return fmt.Errorf("reading the load average: %w", err)
	}
	r.Load, _, _ = strings.Cut(string(average), " ")
	if err := pinThisProcess(where.generator); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	service, err := startService(ctx, o, where, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.stop()) }()
	for _, c := range cases {
		measured, err := o.measureCase(ctx, where, dir, c, service)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", c.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.2f of the bare handler\n", c.name, measured.ratio())
		r.Results = append(r.Results, measured)
	}
	text := r.render()
	fmt.Print("\n", text)
	if o.output == "" {
		return nil
	}
	return page.Write(o.output, text)
}

func startService(ctx context.Context, o options, where cores, dir string) (*server, error) {
	document, err := flagsDocument()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "flags.json")
	if err := os.WriteFile(file, document, 0o600); err != nil {
		return nil, fmt.Errorf("writing the flags: %w", err)
	}
	return start(ctx, where.server, []string{"FLAGS_FILE=" + file, "LISTEN_ADDRESS=127.0.0.1:0", "TELEMETRY_ADDRESS=127.0.0.1:0"}, o.program)
}

// measureCase measures the bare handler and the flag service alternately.
func (o options) measureCase(ctx context.Context, where cores, dir string, c benchCase, service *server) (r result, err error) {
	r.Case = c
	bare, err := startBare(ctx, where, dir, c, service)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	subjects := []struct {
		*server
		*figures
	}{{bare, &r.Bare}, {service, &r.Service}}
	for range o.rounds {
		for _, subject := range subjects {
			measured, err := o.measure(ctx, subject.server, c)
			if err != nil {
				return r, err
			}
			subject.Samples = append(subject.Samples, measured)
		}
	}
	for range o.rounds {
		for _, subject := range subjects {
			p99, err := o.measureLatency(subject.server, c, subject.perSecond())
			if err != nil {
				return r, err
			}
			subject.P99s = append(subject.P99s, p99)
		}
	}
	return r, nil
}

// startBare starts a bare handler with the same response as the flag service.
func startBare(ctx context.Context, where cores, dir string, c benchCase, service *server) (*server, error) {
	answer, err := awaitAnswer(ctx, "http://"+service.ofrep+c.path, requestBody(0))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "answer.json")
	if err := os.WriteFile(file, answer, 0o600); err != nil {
		return nil, fmt.Errorf("writing the response file: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	return start(ctx, where.server, nil, self, bareCommand, file)
}

// measure takes one sample of a saturated server.
func (o options) measure(ctx context.Context, s *server, c benchCase) (m sample, err error) {
	g, err := connect(s.ofrep, c.requests(s.ofrep), o.connections)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.saturate(o.window / 8); err != nil {
		return m, err
	}
	g.reset()
	allocatedBefore, err := s.allocations(ctx)
	if err != nil {
		return m, err
	}
	cpuBefore, err := s.cpu()
	if err != nil {
		return m, err
	}
	began := time.Now()
	if err := g.saturate(o.window); err != nil {
		return m, err
	}
	elapsed := time.Since(began)
	cpuAfter, err := s.cpu()
	if err != nil {
		return m, err
	}
	allocatedAfter, err := s.allocations(ctx)
	answers := float64(g.answers)
	return sample{
		PerCPUSecond: answers / (cpuAfter - cpuBefore).Seconds(),
		PerSecond:    answers / elapsed.Seconds(),
		Allocations:  (allocatedAfter - allocatedBefore) / answers,
	}, err
}

// measureLatency returns the P99 of a server at half of its maximum throughput.
func (o options) measureLatency(s *server, c benchCase, saturation float64) (p99 time.Duration, err error) {
	g, err := connect(s.ofrep, c.requests(s.ofrep), o.connections)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.pace(saturation/2, o.window/8); err != nil {
		return 0, err
	}
	g.reset()
	if err := g.pace(saturation/2, o.window); err != nil {
		return 0, err
	}
	return time.Duration(g.latency.ValueAtQuantile(99)), nil
}
