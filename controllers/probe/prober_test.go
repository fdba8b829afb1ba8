// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/secret"
)

// start runs p until the test ends, and checks that it stops.
func start(t *testing.T, p *Prober) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Start: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "test", Name: name}
}

// fakeCache responds to the probes of a Prober in a synctest bubble.
type fakeCache struct {
	mu sync.Mutex
	// latency and response apply to probes from now on.
	latency  time.Duration
	response byte
	// probes are the start times of the probes.
	probes []time.Time
	// timeouts are the timeouts of the probes' contexts, -1 for none.
	timeouts []time.Duration
}

func (c *fakeCache) probe(ctx context.Context, t Target) Attempt {
	latency, response := c.begin(ctx)
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	select {
	case <-time.After(latency):
		a := attempts[response]
		a.Latency = latency
		return a
	case <-ctx.Done():
		return attempts['t']
	}
}

func (c *fakeCache) begin(ctx context.Context) (time.Duration, byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probes = append(c.probes, time.Now())
	timeout := time.Duration(-1)
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	c.timeouts = append(c.timeouts, timeout)
	return c.latency, c.response
}

func (c *fakeCache) set(response byte, latency time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.response, c.latency = response, latency
}

func (c *fakeCache) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.probes)
}

// testProber is a Prober of one fake cache under one key.
type testProber struct {
	*Prober
	cache   fakeCache
	key     types.NamespacedName
	changes atomic.Int32
}

// runProber runs a test with a Prober of a fake cache that responds immediately.
func runProber(t *testing.T, test func(t *testing.T, p *testProber)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &testProber{key: named("cache")}
		p.cache.set('o', time.Millisecond)
		p.Prober = New(Options{Changed: func(types.NamespacedName) { p.changes.Add(1) }})
		p.probe = p.cache.probe
		p.spread = func() float64 { return 1 }
		defer start(t, p.Prober)()
		test(t, p)
	})
}

// advance advances virtual time and waits until all goroutines are idle.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (p *testProber) expectChanges(t *testing.T, when string, want int32) {
	t.Helper()
	if got := p.changes.Load(); got != want {
		t.Errorf("%s: Changed was called %d times in total, want %d", when, got, want)
	}
}

func TestProberKeepsTheIntervalAndReportsChangesOnly(t *testing.T) {
	runProber(t, func(t *testing.T, p *testProber) {
		p.Watch(p.key, Target{})
		if _, ok := p.Last(p.key); ok {
			t.Error("got a result before the first probe")
		}
		advance(time.Second)
		p.expectChanges(t, "after the first probe", 1)
		advance(time.Minute)
		if n := p.cache.count(); n != 7 {
			t.Errorf("%d probes after a minute, want 7", n)
		}
		p.expectChanges(t, "while nothing changes", 1)

		p.cache.set('r', time.Millisecond)
		advance(25 * time.Second)
		p.expectChanges(t, "after two failures", 1)
		advance(10 * time.Second)
		p.expectChanges(t, "after three failures", 2)
		if r, ok := p.Last(p.key); !ok || r.Outcome != Unhealthy || r.Reason != ReasonConnectionRefused {
			t.Errorf("got %+v, want unhealthy and refused", r)
		}
		p.cache.set('o', time.Millisecond)
		advance(30 * time.Second)
		p.expectChanges(t, "after recovery", 3)
	})
}

func TestProberReportsTheFirstFailure(t *testing.T) {
	runProber(t, func(t *testing.T, p *testProber) {
		p.cache.set('r', time.Millisecond)
		began := time.Now()
		p.Watch(p.key, Target{})
		advance(time.Second)
		want := Result{
			Reason: ReasonConnectionRefused, Message: "Broken.",
			Since: began, At: began.Add(time.Millisecond), Failing: true,
		}
		got, ok := p.Last(p.key)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("known: %v (-want +got):\n%s", ok, diff)
		}
		p.expectChanges(t, "after the first failure", 1)
	})
}

func TestWatchingTheSameTargetAgainHasNoEffect(t *testing.T) {
	runProber(t, func(t *testing.T, p *testProber) {
		target := Target{Addr: "redis:6379", CA: []byte("ca")}
		for range 100 {
			p.Watch(p.key, target)
		}
		advance(time.Second)
		target.CA[0] = 'x'
		p.Watch(p.key, Target{Addr: "redis:6379", CA: []byte("ca"), Interval: DefaultInterval})
		advance(time.Second)
		if n := p.cache.count(); n != 1 {
			t.Errorf("%d probes, want 1", n)
		}
	})
}

