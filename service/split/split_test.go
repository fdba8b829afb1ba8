// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/service/redistest"
)

// TestShareIsExactAcrossPods sends 100,000 requests through one, three and ten stable
// pods and a real candidate.
func TestShareIsExactAcrossPods(t *testing.T) {
	const requests = 100_000
	candidate := serve(t, newHandler(t, candidateRevision))
	for _, pods := range []int{1, 3, 10} {
		t.Run(fmt.Sprintf("%d pods", pods), func(t *testing.T) {
			stables := make([]*stable, pods)
			for i := range stables {
				stables[i] = newStable(t)
				stables[i].forwardTo(5, candidate.URL, "5s")
			}
			for i := range requests {
				stables[i%pods].divert(fmt.Sprintf("user-%d", i))
			}
			forwarded, kept := 0.0, 0.0
			for _, s := range stables {
				forwarded += s.count("split_requests_total", candidateRevision, "ok")
				kept += s.count("split_local_total")
			}
			if forwarded+kept != requests || outside(int(forwarded), requests, 0.05, confidence99) {
				t.Errorf("%v of %v requests were forwarded", forwarded, forwarded+kept)
			}
		})
	}
}

// divert passes one request to the Splitter and returns the revision that
// answered, the stable one if it was not forwarded.
func (s *stable) divert(key string) string {
	s.t.Helper()
	body := contextOf(key)
	if key == "" {
		body = `{"context":{}}`
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, base+"/static", nil)
	if s.splitter.Divert(w, r, []byte(body)) == 0 {
		return stableRevision
	}
	return w.Header().Get("FlagCache-Revision")
}

func TestKeysStayOnTheirSide(t *testing.T) {
	candidate := serve(t, newHandler(t, candidateRevision))
	a, b := newStable(t), newStable(t)
	a.forwardTo(30, candidate.URL, "5s")
	b.forwardTo(30, candidate.URL, "5s")
	sides := map[string]int{}
	for i := range 200 {
		key := fmt.Sprintf("user-%d", i)
		side := a.divert(key)
		sides[side]++
		if again, elsewhere := a.divert(key), b.divert(key); again != side || elsewhere != side {
			t.Errorf("%s is answered by %s, then by %s and, at another pod, by %s", key, side, again, elsewhere)
		}
	}
	if len(sides) != 2 {
		t.Errorf("all keys are on one side: %v", sides)
	}
}

func TestRequestsWithoutAKeyAreSpread(t *testing.T) {
	candidate := serve(t, newHandler(t, candidateRevision))
	s := newStable(t)
	s.forwardTo(50, candidate.URL, "5s")
	sides := map[string]int{}
	for range 200 {
		sides[s.divert("")]++
	}
	if outside(sides[candidateRevision], 200, 0.5, certain) {
		t.Errorf("the sides are %v", sides)
	}
}

// TestFileChangesAreApplied changes the file under a running pod.
func TestFileChangesAreApplied(t *testing.T) {
	s := newStable(t)
	candidate := serve(t, newHandler(t, candidateRevision))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.splitter.Run(ctx) })
	defer running.Wait()
	defer stop()

	whole := fmt.Sprintf(`{"revision":%q,"address":%q,"weight":100}`, candidateRevision, candidate.URL)
	steps := []struct {
		file, answers string
		good, weight  float64
		errors        int
	}{
		{whole, candidateRevision, 1, 100, 0},
		{`{}`, stableRevision, 1, 0, 0},
		{whole, candidateRevision, 1, 100, 0},
		{whole[:40], stableRevision, 0, 0, 1},
		{whole[:39], stableRevision, 0, 0, 1},
		{whole, candidateRevision, 1, 100, 1},
	}
	for _, step := range steps {
		s.write("%s", step.file)
		redistest.Eventually(t, 10*time.Second, "the file was not applied: "+step.file, func() bool {
			return s.divert("u") == step.answers && s.count("split_file_good") == step.good && s.count("split_weight_percent") == step.weight
		})
		if n := strings.Count(s.log.String(), "the split is invalid"); n != step.errors {
			t.Errorf("an invalid file was logged %d times, not %d", n, step.errors)
		}
	}
}

// TestRevisionIsNotItsOwnCandidate matters for the candidate's pods, which
// have the same file, and for those of a revision that was just promoted.
func TestRevisionIsNotItsOwnCandidate(t *testing.T) {
	s := newStable(t)
	s.apply(`{"revision":%q,"address":%q,"weight":100}`, stableRevision, s.server.URL)
	s.expectLocal("u")
	if n := s.count("split_weight_percent"); n != 0 {
		t.Errorf("the weight is %v", n)
	}
}

