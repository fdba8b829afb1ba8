// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// generator sends requests to one server over many connections from a single thread.
type generator struct {
	epoll    int
	conns    map[int32]*connection
	requests [][]byte
	next     int
	answers  int
	latency  *hdrhistogram.Histogram
}

// connection has at most one request in flight.
type connection struct {
	fd int
	// due is when the request in flight should have been sent.
	due    time.Time
	buffer []byte
	filled int
}

// maxAnswer bounds the size of a response including its header.
const maxAnswer = 64 << 10

// stallTimeout is how long a server may take to respond.
const stallTimeout = 5 * time.Second

func connect(address string, requests [][]byte, connections int) (*generator, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("reading the server's address: %w", err)
	}
	g := &generator{conns: map[int32]*connection{}, requests: requests}
	g.reset()
	if g.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("creating an epoll instance: %w", err)
	}
	for range connections {
		if err := g.open(to); err != nil {
			return nil, errors.Join(fmt.Errorf("connecting to %s: %w", address, err), g.close())
		}
	}
	return g, nil
}

func (g *generator) open(to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	g.conns[int32(fd)] = &connection{fd: fd, buffer: make([]byte, maxAnswer)}
	return errors.Join(
		unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}),
		unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}),
	)
}

func (g *generator) close() error {
	errs := []error{unix.Close(g.epoll)}
	for _, c := range g.conns {
		errs = append(errs, unix.Close(c.fd))
	}
	return errors.Join(errs...)
}

// reset resets the counters.
func (g *generator) reset() {
	g.answers = 0
	g.latency = hdrhistogram.New(1, time.Minute.Nanoseconds(), 3)
}

// saturate keeps every connection busy for a time and returns after the last response.
func (g *generator) saturate(length time.Duration) error {
	end := time.Now().Add(length)
	for _, c := range g.conns {
		if err := g.send(c, time.Now()); err != nil {
			return err
		}
	}
	underWay := len(g.conns)
	return g.drain(&underWay, func(c *connection) error {
		now := time.Now()
		if !now.Before(end) {
			return nil
		}
		underWay++
		return g.send(c, now)
	})
}

// pace sends requests at a rate per second for a time. A request that finds no free
// connection is sent late, but its latency counts from when it was due.
func (g *generator) pace(rate float64, length time.Duration) error {
	interval := time.Duration(float64(time.Second) / rate)
	due := time.Now()
	end := due.Add(length)
	free := make([]*connection, 0, len(g.conns))
	for _, c := range g.conns {
		free = append(free, c)
	}
	underWay := 0
	for due.Before(end) {
		// The server has a core of its own, so busy waiting is fine: no timer is as
		// precise.
		for now := time.Now(); due.Before(end) && len(free) > 0 && !now.Before(due); due = due.Add(interval) {
			c := free[len(free)-1]
			free = free[:len(free)-1]
			if err := g.send(c, due); err != nil {
				return err
			}
			underWay++
		}
		if err := g.poll(&underWay, false, func(c *connection) error { free = append(free, c); return nil }); err != nil {
			return err
		}
	}
	return g.drain(&underWay, func(*connection) error { return nil })
}

// drain reads responses until no request is in flight.
func (g *generator) drain(underWay *int, done func(*connection) error) error {
	for *underWay > 0 {
		if err := g.poll(underWay, true, done); err != nil {
			return err
		}
	}
	return nil
}

// poll reads the responses that have arrived, or waits for the next.
func (g *generator) poll(underWay *int, wait bool, done func(*connection) error) error {
	var events [64]unix.EpollEvent
	timeout := 0
	if wait {
		timeout = int(stallTimeout.Milliseconds())
	}
	n, err := unix.EpollWait(g.epoll, events[:], timeout)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("waiting for responses: %w", err)
	case n == 0 && wait:
		return fmt.Errorf("the server did not respond for %s", stallTimeout)
	}
	for _, event := range events[:n] {
		c := g.conns[event.Fd]
		complete, err := c.read()
		if err != nil {
			return err
		}
		if !complete {
			continue
		}
		*underWay--
		g.answers++
		if err := g.latency.RecordValue(time.Since(c.due).Nanoseconds()); err != nil {
			return fmt.Errorf("recording a latency: %w", err)
		}
		if err := done(c); err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) send(c *connection, due time.Time) error {
	request := g.requests[g.next]
	g.next = (g.next + 1) % len(g.requests)
	c.due, c.filled = due, 0
	if n, err := unix.Write(c.fd, request); err != nil || n < len(request) {
		return fmt.Errorf("sending a request: %d of %d bytes: %w", n, len(request), err)
	}
	return nil
}

// read reads available data and reports whether the response is complete.
func (c *connection) read() (complete bool, err error) {
	n, err := unix.Read(c.fd, c.buffer[c.filled:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading a response: %w", err)
	case n == 0:
		return false, errors.New("the server closed a connection, or a response is too large")
	}
	c.filled += n
	return isComplete(c.buffer[:c.filled])
}

// isComplete reports whether a response is complete. Any other response than a 200 with a
// Content-Length is an error.
func isComplete(answer []byte) (bool, error) {
	header, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !ok {
		return false, nil
	}
	if !bytes.HasPrefix(header, []byte("HTTP/1.1 200 ")) {
		return false, fmt.Errorf("unexpected response %.200q", answer)
	}
	_, rest, ok := bytes.Cut(header, []byte("\r\nContent-Length: "))
	if !ok {
		return false, fmt.Errorf("response without Content-Length: %.200q", answer)
	}
	text, _, _ := bytes.Cut(rest, []byte("\r\n"))
	length, err := strconv.Atoi(string(text))
	if err != nil {
		return false, fmt.Errorf("parsing Content-Length: %w", err)
	}
	return len(body) >= length, nil
}
