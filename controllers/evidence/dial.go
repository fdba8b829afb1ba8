// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"net"
	"net/http"
	"time"

	"github.com/flagcache/flagcache/controllers/probe"
)

// NewHTTPClient returns the client for scraping pods.
func NewHTTPClient() *http.Client { return newHTTPClient(scrapeTimeout) }

// NewPrometheusHTTPClient returns the client for querying Prometheus servers.
func NewPrometheusHTTPClient() *http.Client { return newHTTPClient(queryTimeout) }

// newHTTPClient returns a client that connects to the given address only: it uses no
// proxy from the environment, follows no redirects, and refuses the
// addresses that probe.DenyLocal does. It keeps no idle
// connections, because pods are short-lived and samples are infrequent.
func newHTTPClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: timeout, Control: probe.DenyLocal}).DialContext,
			TLSHandshakeTimeout:    timeout,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
