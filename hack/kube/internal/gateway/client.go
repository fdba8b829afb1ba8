// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Dial connects to address (host:port, where host is a name of the cluster's DNS
// or an address in the cluster) through the gateway at the socket path.
func Dial(ctx context.Context, socket, address string) (net.Conn, error) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster's gateway: %w", err)
	}
	// The context only bounds the time until the connection is established.
	stop := context.AfterFunc(ctx, func() { connection.SetDeadline(time.Unix(1, 0)) })
	joined, err := open(connection, address)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		connection.Close()
		return nil, err
	}
	return joined, nil
}

// open requests a connection to an address from the gateway.
func open(connection net.Conn, address string) (net.Conn, error) {
	request := http.Request{Method: http.MethodConnect, Host: address, URL: &url.URL{Opaque: address}}
	if err := request.Write(connection); err != nil {
		return nil, fmt.Errorf("requesting %s from the gateway: %w", address, err)
	}
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, &request)
	if err != nil {
		return nil, fmt.Errorf("requesting %s from the gateway: %w", address, err)
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return nil, fmt.Errorf("the gateway cannot reach %s: %s", address, text)
	}
	return &prefetched{connection, reader}, nil
}
