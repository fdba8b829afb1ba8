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
)

// start runs p until the test ends, and sees that it ends then.
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

// fakeCache answers the probes of a Prober in a synctest bubble.
type fakeCache struct {
	mu sync.Mutex
	// takes and answer are for the next probe and those that follow.
	takes  time.Duration
	answer byte
	// probes are the times at which one began.
	probes []time.Time
	// allowances are the times that the probes were given by their context, -1 for no limit.
	allowances []time.Duration
}

func (c *fakeCache) probe(ctx context.Context, t Target) Attempt {
	takes, answer := c.begin(ctx)
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	select {
	case <-time.After(takes):
		a := attempts[answer]
		a.Latency = takes
		return a
	case <-ctx.Done():
		return attempts['t']
	}
}

func (c *fakeCache) begin(ctx context.Context) (time.Duration, byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probes = append(c.probes, time.Now())
	allowance := time.Duration(-1)
	if deadline, ok := ctx.Deadline(); ok {
		allowance = time.Until(deadline)
	}
	c.allowances = append(c.allowances, allowance)
	return c.takes, c.answer
}

func (c *fakeCache) become(answer byte, takes time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer, c.takes = answer, takes
}

func (c *fakeCache) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.probes)
}

// probing is a Prober of one fake cache under one key.
type probing struct {
	*Prober
	cache fakeCache
	key   types.NamespacedName
	news  atomic.Int32
}

// inBubble runs a test with a Prober of a fake cache that answers at once.
func inBubble(t *testing.T, test func(t *testing.T, p *probing)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &probing{key: named("cache")}
		p.cache.become('o', time.Millisecond)
		p.Prober = New(Options{Changed: func(types.NamespacedName) { p.news.Add(1) }})
		p.probe = p.cache.probe
		p.spread = func() float64 { return 1 }
		defer start(t, p.Prober)()
		test(t, p)
	})
}

// pass lets virtual time pass and waits until all has happened that should have.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (p *probing) expectNews(t *testing.T, when string, want int32) {
	t.Helper()
	if got := p.news.Load(); got != want {
		t.Errorf("%s: Changed was called %d times in total, want %d", when, got, want)
	}
}

func TestProberKeepsTheIntervalAndTellsNewsOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, p *probing) {
		p.Watch(p.key, Target{})
		if _, ok := p.Last(p.key); ok {
			t.Error("a result before the first probe")
		}
		pass(time.Second)
		p.expectNews(t, "after the first probe", 1)
		pass(time.Minute)
		if n := p.cache.count(); n != 7 {
			t.Errorf("%d probes in a minute after the first one, want 7 in total", n)
		}
		p.expectNews(t, "while nothing changes", 1)

		p.cache.become('r', time.Millisecond)
		pass(25 * time.Second)
		p.expectNews(t, "after two failures", 1)
		pass(10 * time.Second)
		p.expectNews(t, "after three failures", 2)
		if r, ok := p.Last(p.key); !ok || r.Outcome != Unhealthy || r.Reason != ReasonConnectionRefused {
			t.Errorf("got %+v, want unhealthy and refused", r)
		}
		p.cache.become('o', time.Millisecond)
		pass(30 * time.Second)
		p.expectNews(t, "after recovery", 3)
	})
}

func TestProberSaysWhyACacheIsNotReadyYet(t *testing.T) {
	inBubble(t, func(t *testing.T, p *probing) {
		p.cache.become('r', time.Millisecond)
		began := time.Now()
		p.Watch(p.key, Target{})
		pass(time.Second)
		want := Result{
			Reason: ReasonConnectionRefused, Message: "Broken.",
			Since: began, At: began.Add(time.Millisecond), Failing: true,
		}
		got, ok := p.Last(p.key)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("known: %v (-want +got):\n%s", ok, diff)
		}
		p.expectNews(t, "after the first failure", 1)
	})
}

func TestWatchingTheSameTargetAgainChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, p *probing) {
		target := Target{Addr: "redis:6379", CA: []byte("ca")}
		for range 100 {
			p.Watch(p.key, target)
		}
		pass(time.Second)
		target.CA[0] = 'x'
		p.Watch(p.key, Target{Addr: "redis:6379", CA: []byte("ca"), Interval: DefaultInterval})
		pass(time.Second)
		if n := p.cache.count(); n != 1 {
			t.Errorf("%d probes, want 1", n)
		}
	})
}

func TestAChangedTargetIsProbedAtOnceAndFromScratch(t *testing.T) {
	inBubble(t, func(t *testing.T, p *probing) {
		p.Watch(p.key, Target{Addr: "redis:6379", Password: "old"})
		pass(time.Second)
		p.Watch(p.key, Target{Addr: "redis:6379", Password: "new"})
		if r, ok := p.Last(p.key); ok {
			t.Errorf("got %+v of the target before the change", r)
		}
		pass(time.Second)
		if r, ok := p.Last(p.key); !ok || r.Outcome != Healthy {
			t.Errorf("got %+v, want healthy within a second of the change", r)
		}
		p.expectNews(t, "after the change", 2)
	})
}

func TestAnAnswerSaysWhichTargetItIsAbout(t *testing.T) {
	inBubble(t, func(t *testing.T, p *probing) {
		for _, id := range []string{"first", "second"} {
			p.Watch(p.key, Target{ID: id, Addr: "redis:6379"})
			if r, ok := p.Last(p.key); ok {
				t.Errorf("got %+v before a probe of target %s", r, id)
			}
			pass(time.Second)
			if r, ok := p.Last(p.key); !ok || r.ID != id {
				t.Errorf("got %+v, want an answer about target %s", r, id)
			}
		}
		p.expectNews(t, "after each first answer about a target", 2)
		p.cache.become('r', time.Millisecond)
		pass(time.Minute)
		if r, _ := p.Last(p.key); r.Outcome != Unhealthy || r.ID != "second" {
			t.Errorf("got %+v, want an unhealthy second target", r)
		}
	})
}

