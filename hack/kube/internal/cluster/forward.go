// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/signal"
	"syscall"

	"github.com/flagcache/flagcache/hack/kube/internal/gateway"
)

// Forward is "kube forward --dir DIR HOST:PORT": it opens a port on the loopback
// address of this machine, prints it, and relays its connections to HOST:PORT in
// the cluster's network until it is stopped by a signal.
func Forward(args []string) error {
	dir, rest, err := parseDir("forward", args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return errors.New("usage: kube forward --dir DIR HOST:PORT")
	}
	if _, _, err := net.SplitHostPort(rest[0]); err != nil {
		return fmt.Errorf("reading the address to forward to: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("opening a port: %w", err)
	}
	fmt.Println(listener.Addr())
	return gateway.Relay(ctx, listener, func(ctx context.Context) (net.Conn, error) {
		return gateway.Dial(ctx, dir.gateway(), rest[0])
	})
}