func TestRequestsAreForwardedOnce(t *testing.T) {
	s := newStable(t)
	// Two pods that consider each other the candidate would forward for ever.
	s.forwardTo(100, s.server.URL, "5s")
	reply := s.post(s.server.URL, base+"/static", contextOf("u"))
	if reply.status != http.StatusOK {
		t.Errorf("the response is %d %s", reply.status, reply.body)
	}
	if diff := cmp.Diff(map[string]int{"error": 1}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
}

// TestDrainingCandidate checks that a draining candidate rejects
// forwarded requests, which is not a failure, and still answers other clients.
func TestDrainingCandidate(t *testing.T) {
	candidate, s := newStable(t), newStable(t)
	candidate.splitter.options.Revision = candidateRevision
	candidate.splitter.Drain()
	s.forwardTo(100, candidate.server.URL, "5s")
	s.expectLocal("u")
	if diff := cmp.Diff(map[string]int{"draining": 1}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
	if direct := s.post(candidate.server.URL, base+"/static", contextOf("u")); direct.status != http.StatusOK {
		t.Errorf("a client of a draining pod is answered with %d", direct.status)
	}
}

func TestDrainingStablePodForwardsNothing(t *testing.T) {
	candidate := serve(t, newHandler(t, candidateRevision))
	s := newStable(t)
	s.forwardTo(100, candidate.URL, "5s")
	s.expectFrom(candidateRevision, "u")
	s.splitter.Drain()
	s.expectLocal("u")
	s.forwardTo(50, candidate.URL, "5s")
	s.expectLocal("u")
}

// TestDisconnectedClientDoesNotEndTheAttempt checks that a disconnected client neither ends the
// attempt nor is counted as a failure: the candidate's result is still
// recorded.
func TestDisconnectedClientDoesNotEndTheAttempt(t *testing.T) {
	s := newStable(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		respond(200, `{"key":"static","reason":"STATIC"}`, "Content-Type", jsonType)(w, r, nil)
	}))
	s.forwardTo(100, candidate.URL, "5s")
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+base+"/static", bytes.NewReader([]byte(contextOf("u"))))
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() {
		response, err := s.client.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		left <- err
	}()
	<-arrived
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	close(release)
	redistest.Eventually(t, 10*time.Second, "the attempt was not counted", func() bool {
		return s.count("split_requests_total", candidateRevision, "ok") == 1
	})
}

// TestHangingCandidateDelaysFewRequests sends more requests than may be in flight.
func TestHangingCandidateDelaysFewRequests(t *testing.T) {
	s := newStable(t)
	var arrived sync.WaitGroup
	arrived.Add(maxInFlight)
	release := make(chan struct{})
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Done()
		<-release
		respond(200, `{"key":"static","reason":"STATIC"}`, "Content-Type", jsonType)(w, r, nil)
	}))
	s.forwardTo(100, candidate.URL, "5s")
	var asking sync.WaitGroup
	for i := range maxInFlight {
		asking.Go(func() { s.divert(fmt.Sprintf("user-%d", i)) })
	}
	arrived.Wait()
	for range 10 {
		if by := s.divert("u"); by != stableRevision {
			t.Errorf("a further request is answered by %s", by)
		}
	}
	close(release)
	asking.Wait()
	if diff := cmp.Diff(map[string]int{"ok": maxInFlight, "busy": 10}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
	if n := s.count("split_local_total"); n != 10 {
		t.Errorf("%v requests are counted as local", n)
	}
}

func TestFailingCandidateIsCutOff(t *testing.T) {
	s := newStable(t)
	candidate := serve(t, http.HandlerFunc(respond(500, "").ServeHTTP))
	s.forwardTo(100, candidate.URL, "5s")
	for range 3 * cutOffAfter {
		s.expectLocal("u")
	}
	got := s.outcomes()
	// On a slow machine the pause may end meanwhile.
	if got["error"] < cutOffAfter || got["cutoff"] == 0 || got["error"]+got["cutoff"] != 3*cutOffAfter {
		t.Errorf("the outcomes are %v", got)
	}
	if n := strings.Count(s.log.String(), "is cut off"); n != 1 {
		t.Errorf("the cut-off was logged %d times", n)
	}
}

// ServeHTTP applies the fault without a working candidate.
func (f fault) ServeHTTP(w http.ResponseWriter, r *http.Request) { f(w, r, nil) }

// TestSeriesOfOldRevisionsAreDeleted applies more candidates than are retained.
func TestSeriesOfOldRevisionsAreDeleted(t *testing.T) {
	s := newStable(t)
	for i := range 2 * maxRevisions {
		s.apply(`{"revision":"rev-%d","address":"http://127.0.0.1:1","weight":1}`, i)
	}
	if s.count("split_requests_total", "rev-9", "ok") != -1 || s.count("split_requests_total", "rev-10", "ok") != 0 {
		t.Error("not exactly the last ten revisions have series")
	}
}

func BenchmarkNoSplit(b *testing.B) {
	s := newStable(b)
	s.benchmark(b)
}

func BenchmarkLocal(b *testing.B) {
	s := newStable(b)
	s.forwardTo(0.01, "http://127.0.0.1:1", "5s")
	s.benchmark(b)
}

func BenchmarkForwarded(b *testing.B) {
	s := newStable(b)
	s.forwardTo(100, serve(b, newHandler(b, candidateRevision)).URL, "5s")
	s.benchmark(b)
	if got := s.outcomes(); len(got) != 1 || got["ok"] == 0 {
		b.Errorf("the outcomes are %v", got)
	}
}

func (s *stable) benchmark(b *testing.B) {
	w, r, body := discard{}, httptest.NewRequest(http.MethodPost, base+"/static", nil), []byte(contextOf("user-8f2c41aa-77"))
	r.Header.Set("Content-Type", jsonType)
	b.ReportAllocs()
	for b.Loop() {
		s.splitter.Divert(w, r, body)
	}
}

// discard is a client that discards the response.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) WriteHeader(int)             {}
func (discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }
