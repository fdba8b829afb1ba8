// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// Forward forwards a local port to an address in the cluster, host:port, until stop is
// called. It is for programs that cannot use Dial.
func (c *Cluster) Forward(address string) (local string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("forwarding to %s: %w", address, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // stopped
			}
			running.Go(func() { c.relay(ctx, conn, address) })
		}
	})
	return listener.Addr().String(), func() {
		cancel()
		_ = listener.Close()
		running.Wait()
	}, nil
}

// relay copies data between a local connection and one into the cluster until either is
// closed or ctx ends.
func (c *Cluster) relay(ctx context.Context, near net.Conn, address string) {
	defer func() { _ = near.Close() }()
	far, err := c.Dial(ctx, "tcp", address)
	if err != nil {
		return // the client sees its connection closed
	}
	defer func() { _ = far.Close() }()
	defer context.AfterFunc(ctx, func() { _ = near.Close(); _ = far.Close() })()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
}