func TestAProbeThatIsUnderWayDoesNotCountForAChangedTarget(t *testing.T) {
	inBubble(t, func(t *testing.T, p *probing) {
		p.cache.become('o', 100*time.Millisecond)
		p.Watch(p.key, Target{Password: "old"})
		pass(50 * time.Millisecond)
		p.cache.become('r', 100*time.Millisecond)
		p.Watch(p.key, Target{Password: "new"})
		pass(60 * time.Millisecond)
		if r, ok := p.Last(p.key); ok {
			t.Errorf("got %+v of the target before the change", r)
		}
		pass(time.Second)
		if r, _ := p.Last(p.key); r.Reason != ReasonConnectionRefused {
			t.Errorf("got %+v, want the new target's", r)
		}
	})
}

func TestForgettingEndsTheProbeUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T, p *probing) {
		p.cache.become('o', time.Hour)
		p.Watch(p.key, Target{Timeout: time.Hour})
		pass(time.Second)
		p.Forget(p.key)
		p.Forget(named("never watched"))
		pass(time.Minute)
		if running := p.running(); running != 0 || len(p.entries) != 0 {
			t.Errorf("%d probes under way and %d targets watched, want none", running, len(p.entries))
		}
		p.expectNews(t, "after all", 0)
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

func TestASilentCacheLeavesTheFastLane(t *testing.T) {
	inBubble(t, func(t *testing.T, p *probing) {
		p.cache.become('o', time.Hour)
		p.Watch(p.key, Target{})
		pass(5 * time.Second)
		p.cache.become('o', time.Millisecond)
		pass(20 * time.Second)
		p.cache.become('o', 300*time.Millisecond)
		pass(25 * time.Second)
		const whole = -1
		want := []time.Duration{
			patience, whole, // new, and once more with its whole timeout: a failure
			whole,                  // slow: answers fast
			patience,               // fast
			patience, whole, whole, // fast: answers late, succeeds in the slow lane, stays
		}
		if diff := cmp.Diff(want, p.cache.allowances[:min(len(want), p.cache.count())]); diff != "" {
			t.Errorf("the times that probes were given (-want +got):\n%s", diff)
		}
		p.expectNews(t, "a timeout, then a success; a late answer is no news", 2)
	})
}

// Whoever falls silent holds a worker of the fast lane for a moment, once.
func TestAThousandCachesThatFallSilentTogetherDelayNoOneElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var healthy, others fakeCache
		healthy.become('o', time.Millisecond)
		others.become('o', time.Millisecond)
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
		pass(30 * time.Second)
		others.become('o', time.Hour)
		pass(2 * time.Minute)

		for i := 2; i < len(healthy.probes); i++ {
			if gap := healthy.probes[i].Sub(healthy.probes[i-1]); gap > DefaultInterval+patience {
				t.Errorf("probe %d of the healthy cache came after %v, want %v", i, gap, DefaultInterval)
			}
		}
		for i := range 1000 {
			if r, _ := p.Last(named(strconv.Itoa(i))); r.Outcome != Unhealthy || time.Since(r.At) > 4*DefaultInterval {
				t.Fatalf("cache %d: %+v, want unhealthy, seen within the last %v", i, r, 4*DefaultInterval)
			}
		}

		healthy.become('o', time.Hour)
		pass(DefaultFailureThreshold * (DefaultInterval + DefaultTimeout))
		if r, _ := p.Last(named("healthy")); r.Outcome != Unhealthy {
			t.Errorf("got %+v, want the last one's outage noticed as soon as if it were alone", r)
		}
	})
}

func TestALaneStartsNoMoreProbesThanItHasWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		p := New(Options{Workers: 12})
		p.probe = func(ctx context.Context, _ Target) Attempt {
			defer now.Add(-1)
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-ctx.Done()
			return attempts['t']
		}
		defer start(t, p)()
		for i := range 100 {
			p.Watch(named(string(rune('a'+i))), Target{})
		}
		pass(time.Minute)
		// Nobody is ever healthy: of 12 workers 3 are for new and 4 for failing caches.
		if most.Load() != 7 {
			t.Errorf("%d probes at once, want 7", most.Load())
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
	p := New(Options{Changed: func(types.NamespacedName) { t.Error("an interrupted probe is news") }})
	stop := start(t, p)
	p.Watch(named("a"), Target{Addr: addr, Key: "k", Timeout: time.Hour})
	<-connected
	stop()
	if n := p.running(); n != 0 {
		t.Errorf("%d probes are under way after Start has returned", n)
	}
	if err := p.Start(t.Context()); err == nil {
		t.Error("Start a second time: no error")
	}
}

func TestTheProberRunsOnTheLeaderAlone(t *testing.T) {
	t.Parallel()
	if !New(Options{}).NeedLeaderElection() {
		t.Error("every replica of the operator would probe")
	}
}

// A real cache that goes away and comes back.
func TestProberFollowsARealRedis(t *testing.T) {
	t.Parallel()
	news := make(chan struct{}, 100)
	p := New(Options{Changed: func(types.NamespacedName) { news <- struct{}{} }})
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
			case <-news:
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
