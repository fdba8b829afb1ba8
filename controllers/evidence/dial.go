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

// NewHTTPClient returns the client for scraping pods.
func NewHTTPClient() *http.Client { return newHTTPClient(scrapeTimeout) }

// NewPrometheusHTTPClient returns the client for querying Prometheus servers.
func NewPrometheusHTTPClient() *http.Client { return newHTTPClient(queryTimeout) }

// newHTTPClient returns a client that connects to the given address only: it uses no
// proxy from the environment, follows no redirects, and refuses loopback and
// link-local addresses, such as those of metadata services. It keeps no idle
// connections, because pods are short-lived and samples are infrequent.
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

// denyLocal checks the resolved address just before connecting.
func denyLocal(network, address string, conn syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Unmap().IsLoopback() {
		return errLoopback
	}
	return probe.DenyLinkLocal(network, address, conn)
}
