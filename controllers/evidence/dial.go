// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/controllers/probe"
)

// NewHTTPClient returns the client that Pods are reached by.
func NewHTTPClient() *http.Client { return newHTTPClient(scrapeTimeout) }

// NewPrometheusHTTPClient returns the client that Prometheus servers are reached by.
func NewPrometheusHTTPClient() *http.Client { return newHTTPClient(queryTimeout) }

// newHTTPClient returns a client that goes where it is told to and nowhere else:
// no proxy of the environment, no redirect, no address of the operator's own
// machine or of what hands out credentials there. Connections are not kept: pods
// come and go, and looks are rare.
func newHTTPClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: timeout, Control: denyLocal}).DialContext,
			TLSHandshakeTimeout:    timeout,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

var errLoopback = errors.New("loopback is not allowed")

// denyLocal decides just before connecting, after the name was resolved.
func denyLocal(network, address string, conn syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Unmap().IsLoopback() {
		return errLoopback
	}
	return probe.DenyLinkLocal(network, address, conn)
}
