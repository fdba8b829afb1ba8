// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/utils/clock"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/policy"
)

// exporter exposes metrics that a test can change.
type exporter struct {
	*httptest.Server

	text atomic.Pointer[string]
}

func newExporter(t *testing.T, text string) *exporter {
	t.Helper()
	e := &exporter{}
	e.text.Store(&text)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprint(w, *e.text.Load())
	}))
	t.Cleanup(e.Close)
	return e
}

// job returns a scrape configuration like those of the Prometheus Operator, which set
// the label endpoint on targets; the flag service sets it as well.
func (e *exporter) job(name, pod string) string {
	return fmt.Sprintf(`
- job_name: %s
  scrape_interval: 200ms
  scrape_timeout: 200ms
  static_configs:
  - targets: ["%s"]
    labels: {namespace: shop, pod: %q, endpoint: telemetry}
`, name, e.Listener.Addr(), pod)
}

// startPrometheus starts a Prometheus server that is stopped when the test ends.
func startPrometheus(t *testing.T, jobs ...string) (address string) {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("this test needs prometheus on the PATH: install it with `make prometheus`")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte("scrape_configs:"+strings.Join(jobs, "")), 0o600); err != nil {
		t.Fatalf("writing the configuration: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("looking for a free port: %v", err)
	}
	address = listener.Addr().String()
	_ = listener.Close()
	command := exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	if err := command.Start(); err != nil {
		t.Fatalf("starting prometheus: %v", err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGKILL)
		_ = command.Wait()
	})
	return "http://" + address
}

