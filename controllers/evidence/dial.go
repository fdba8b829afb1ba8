// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"net/http"
	"time"

	"github.com/flagcache/flagcache/controllers/dial"
)

// NewHTTPClient returns the client for scraping pods.
func NewHTTPClient(rules *dial.Rules) *http.Client { return newHTTPClient(scrapeTimeout, rules) }

// NewPrometheusHTTPClient returns the client for querying Prometheus servers.
func NewPrometheusHTTPClient(rules *dial.Rules) *http.Client {
	return newHTTPClient(queryTimeout, rules)
}

// newHTTPClient returns a client that connects to the given address only: it uses no
// proxy from the environment, follows no redirects, and refuses the
// addresses that the rules do. It keeps no idle connections, because pods are short-lived and samples are infrequent.
func newHTTPClient(timeout time.Duration, rules *dial.Rules) *http.Client {
	dialer := rules.Dialer(nil)
	dialer.Timeout = timeout
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    timeout,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
