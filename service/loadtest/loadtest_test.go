// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/service/config"
)

// flagService is a fake flag service with two flags and configurable failures.
type flagService struct {
	*httptest.Server
	// fault answers a request instead of the service if it returns true. It is not
	// called for the first request, by which a test discovers the flags.
	fault    func(n int64, w http.ResponseWriter) bool
	requests atomic.Int64
	paths    sync.Map
}

func startFlagService(t *testing.T, fault func(n int64, w http.ResponseWriter) bool) *flagService {
	s := &flagService{fault: fault}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *flagService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.requests.Add(1) - 1
	counter, _ := s.paths.LoadOrStore(r.URL.Path, new(atomic.Int64))
	counter.(*atomic.Int64).Add(1)
	w.Header().Set(config.HeaderRevision, "rev-1")
	if n > 0 && s.fault != nil && s.fault(n, w) {
		return
	}
	var body struct {
		Context struct{ TargetingKey string }
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Context.TargetingKey == "" {
		http.Error(w, "no context", http.StatusBadRequest)
		return
	}
	static := `{"key":"plain","reason":"STATIC","variant":"on","value":true}`
	targeted := fmt.Sprintf(`{"key":"ruled/a","reason":"TARGETING_MATCH","variant":"on","value":%q}`, body.Context.TargetingKey)
	switch r.URL.Path {
	case config.PathEvaluate:
		tag := `"` + body.Context.TargetingKey + `"`
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, `{"flags":[%s,%s,{"key":"broken","errorCode":"PARSE_ERROR"}]}`, static, targeted)
	case config.PathEvaluate + "/plain":
		fmt.Fprint(w, static)
	case config.PathEvaluate + "/ruled/a":
		fmt.Fprint(w, targeted)
	default:
		http.NotFound(w, r)
	}
}

func (s *flagService) requested(path string) int64 {
	counter, ok := s.paths.Load(config.PathEvaluate + path)
	if !ok {
		return 0
	}
	return counter.(*atomic.Int64).Load()
}

func mustRun(t *testing.T, o Options) Report {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestRequestsAreSentAsConfigured(t *testing.T) {
	s := startFlagService(t, nil)
	last := atomic.Int64{}
	report := mustRun(t, Options{
		URL: s.URL + "/", Connections: 4, Rate: 1000, Duration: time.Second, Users: 5, Answers: &Consistent{},
		Progress: func(p Progress) { last.Store(p.Requests) },
	})
	if report.Errors != 0 || report.Requests != 1000 {
		t.Errorf("of %d requests %d failed, want 0 of 1000: %v", report.Requests, report.Errors, report.ErrorsByKind)
	}
	for kind, share := range map[int]float64{kindStatic: 0.7, kindTargeted: 0.2, kindBulk: 0.1} {
		if got := float64(report.Kinds[kind].Requests) / 1000; got < share-0.06 || got > share+0.06 {
			t.Errorf("%s is %.2f of the requests, want about %.2f", kindNames[kind], got, share)
		}
	}
	if got := s.requested("/plain"); got != report.Kinds[kindStatic].Requests {
		t.Errorf("the flag without a rule was evaluated %d times, but %d are reported", got, report.Kinds[kindStatic].Requests)
	}
	if bulk := report.Kinds[kindBulk].Requests; report.NotModified < bulk/2 {
		t.Errorf("only %[2]d of %[1]d bulk evaluations were answered with 304, although there are 5 users", bulk, report.NotModified)
	}
	if diff := cmp.Diff(map[string]int64{"rev-1": 1000}, report.Revisions); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
	if last.Load() != 1000 {
		t.Errorf("the last progress reported %d requests", last.Load())
	}
}

// TestConnectionsAreKeptAndUsedAlike sends so few requests that a single connection
// could carry all.
func TestConnectionsAreKeptAndUsedAlike(t *testing.T) {
	var mu sync.Mutex
	requests := map[string]int{}
	s := startFlagService(t, nil)
	answer := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests[r.RemoteAddr]++
		mu.Unlock()
		answer.ServeHTTP(w, r)
	})
	mustRun(t, Options{URL: s.URL, Connections: 4, Rate: 200, Duration: time.Second})
	if len(requests) != 5 {
		t.Errorf("%d connections were opened, want that which read the flags and 4 others: %v", len(requests), requests)
	}
	kept := 0
	for _, n := range requests {
		if n >= 10 {
			kept++
		}
	}
	if kept != 4 {
		t.Errorf("%d connections carried at least 10 of 200 requests, want 4: %v", kept, requests)
	}
}

func TestErrorsAreCountedByKind(t *testing.T) {
	s := startFlagService(t, func(n int64, w http.ResponseWriter) bool {
		switch n % 10 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			fmt.Fprint(w, `{"key":"another","reason":"STATIC"}`)
		case 2:
			panic(http.ErrAbortHandler)
		default:
			return false
		}
		return true
	})
	s.Config.ErrorLog = nil
	report := mustRun(t, Options{URL: s.URL, Connections: 1, Rate: 500, Duration: 200 * time.Millisecond, Users: 3})
	want := map[string]int64{"status 503": 10, kindMalformed: 10, kindLost: 10}
	if diff := cmp.Diff(want, report.ErrorsByKind); diff != "" {
		t.Errorf("errors of %d requests (-want +got):\n%s", report.Requests, diff)
	}
	if report.Errors != 30 || report.ErrorRate != 0.3 {
		t.Errorf("%d errors, a rate of %f", report.Errors, report.ErrorRate)
	}
}

