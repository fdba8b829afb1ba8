// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/flagcache/flagcache/hack/kube/internal/gateway"
)

// dialTimeout bounds how long an endpoint may take to accept a connection before
// the next one is tried.
const dialTimeout = 5 * time.Second

// Proxy forwards connections for Services to their endpoints, round-robin. It supports
// TCP only.
type Proxy struct {
	table   *Table
	changed chan struct{}
	ports   map[string]*port // by the address of the Service
}

// port is a listening port of a Service.
type port struct {
	close func()

	mu        sync.Mutex
	endpoints []string
	next      int
}

// NewProxy returns a proxy for the Services of the table.
func NewProxy(table *Table) *Proxy {
	p := &Proxy{table: table, changed: make(chan struct{}, 1), ports: map[string]*port{}}
	table.watch(func() {
		select {
		case p.changed <- struct{}{}:
		default: // an update is pending already
		}
	})
	return p
}

// Run serves until the context ends.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.closeAll()
	for {
		if err := p.update(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.changed:
		}
	}
}

// update opens and closes ports to match the table.
func (p *Proxy) update(ctx context.Context) error {
	routes, err := p.table.routes()
	if err != nil {
		return err
	}
	for address, listening := range p.ports {
		if _, wanted := routes[address]; !wanted {
			listening.close()
			delete(p.ports, address)
		}
	}
	for address, endpoints := range routes {
		if listening, ok := p.ports[address]; ok {
			listening.setEndpoints(endpoints)
			continue
		}
		listening, err := open(ctx, address, endpoints)
		if err != nil {
			// One Service that cannot be served must not stop the others.
			klog.ErrorS(err, "Opening a Service's port")
			continue
		}
		p.ports[address] = listening
	}
	return nil
}

func (p *Proxy) closeAll() {
	for _, listening := range p.ports {
		listening.close()
	}
}

// open listens on the address of a Service's port.
func open(ctx context.Context, address string, endpoints []string) (*port, error) {
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("listening for a Service: %w", err)
	}
	listening := &port{endpoints: endpoints, close: func() { listener.Close() }}
	go listening.serve(ctx, listener)
	return listening, nil
}

// serve accepts connections until the listener is closed. Connections stay open: a
// Service that loses its endpoints does not disconnect its clients.
func (p *port) serve(ctx context.Context, listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			server, err := p.dial(ctx)
			if err != nil {
				gateway.Reset(client)
				return
			}
			gateway.Join(ctx, client, server)
		}()
	}
}

// dial connects to the next endpoint that accepts the connection.
func (p *port) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	var failure error
	for _, endpoint := range p.turn() {
		connection, err := dialer.DialContext(ctx, "tcp4", endpoint)
		if err == nil {
			return connection, nil
		}
		failure = err
	}
	return nil, fmt.Errorf("no endpoint accepts: %w", failure)
}

// turn returns all endpoints, beginning with the next one.
func (p *port) turn() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.next % len(p.endpoints)
	p.next = first + 1
	return slices.Concat(p.endpoints[first:], p.endpoints[:first])
}

func (p *port) setEndpoints(endpoints []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoints = endpoints
}
