// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/loadtest"
	"github.com/flagcache/flagcache/service/redistest"
)

const (
	// users is the number of evaluation contexts.
	users = 20
	// freshLimit is how long a change may take to reach every instance. The aims, a
	// second with Redis and five without, are printed and not asserted: a machine may
	// have much else to do.
	freshLimit = 15 * time.Second
)

// faultLength is how long a fault lasts.
func faultLength() time.Duration { return time.Duration(setting("CHAOS_SECONDS", 2)) * time.Second }

// rate is how many requests a second each instance gets.
func rate() float64 { return float64(setting("CHAOS_RATE", 150)) }

func setting(name string, otherwise int) int {
	if value, err := strconv.Atoi(os.Getenv(name)); err == nil && value > 0 {
		return value
	}
	return otherwise
}

// expected holds the services to the answers that they gave in a calm time, for
// each variant of the marker that they may have.
type expected struct {
	byMarker map[string]*loadtest.Learned

	mu      sync.RWMutex
	allowed []string
}

func newExpected() *expected {
	return &expected{byMarker: map[string]*loadtest.Learned{"a": {}, "b": {}}, allowed: []string{"a"}}
}

// allow sets which variants the marker may have.
func (e *expected) allow(markers ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.allowed = markers
}

// now is the variant that was allowed last.
func (e *expected) now() string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.allowed[len(e.allowed)-1]
}

// Right is true if the answer is that of a calm time.
func (e *expected) Right(q loadtest.Question, revision string, body []byte) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, marker := range e.allowed {
		if e.byMarker[marker].Right(q, revision, body) {
			return true
		}
	}
	return false
}

// learn requests all evaluations from the first instance, for both variants of the marker, and
// holds the others to it.
func (r *rig) learn() {
	r.t.Helper()
	for range r.expected.byMarker {
		r.change()
		err := loadtest.Ask(r.t.Context(), r.options(r.services[0].ofrep), r.expected.byMarker[r.expected.now()].Learn)
		if err != nil {
			r.t.Fatalf("learning the answers: %v", err)
		}
		r.compare()
	}
}

// compare requests all evaluations from every instance once. After a change has arrived
// everywhere no other answer is right any more.
func (r *rig) compare() {
	r.t.Helper()
	for _, service := range r.services {
		wrong := 0
		err := loadtest.Ask(r.t.Context(), r.options(service.ofrep), func(q loadtest.Question, body []byte) {
			if !r.expected.Right(q, "", body) {
				wrong++
				r.t.Logf("question %+v is answered with %s", q, body)
			}
		})
		if err != nil || wrong > 0 {
			r.t.Errorf("%s gives %d wrong answers, %v", service.ofrep, wrong, err)
		}
	}
}

func (r *rig) options(url string) loadtest.Options {
	return loadtest.Options{URL: url, Users: users, Connections: 20, Rate: rate(), Answers: r.expected, Timeout: 5 * time.Second}
}

// change gives the marker its other variant in the source, and returns how long
// that takes to reach every instance.
func (r *rig) change() time.Duration {
	r.t.Helper()
	before, after := r.expected.now(), "a"
	if before == "a" {
		after = "b"
	}
	r.expected.allow(before, after)
	if err := r.mark(after); err != nil {
		r.t.Fatalf("changing the marker: %v", err)
	}
	start := time.Now()
	r.awaitMarker(after)
	return time.Since(start)
}

func (r *rig) awaitMarker(variant string) {
	r.t.Helper()
	for _, service := range r.services {
		redistest.Eventually(r.t, freshLimit, fmt.Sprintf("the change to %q did not reach %s", variant, service.ofrep),
			func() bool { return service.marker() == variant })
	}
}

// settled marks a change as arrived, so that earlier answers are wrong.
func (r *rig) settled() { r.expected.allow(r.expected.now()) }

// attack sends requests to every instance for so long, at the rate, and meanwhile does what it
// is given. It returns the reports.
func (r *rig) attack(length time.Duration, meanwhile func()) []loadtest.Report {
	r.t.Helper()
	reports := make([]loadtest.Report, len(r.services))
	errs := make([]error, len(r.services))
	begun := make(chan struct{}, len(r.services))
	var clients sync.WaitGroup
	for n, service := range r.services {
		o := r.options(service.ofrep)
		o.Duration, o.Seed = length, uint64(n)
		var once sync.Once
		o.Progress = func(loadtest.Progress) { once.Do(func() { begun <- struct{}{} }) }
		clients.Go(func() { reports[n], errs[n] = loadtest.Run(context.WithoutCancel(r.t.Context()), o) })
	}
	for range r.services {
		<-begun
	}
	meanwhile()
	clients.Wait()
	for _, err := range errs {
		if err != nil {
			r.t.Fatalf("asking: %v", err)
		}
	}
	return reports
}

// sourceLoads watches how often the source is read, and how often at a time.
type sourceLoads struct {
	rig    *rig
	before float64
	most   atomic.Int64
	stop   chan struct{}
	ended  sync.WaitGroup
}

func (r *rig) watchSource() *sourceLoads {
	l := &sourceLoads{rig: r, before: r.sum("flag_source_loads_total"), stop: make(chan struct{})}
	l.ended.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			for _, service := range r.services {
				l.most.Store(max(l.most.Load(), int64(service.metric("flag_source_loads_in_flight"))))
			}
		}
	})
	return l
}

// end returns how often the source was read, and the most readings of one
// instance at a time.
func (l *sourceLoads) end() (count int, most int64) {
	close(l.stop)
	l.ended.Wait()
	return int(l.rig.sum("flag_source_loads_total") - l.before), l.most.Load()
}

// sum is a metric over all instances.
func (r *rig) sum(metric string) float64 {
	sum := 0.0
	for _, service := range r.services {
		sum += service.metric(metric)
	}
	return sum
}

// mustNotFail reports what went wrong for clients.
func mustNotFail(t testing.TB, phase string, reports []loadtest.Report) {
	t.Helper()
	for _, report := range reports {
		if report.Errors > 0 || report.Requests == 0 {
			t.Errorf("%s: of %d requests %d failed: %v", phase, report.Requests, report.Errors, report.ErrorsByKind)
		}
	}
}

// latency is that of the slowest instance, in milliseconds.
type latency struct{ p50, p99 float64 }

func latencyOf(reports []loadtest.Report) (l latency) {
	for _, report := range reports {
		l.p50, l.p99 = max(l.p50, report.Latency.P50), max(l.p99, report.Latency.P99)
	}
	return l
}

func (l latency) String() string { return fmt.Sprintf("P50 %.1f and P99 %.1f ms", l.p50, l.p99) }

// mustBound holds the latency with a fault to that of the calm time. A request
// that waited for what is broken would wait for tens of milliseconds at the
// median and for seconds at worst; a machine with much else to do adds to it.
func (l latency) mustBound(t testing.TB, with latency) {
	t.Helper()
	if with.p50 > 10*l.p50+20 || with.p99 > 10*l.p99+500 {
		t.Errorf("with the fault %s; in the calm time %s", with, l)
	}
}