// loopback opens the addresses of the servers of tests.
var loopback = &dial.Rules{Lists: func() *policy.Addresses {
	return &policy.Addresses{Allow: []policy.Prefix{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}
}}

func testdata(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func countsOfRevision(s canary.Evidence, revision string) map[canary.Check]analysis.Counts {
	sum := map[canary.Check]analysis.Counts{}
	for _, stream := range s.Streams {
		if stream.Revision == revision {
			for check, counts := range stream.Counts {
				sum[check] = sum[check].Plus(counts)
			}
		}
	}
	return sum
}

// expectTestdataCounts checks the counts in testdata: 5 of the candidate's 33 requests
// failed, and the stable pod answered 19 itself.
func expectTestdataCounts(g Gomega, s canary.Evidence, t Target) {
	g.Expect(s.Missing).To(BeEmpty())
	candidate, stable := countsOfRevision(s, t.Candidate), countsOfRevision(s, t.Stable)
	g.Expect(candidate).To(HaveKeyWithValue(canary.ErrorRate, analysis.Counts{Bad: 5, Total: 33}))
	g.Expect(candidate).To(HaveKeyWithValue(canary.LatencyP95, analysis.Counts{Bad: 0, Total: 33}))
	g.Expect(candidate).To(HaveKeyWithValue(canary.CacheHitRate, analysis.Counts{Bad: 0, Total: 1}))
	g.Expect(stable).To(HaveKeyWithValue(canary.ErrorRate, analysis.Counts{Bad: 0, Total: 19}))
	g.Expect(stable).To(HaveKeyWithValue(canary.LatencyP99, analysis.Counts{Bad: 0, Total: 19}))
	var kept int64
	for _, stream := range s.Streams {
		kept += stream.Local
	}
	g.Expect(kept).To(Equal(int64(14)))
}

// Prometheus and a direct scrape of the same exposition have the same counts.
func TestPrometheusHasTheCountsOfThePods(t *testing.T) {
	g := NewWithT(t)
	target := aTarget()
	stable := newExporter(t, testdata(t, "stable.txt"))
	candidate := newExporter(t, testdata(t, "candidate.txt"))
	foreign := newExporter(t, testdata(t, "candidate.txt"))
	target.Prometheus = &v1alpha1.PrometheusSpec{Address: startPrometheus(t,
		stable.job("a", "checkout-5d1a9c00-7d9f-x2x2x"), stable.job("twice", "checkout-5d1a9c00-7d9f-x2x2x"),
		candidate.job("b", "checkout-8f2c1a3b-7d9f-y3y3y"), foreign.job("c", "checkout2-8f2c1a3b-7d9f-z4z4z"),
	)}
	prometheus := &Prometheus{Clock: clock.RealClock{}, HTTP: NewPrometheusHTTPClient(loopback)}
	sample := func() canary.Evidence { return prometheus.Sample(t.Context(), target) }

	g.Eventually(func(g Gomega) { expectTestdataCounts(g, sample(), target) }).WithTimeout(time.Minute).Should(Succeed(), "Prometheus scrapes all targets")
	before := sample()

	restarted := strings.Replace(testdata(t, "candidate.txt"), "process_start_time_seconds 1.79", "process_start_time_seconds 1.80", 1)
	candidate.text.Store(&restarted)
	g.Eventually(func() []string { return ids(sample()) }).WithTimeout(time.Minute).ShouldNot(ConsistOf(ids(before)), "a restarted process is a new stream")

	broken := strings.Replace(testdata(t, "candidate.txt"), `flag_cache_requests_total{result="hit"} 1`, `flag_cache_requests_total{result="hit"} NaN`, 1)
	candidate.text.Store(&broken)
	g.Eventually(func() string { return sample().Missing }).WithTimeout(time.Minute).Should(Equal(errNotCounters.Error()), "NaN is not a count")

	candidate.Close()
	g.Eventually(func() string { return sample().Missing }).WithTimeout(time.Minute).Should(Equal(errNoSeries.Error()), "a pod that is not scraped is absent")
	g.Expect(countsOfRevision(sample(), target.Stable)).To(HaveKey(canary.ErrorRate), "other pods are still counted")
}

func ids(s canary.Evidence) []string {
	var all []string
	for _, stream := range s.Streams {
		all = append(all, stream.ID)
	}
	return all
}

const foreignMetrics = `
# TYPE http_total counter
http_total{version="8f2c1a3b",pod="a",code="200"} 90
http_total{version="8f2c1a3b",pod="a",code="500"} 10
http_total{version="5d1a9c00",pod="b",code="200"} 1000
# TYPE http_seconds histogram
http_seconds_bucket{version="8f2c1a3b",pod="a",le="0.1"} 97
http_seconds_bucket{version="8f2c1a3b",pod="a",le="+Inf"} 100
http_seconds_sum{version="8f2c1a3b",pod="a"} 3
http_seconds_count{version="8f2c1a3b",pod="a"} 100
http_seconds_bucket{version="5d1a9c00",pod="b",le="0.1"} 1000
http_seconds_bucket{version="5d1a9c00",pod="b",le="+Inf"} 1000
http_seconds_sum{version="5d1a9c00",pod="b"} 3
http_seconds_count{version="5d1a9c00",pod="b"} 1000
`

func TestPrometheusUserQueries(t *testing.T) {
	app := newExporter(t, foreignMetrics)
	others := newExporter(t, "secret{version=\"8f2c1a3b\"} 7\n# TYPE http_total counter\nhttp_total{version=\"8f2c1a3b\",pod=\"other\"} 5\n")
	address := startPrometheus(t, app.job("app", "of-another-name"), strings.Replace(others.job("others", "theirs"), "namespace: shop", "namespace: bank", 1))
	prometheus := &Prometheus{Clock: clock.RealClock{}, HTTP: NewPrometheusHTTPClient(loopback)}
	ask := func(bad, total v1alpha1.Query) canary.Evidence {
		target := aTarget()
		target.Prometheus = &v1alpha1.PrometheusSpec{Address: address, Queries: map[string]v1alpha1.Query{
			"latencyP95.bad": bad, "latencyP95.total": total, "latencyP99.bad": bad, "latencyP99.total": total,
			"errorRate.bad": bad, "errorRate.total": total, "cacheHitRate.bad": bad, "cacheHitRate.total": total,
			"missLatencyP95.bad": bad, "missLatencyP95.total": total,
		}}
		return prometheus.Sample(t.Context(), target)
	}
	bad, total := v1alpha1.Query(`http_total{version="$revision",code=~"5.."} # failed`), v1alpha1.Query(`http_total{version="$revision"}`)

	g := NewWithT(t)
	g.Eventually(func(g Gomega) {
		sample := ask(bad, total)
		g.Expect(sample.Missing).To(BeEmpty())
		g.Expect(countsOfRevision(sample, "8f2c1a3b")).To(HaveKeyWithValue(canary.ErrorRate, analysis.Counts{Bad: 10, Total: 100}))
		g.Expect(countsOfRevision(sample, "5d1a9c00")).To(HaveKeyWithValue(canary.ErrorRate, analysis.Counts{Bad: 0, Total: 1000}))
		g.Expect(ids(sample)).To(HaveLen(15), "each series of each check is a stream")
	}).WithTimeout(time.Minute).Should(Succeed(), "Prometheus scrapes the target")

	// The example of docs/canary.md.
	slow := v1alpha1.Query(`http_seconds_count{version="$revision"} - ignoring(le) http_seconds_bucket{version="$revision", le="0.1"}`)
	sample := ask(slow, `http_seconds_count{version="$revision"}`)
	g.Expect(sample.Missing).To(BeEmpty())
	g.Expect(countsOfRevision(sample, "8f2c1a3b")).To(HaveKeyWithValue(canary.LatencyP95, analysis.Counts{Bad: 3, Total: 100}))

	missing := map[string]struct {
		bad, total v1alpha1.Query
		want       string
	}{
		"a scalar":                     {`1`, total, "is a scalar, not an instant vector"},
		"a string":                     {`"$revision"`, total, "is a string, not an instant vector"},
		"a matrix":                     {`http_total{version="$revision"}[1m]`, total, "is a range vector, not an instant vector"},
		"a syntax error":               {`http_total{version="$revision"] + 1`, total, "bad: the query is not PromQL: character "},
		"another syntax error":         {bad, `sum(`, "total: the query is not PromQL: character 5: unclosed left parenthesis"},
		"the revision in a comment":    {bad, `http_total # $revision`, "no selector of the query has a label matcher with $revision"},
		"everything but a revision":    {bad, `http_total{version!="$revision"}`, "no selector of the query has a label matcher with $revision"},
		"a ratio":                      {bad, `http_total{version="$revision"} / 3`, errNotCounters.Error()},
		"not a number":                 {bad, `http_total{version="$revision"} / 0 - http_total / 0`, errNotCounters.Error()},
		"negative":                     {bad, `-http_total{version="$revision"}`, errNotCounters.Error()},
		"no series":                    {`none{v="$revision"}`, `none{v="$revision"}`, errNoSeries.Error()},
		"series of others":             {`secret{version="$revision"}`, `secret{version="$revision"}`, errNoSeries.Error()},
		"series of others by name":     {`secret{version="$revision",namespace="bank"}`, `{__name__="secret",namespace=~"bank|$revision"}`, errNoSeries.Error()},
		"series of others in a part":   {bad, `http_total{version="$revision"} + on() group_left sum(secret)`, errNoSeries.Error()},
		"bad events with other labels": {`sum(http_total{version="$revision"})`, total, errUnmatched.Error()},
		"more bad events than events":  {`http_total{version="$revision"} * 2`, total, errUnmatched.Error()},
	}
	for name, c := range missing {
		t.Run(name, func(t *testing.T) {
			sample := ask(c.bad, c.total)
			if len(countsOfRevision(sample, "8f2c1a3b")) > 0 || !strings.Contains(sample.Missing, "errorRate: ") || !strings.Contains(sample.Missing, c.want) {
				t.Errorf("got %v, missing %q", sample.Streams, sample.Missing)
			}
		})
	}
}