func TestWrongAnswersAreErrors(t *testing.T) {
	wrong := func(n int64, w http.ResponseWriter) bool {
		if n%10 == 0 {
			fmt.Fprint(w, `{"key":"plain","reason":"STATIC","variant":"off","value":false}`)
		}
		return n%10 == 0
	}
	correct := startFlagService(t, nil)
	learned := &Learned{}
	o := Options{URL: correct.URL, Connections: 1, Rate: 500, Duration: 200 * time.Millisecond, Users: 3, Mix: Mix{Static: 1}}
	questions := 0
	learn := func(q Question, body []byte) { learned.Learn(q, body); questions++ }
	if err := Ask(t.Context(), o, learn); err != nil || questions != 9 {
		t.Fatalf("%d questions were answered, %v; want 3 for each of 3 users", questions, err)
	}
	for name, answers := range map[string]Answers{"learned": learned, "consistent": &Consistent{}} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.URL, o.Answers = startFlagService(t, wrong).URL, answers
			if report := mustRun(t, o); report.ErrorsByKind[kindWrong] != report.Requests/10 {
				t.Errorf("of %d answers these were wrong: %v", report.Requests, report.ErrorsByKind)
			}
		})
	}
}

// TestStallsAreCharged has the service stall once. A test that waited for
// it would only send one slow request per connection, unlike independent
// clients.
func TestStallsAreCharged(t *testing.T) {
	var still sync.Once
	release := make(chan struct{})
	s := startFlagService(t, func(n int64, _ http.ResponseWriter) bool {
		if n >= 100 {
			still.Do(func() { time.AfterFunc(400*time.Millisecond, func() { close(release) }) })
			<-release
		}
		return false
	})
	report := mustRun(t, Options{URL: s.URL, Connections: 2, Rate: 1000, Duration: time.Second})
	if report.Latency.P95 < 100 {
		t.Errorf("the service stalled for 400 of 1000 ms, but P95 is %.0f ms", report.Latency.P95)
	}
}

func TestUnsentRequestsFail(t *testing.T) {
	s := startFlagService(t, func(int64, http.ResponseWriter) bool {
		<-t.Context().Done()
		return false
	})
	report := mustRun(t, Options{URL: s.URL, Connections: 1, Rate: 100, Duration: 300 * time.Millisecond, Timeout: 50 * time.Millisecond})
	if report.Requests != 30 || report.Errors != 30 || report.ErrorsByKind[kindTimeout] == 0 || report.ErrorsByKind[kindUnsent] == 0 {
		t.Errorf("of %d requests %d failed: %v", report.Requests, report.Errors, report.ErrorsByKind)
	}
}

func TestInterruptedTestIsReported(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := startFlagService(t, func(n int64, _ http.ResponseWriter) bool {
		if n == 50 {
			cancel()
		}
		return false
	})
	report, err := Run(ctx, Options{URL: s.URL, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	report.Judge(Limits{ErrorRate: 1})
	if !report.Interrupted || report.Passed || report.Requests < 40 || report.Errors != 0 {
		t.Errorf("interrupted %t, passed %t, %d requests, errors %v", report.Interrupted, report.Passed, report.Requests, report.ErrorsByKind)
	}
}

func TestHeadersAreSent(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		if r.Header.Get("X-Api-Key") != "canary-password" {
			t.Error("the key was not sent")
		}
	}))
	defer s.Close()
	_, err := Run(t.Context(), Options{URL: s.URL, Header: http.Header{"X-Api-Key": {"canary-password"}}})
	if err == nil || err.Error() != "evaluating all flags: the service answered with status 401" {
		t.Errorf("the error is %v", err)
	}
}

func TestInvalidOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no URL":            {},
		"another scheme":    {URL: "ftp://host"},
		"a negative rate":   {URL: "http://host", Rate: -1},
		"too many":          {URL: "http://host", Connections: MaxConnections + 1},
		"a negative weight": {URL: "http://host", Mix: Mix{Static: 2, Bulk: -1}},
		"a negative number": {URL: "http://host", Users: -1},
	} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s is not rejected", name)
		}
	}
}

func TestJudge(t *testing.T) {
	base := Report{Requests: 1000, Errors: 1, ErrorRate: 0.001, Latency: Latency{P95: 40, P99: 60}}
	tests := map[string]struct {
		change func(*Report)
		limits Limits
		broken []string
		passed bool
	}{
		"passes at its limits": {limits: Limits{ErrorRate: 0.001, P95: 40 * time.Millisecond, P99: 60 * time.Millisecond}, passed: true},
		"too many errors":      {limits: Limits{}, broken: []string{"errorRate"}},
		"too slow at P95":      {limits: Limits{ErrorRate: 1, P95: 39 * time.Millisecond}, broken: []string{"p95"}},
		"too slow at P99":      {limits: Limits{ErrorRate: 1, P99: 59 * time.Millisecond}, broken: []string{"p99"}},
		"no requests":          {limits: Limits{ErrorRate: 1}, change: func(r *Report) { r.Requests = 0 }},
		"an interrupted test":  {limits: Limits{ErrorRate: 1}, change: func(r *Report) { r.Interrupted = true }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			report := base
			if test.change != nil {
				test.change(&report)
			}
			report.Judge(test.limits)
			var broken []string
			for _, verdict := range report.Verdicts {
				if !verdict.Kept {
					broken = append(broken, verdict.Name)
				}
			}
			if report.Passed != test.passed || !cmp.Equal(broken, test.broken) {
				t.Errorf("passed %t, broken %v; want %t, %v", report.Passed, broken, test.passed, test.broken)
			}
			if text := report.String(); strings.Contains(text, "EXCEEDED") != (len(broken) > 0) {
				t.Errorf("the text does not match the verdicts:\n%s", text)
			}
		})
	}
}