func TestChangedTargetIsProbedImmediately(t *testing.T) {
	runProber(t, func(t *testing.T, p *testProber) {
		p.Watch(p.key, Target{Addr: "redis:6379", Password: secret.New("old")})
		advance(time.Second)
		p.Watch(p.key, Target{Addr: "redis:6379", Password: secret.New("new")})
		if r, ok := p.Last(p.key); ok {
			t.Errorf("got result %+v of the previous target", r)
		}
		advance(time.Second)
		if r, ok := p.Last(p.key); !ok || r.Outcome != Healthy {
			t.Errorf("got %+v, want healthy within a second of the change", r)
		}
		p.expectChanges(t, "after the change", 2)
	})
}

func TestResultHasTheIDOfItsTarget(t *testing.T) {
	runProber(t, func(t *testing.T, p *testProber) {
		for _, id := range []string{"first", "second"} {
			p.Watch(p.key, Target{ID: id, Addr: "redis:6379"})
			if r, ok := p.Last(p.key); ok {
				t.Errorf("got %+v before a probe of target %s", r, id)
			}
			advance(time.Second)
			if r, ok := p.Last(p.key); !ok || r.ID != id {
				t.Errorf("got %+v, want a result of target %s", r, id)
			}
		}
		p.expectChanges(t, "after the first result of each target", 2)
		p.cache.set('r', time.Millisecond)
		advance(time.Minute)
		if r, _ := p.Last(p.key); r.Outcome != Unhealthy || r.ID != "second" {
			t.Errorf("got %+v, want an unhealthy second target", r)
		}
	})
}

func TestRunningProbeIsIgnoredForAChangedTarget(t *testing.T) {
	runProber(t, func(t *testing.T, p *testProber) {
		p.cache.set('o', 100*time.Millisecond)
		p.Watch(p.key, Target{Password: secret.New("old")})
		advance(50 * time.Millisecond)
		p.cache.set('r', 100*time.Millisecond)
		p.Watch(p.key, Target{Password: secret.New("new")})
		advance(60 * time.Millisecond)
		if r, ok := p.Last(p.key); ok {
			t.Errorf("got result %+v of the previous target", r)
		}
		advance(time.Second)
		if r, _ := p.Last(p.key); r.Reason != ReasonConnectionRefused {
			t.Errorf("got %+v, want the new target's", r)
		}
	})
}

func TestForgetCancelsTheRunningProbe(t *testing.T) {
	runProber(t, func(t *testing.T, p *testProber) {
		p.cache.set('o', time.Hour)
		p.Watch(p.key, Target{Timeout: time.Hour})
		advance(time.Second)
		p.Forget(p.key)
		p.Forget(named("never watched"))
		advance(time.Minute)
		if running := p.running(); running != 0 || len(p.entries) != 0 {
			t.Errorf("%d running probes and %d targets, want none", running, len(p.entries))
		}
		p.expectChanges(t, "after Forget", 0)
	})
}

func (p *Prober) running() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lanes.all() {
		n += l.running
	}
	return n
}

func TestUnresponsiveCacheLeavesTheFastLane(t *testing.T) {
	runProber(t, func(t *testing.T, p *testProber) {
		p.cache.set('o', time.Hour)
		p.Watch(p.key, Target{})
		advance(5 * time.Second)
		p.cache.set('o', time.Millisecond)
		advance(20 * time.Second)
		p.cache.set('o', 300*time.Millisecond)
		advance(25 * time.Second)
		const whole = -1
		want := []time.Duration{
			hurriedTimeout, whole, // new, then repeated with the target's timeout: a failure
			whole,                        // failing: responds fast
			hurriedTimeout,               // fast
			hurriedTimeout, whole, whole, // fast: responds late, succeeds in the late lane, stays
		}
		if diff := cmp.Diff(want, p.cache.timeouts[:min(len(want), p.cache.count())]); diff != "" {
			t.Errorf("timeouts of the probes (-want +got):\n%s", diff)
		}
		p.expectChanges(t, "after a failure, a success and a late response", 2)
	})
}

