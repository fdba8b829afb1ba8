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

// generator asks one server over many connections from a single thread.
type generator struct {
	epoll    int
	conns    map[int32]*connection
	requests [][]byte
	next     int
	answers  int
	latency  *hdrhistogram.Histogram
}

// connection has at most one request under way.
type connection struct {
	fd int
	// due is when the request under way should have been sent.
	due    time.Time
	buffer []byte
	filled int
}

// maxAnswer bounds the size of an answer, with its header.
const maxAnswer = 64 << 10

// stallTimeout is how long a server may be silent.
const stallTimeout = 5 * time.Second

func connect(address string, requests [][]byte, connections int) (*generator, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("reading the server's address: %w", err)
	}
	g := &generator{conns: map[int32]*connection{}, requests: requests}
	g.reset()
	if g.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making an epoll: %w", err)
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

// reset forgets what was counted.
func (g *generator) reset() {
	g.answers = 0
	g.latency = hdrhistogram.New(1, time.Minute.Nanoseconds(), 3)
}

// saturate keeps every connection busy for so long, and returns when the last
// answer is there.
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

// pace sends so many requests a second for so long. A request that finds no free
// connection is late, and its latency counts from when it was due.
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
		// The other core is the server's, so this one may be kept busy with waiting:
		// no timer is as precise.
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

// drain takes answers until none is under way.
func (g *generator) drain(underWay *int, done func(*connection) error) error {
	for *underWay > 0 {
		if err := g.poll(underWay, true, done); err != nil {
			return err
		}
	}
	return nil
}

// poll takes the answers that have arrived, or waits for the next.
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
		return fmt.Errorf("waiting for answers: %w", err)
	case n == 0 && wait:
		return fmt.Errorf("the server said nothing for %s", stallTimeout)
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

// read takes what has arrived and says whether the answer is complete.
func (c *connection) read() (complete bool, err error) {
	n, err := unix.Read(c.fd, c.buffer[c.filled:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading an answer: %w", err)
	case n == 0:
		return false, errors.New("the server closed a connection, or an answer is too large")
	}
	c.filled += n
	return isComplete(c.buffer[:c.filled])
}

// isComplete says whether an answer is there as a whole. Anything but a 200 with
// a length is an error.
func isComplete(answer []byte) (bool, error) {
	header, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !ok {
		return false, nil
	}
	if !bytes.HasPrefix(header, []byte("HTTP/1.1 200 ")) {
		return false, fmt.Errorf("a request was answered with %.200q", answer)
	}
	_, rest, ok := bytes.Cut(header, []byte("\r\nContent-Length: "))
	if !ok {
		return false, fmt.Errorf("an answer has no length: %.200q", answer)
	}
	text, _, _ := bytes.Cut(rest, []byte("\r\n"))
	length, err := strconv.Atoi(string(text))
	if err != nil {
		return false, fmt.Errorf("reading an answer's length: %w", err)
	}
	return len(body) >= length, nil
}
