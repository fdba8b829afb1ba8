// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Dial connects to an address in the cluster: a DNS name of the cluster or an IP.
func (c *Cluster) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("dialing %s: the gateway supports TCP, not %s", address, network)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(c.Dir, "net.sock"))
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster's network: %w", err)
	}
	tunnel, err := connectTunnel(ctx, conn, qualify(address))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connecting to %s in the cluster: %w", address, err), conn.Close())
	}
	return tunnel, nil
}

// qualify appends the cluster domain to a short Service name such as
// demo.default.svc:80, as the DNS search list of a pod does.
func qualify(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !strings.HasSuffix(host, ".svc") {
		return address
	}
	return net.JoinHostPort(host+".cluster.local", port)
}

// connectTunnel asks the gateway to connect to an address.
func connectTunnel(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	// The context only bounds the time until the connection is established.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := http.Request{Method: http.MethodConnect, Host: address, URL: &url.URL{Opaque: address}}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, &request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return bufferedConn{conn, reader}, nil
}

// bufferedConn is a connection with data that was already read from it.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (b bufferedConn) Read(p []byte) (int, error) { return b.reader.Read(p) }

// HTTPClient returns an HTTP client for hosts in the cluster. With keepAlive it reuses
// connections, as most applications do; without, every request is balanced separately.
func (c *Cluster) HTTPClient(keepAlive bool) *http.Client {
	return &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DialContext:       c.Dial,
			DisableKeepAlives: !keepAlive,
			IdleConnTimeout:   30 * time.Second,
		},
	}
}
