// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/logtest"
	"github.com/flagcache/flagcache/service/ofrep"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	base     = "/ofrep/v1/evaluate/flags"
	document = `{"flags": {
	  "static":   {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
	  "by key":   {"state": "ENABLED", "variants": {"a": "A", "b": "B"}, "defaultVariant": "a",
	               "targeting": {"fractional": [["a", 50], ["b", 50]]}},
	  "with/slash and %": {"state": "ENABLED", "variants": {"on": "x"}, "defaultVariant": "on"}
	}}`
	stableRevision    = "5d1a"
	candidateRevision = "8f2c"
)

// newHandler returns a real flag service of a revision.
func newHandler(t testing.TB, revision string) *ofrep.Handler {
	t.Helper()
	return newHandlerWith(t, ofrep.Options{Revision: revision})
}

func newHandlerWith(t testing.TB, options ofrep.Options) *ofrep.Handler {
	t.Helper()
	return ofrep.NewHandler(newCore(t, document), options)
}

func newCore(t testing.TB, document string) *ofrep.Core {
	t.Helper()
	set, _, err := flags.Parse([]byte(document))
	if err != nil {
		t.Fatalf("parsing the flags: %v", err)
	}
	core := ofrep.NewCore(ofrep.NewMetrics(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)), time.Now)
	core.Serve(set)
	return core
}

// serve starts a server that is closed with the test.
func serve(t testing.TB, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// stable is a stable pod: a Splitter with a file, in front of a real flag
// service.
type stable struct {
	t        testing.TB
	splitter *Splitter
	registry *prometheus.Registry
	server   *httptest.Server
	// reference has the same flags without a Splitter.
	reference *httptest.Server
	client    *http.Client
	dir       string
	log       *logtest.Buffer
}

func newStable(t testing.TB) *stable {
	t.Helper()
	s := &stable{t: t, registry: prometheus.NewRegistry(), dir: t.TempDir(), log: &logtest.Buffer{}}
	s.splitter = New(Options{
		File:     filepath.Join(s.dir, "split.json"),
		Salt:     "shop/checkout",
		Revision: stableRevision,
		Served:   newCore(t, document).Served,
		Log:      slog.New(slog.NewJSONHandler(s.log, nil)),
	}, s.registry)
	handler := newHandler(t, stableRevision)
	handler.Divert = s.splitter.Divert
	s.server = serve(t, handler)
	s.reference = serve(t, newHandler(t, stableRevision))
	s.client = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 128}}
	t.Cleanup(s.client.CloseIdleConnections)
	t.Cleanup(s.splitter.transport.CloseIdleConnections)
	return s
}

// apply has the stable pod reload a file with the given content.
func (s *stable) apply(format string, args ...any) {
	s.t.Helper()
	s.write(format, args...)
	s.splitter.reload()
}

// write replaces the file atomically, like that of a mounted ConfigMap.
func (s *stable) write(format string, args ...any) {
	s.t.Helper()
	fresh := filepath.Join(s.dir, "fresh")
	if err := os.WriteFile(fresh, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(fresh, s.splitter.options.File); err != nil {
		s.t.Fatal(err)
	}
}

// forwardTo has the stable pod forward a share to a candidate.
func (s *stable) forwardTo(percent float64, address, timeout string) {
	s.t.Helper()
	s.apply(`{"revision":%q,"address":%q,"weight":%v,"timeout":%q}`, candidateRevision, address, percent, timeout)
}

// reply is the response that a client sees.
type reply struct {
	status int
	header http.Header
	body   string
}

// post sends a request to a server.
func (s *stable) post(server, path, body string, headers ...string) reply {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, server+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.client.Do(request)
	if err != nil {
		s.t.Errorf("the request failed: %v", err)
		return reply{}
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Errorf("reading the response: %v", err)
	}
	return reply{response.StatusCode, response.Header, string(content)}
}

func contextOf(key string) string {
	return fmt.Sprintf(`{"context":{"targetingKey":%q}}`, key)
}

// count reads a counter or gauge, or the observations of a histogram.
func (s *stable) count(name string, labels ...string) float64 {
	s.t.Helper()
	metric := s.metric(name, labels...)
	switch {
	case metric == nil:
		return -1
	case metric.Counter != nil:
		return metric.Counter.GetValue()
	case metric.Histogram != nil:
		return float64(metric.Histogram.GetSampleCount())
	default:
		return metric.Gauge.GetValue()
	}
}

// metric returns a series by its name and the values of its labels.
func (s *stable) metric(name string, labels ...string) *dto.Metric {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			values := map[string]bool{}
			for _, label := range metric.GetLabel() {
				values[label.GetValue()] = true
			}
			matches := family.GetName() == name
			for _, label := range labels {
				matches = matches && values[label]
			}
			if matches {
				return metric
			}
		}
	}
	return nil
}

// outcomes returns the counts of all results and reasons.
func (s *stable) outcomes() map[string]int {
	s.t.Helper()
	counted := map[string]int{}
	for _, result := range results {
		if n := int(s.count("split_requests_total", candidateRevision, result)); n > 0 {
			counted[result] = n
		}
	}
	for _, reason := range reasons {
		if n := int(s.count("split_skipped_total", candidateRevision, reason)); n > 0 {
			counted[reason] = n
		}
	}
	return counted
}