// A cache that stops responding occupies a worker of the fast lane only briefly, once.
func TestCachesThatFailTogetherDoNotDelayOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var healthy, others fakeCache
		healthy.set('o', time.Millisecond)
		others.set('o', time.Millisecond)
		p := New(Options{})
		p.probe = func(ctx context.Context, target Target) Attempt {
			if target.Key == "healthy" {
				return healthy.probe(ctx, target)
			}
			return others.probe(ctx, target)
		}
		defer start(t, p)()
		p.Watch(named("healthy"), Target{Key: "healthy"})
		for i := range 1000 {
			p.Watch(named(strconv.Itoa(i)), Target{})
		}
		advance(30 * time.Second)
		others.set('o', time.Hour)
		advance(2 * time.Minute)

		for i := 2; i < len(healthy.probes); i++ {
			if gap := healthy.probes[i].Sub(healthy.probes[i-1]); gap > DefaultInterval+hurriedTimeout {
				t.Errorf("probe %d of the healthy cache started after %v, want %v", i, gap, DefaultInterval)
			}
		}
		for i := range 1000 {
			if r, _ := p.Last(named(strconv.Itoa(i))); r.Outcome != Unhealthy || time.Since(r.At) > 4*DefaultInterval {
				t.Fatalf("cache %d: %+v, want unhealthy, seen within the last %v", i, r, 4*DefaultInterval)
			}
		}

		healthy.set('o', time.Hour)
		advance(DefaultFailureThreshold * (DefaultInterval + DefaultTimeout))
		if r, _ := p.Last(named("healthy")); r.Outcome != Unhealthy {
			t.Errorf("got %+v, want the outage detected without delay", r)
		}
	})
}

func TestLaneLimitsConcurrentProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var running, maxRunning atomic.Int32
		p := New(Options{Workers: 12})
		p.probe = func(ctx context.Context, _ Target) Attempt {
			defer running.Add(-1)
			if n := running.Add(1); n > maxRunning.Load() {
				maxRunning.Store(n)
			}
			<-ctx.Done()
			return attempts['t']
		}
		defer start(t, p)()
		for i := range 100 {
			p.Watch(named(string(rune('a'+i))), Target{})
		}
		advance(time.Minute)
		// No cache is healthy: of 12 workers 3 are for new and 4 for failing caches.
		if maxRunning.Load() != 7 {
			t.Errorf("%d concurrent probes, want 7", maxRunning.Load())
		}
	})
}

func TestStopWhileProbing(t *testing.T) {
	t.Parallel()
	connected := make(chan struct{}, 3)
	addr := serve(t, func(conn net.Conn) {
		connected <- struct{}{}
		drain(conn)
	})
	p := New(Options{Rules: loopback, Changed: func(types.NamespacedName) { t.Error("an interrupted probe is reported") }})
	stop := start(t, p)
	p.Watch(named("a"), Target{Addr: addr, Key: "k", Timeout: time.Hour})
	<-connected
	stop()
	if n := p.running(); n != 0 {
		t.Errorf("%d running probes after Start returned", n)
	}
	if err := p.Start(t.Context()); err == nil {
		t.Error("got no error from a second Start")
	}
}

func TestProberNeedsLeaderElection(t *testing.T) {
	t.Parallel()
	if !New(Options{}).NeedLeaderElection() {
		t.Error("every replica of the operator probes")
	}
}

func TestProberReportsAStoppedRedis(t *testing.T) {
	t.Parallel()
	changes := make(chan struct{}, 100)
	p := New(Options{Rules: loopback, Changed: func(types.NamespacedName) { changes <- struct{}{} }})
	start(t, p)
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	kill := runRedis(t, addr, "--port", port)
	target := Target{Addr: addr, Key: "k", Interval: 20 * time.Millisecond, FailureThreshold: 2}
	p.Watch(named("a"), target)
	expectOutcome := func(want Outcome) {
		t.Helper()
		for {
			select {
			case <-changes:
				if r, _ := p.Last(named("a")); r.Outcome == want {
					return
				}
			case <-time.After(20 * time.Second):
				r, _ := p.Last(named("a"))
				t.Fatalf("got %+v, want %s", r, want)
			}
		}
	}
	expectOutcome(Healthy)
	kill()
	expectOutcome(Unhealthy)
	runRedis(t, addr, "--port", port)
	expectOutcome(Healthy)
}
