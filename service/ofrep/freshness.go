// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/config"
)

// A client that was notified of a change may reach an instance that does not have it
// yet. That instance lets the request wait for the change, but not for long, and not many:
// anybody can demand flags that do not exist.
const (
	// maxFreshnessWait is the maximum time that a request waits.
	maxFreshnessWait = time.Second
	// maxWaiting is the maximum number of requests that wait, and maxWaitingOfClient
	// of one client; further ones are answered at once.
	maxWaiting         = 1024
	maxWaitingOfClient = maxWaiting / 2
	// maxWaitingLarge is the maximum number of waiting requests with large bodies, of
	// which there may be maxLargeBodies in all.
	maxWaitingLarge = maxLargeBodies / 4
)

// Results of a wait: the label result of config.MetricFreshnessWaits.
const (
	// waitFresh: the flags became recent enough.
	waitFresh = "fresh"
	// waitBehind: they did not in time.
	waitBehind = "behind"
	// waitRefused: too many requests were waiting.
	waitRefused = "refused"
	// waitEnded: the client disconnected, or the instance stopped.
	waitEnded = "ended"
)

// freshness lets requests wait for more recent flags.
type freshness struct {
	core *Core
	// expedite makes the instance look for more recent flags.
	expedite func()
	limit    time.Duration
	results  *prometheus.CounterVec
	duration prometheus.Observer

	stopped  chan struct{}
	stopOnce sync.Once

	mu       sync.Mutex
	waiting  int
	large    int
	byClient map[string]int
}

func newFreshness(core *Core, expedite func()) *freshness {
	if expedite == nil {
		expedite = func() {}
	}
	return &freshness{
		core: core, expedite: expedite, limit: maxFreshnessWait,
		results: core.metrics.freshness, duration: core.metrics.freshnessWait,
		stopped: make(chan struct{}), byClient: map[string]int{},
	}
}

// stop ends all waits, and those that would begin later.
func (f *freshness) stop() { f.stopOnce.Do(func() { close(f.stopped) }) }

// await waits until the served flags meet the demand, and returns how long. It reports
// nothing else: what is served afterwards is compared with the demand again.
func (f *freshness) await(ctx context.Context, d demand, client string, large bool) (waited time.Duration) {
	position, moved := f.core.Position()
	if d.met(position) {
		return 0
	}
	if !f.enter(client, large) {
		f.results.WithLabelValues(waitRefused).Inc()
		return 0
	}
	defer f.leave(client, large)
	start := time.Now()
	result := f.wait(ctx, d, moved)
	waited = time.Since(start)
	f.results.WithLabelValues(result).Inc()
	f.duration.Observe(waited.Seconds())
	return waited
}

func (f *freshness) wait(ctx context.Context, d demand, moved <-chan struct{}) (result string) {
	end := time.NewTimer(f.limit)
	defer end.Stop()
	again := time.NewTicker(f.limit / 2)
	defer again.Stop()
	f.expedite()
	for {
		select {
		case <-ctx.Done():
			return waitEnded
		case <-f.stopped:
			return waitEnded
		case <-end.C:
			return waitBehind
		case <-again.C:
			f.expedite()
		case <-moved:
		}
		var position Position
		if position, moved = f.core.Position(); d.met(position) {
			return waitFresh
		}
	}
}

// enter counts a request that begins to wait. It returns false if it must not.
func (f *freshness) enter(client string, large bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting >= maxWaiting || f.byClient[client] >= maxWaitingOfClient || large && f.large >= maxWaitingLarge {
		return false
	}
	f.waiting++
	f.core.metrics.waiting.Set(float64(f.waiting))
	f.byClient[client]++
	if large {
		f.large++
	}
	return true
}

func (f *freshness) leave(client string, large bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting--
	f.core.metrics.waiting.Set(float64(f.waiting))
	if f.byClient[client]--; f.byClient[client] == 0 {
		delete(f.byClient, client)
	}
	if large {
		f.large--
	}
}

// ipv6Client is the length of the prefix of an IPv6 address that one client may have.
const ipv6Client = 64

// clientOf returns who sent a request, as far as that is known: the client of its token,
// else its address.
func clientOf(r *http.Request, client *access.Client) string {
	if client != nil {
		return "token " + client.Name
	}
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	host := address.Addr().Unmap()
	if host.Is6() {
		if prefix, err := host.WithZone("").Prefix(ipv6Client); err == nil {
			return prefix.String()
		}
	}
	return host.String()
}

// forwarded reports whether a request comes from a pod that answers it itself if this one
// is behind, and that has already waited.
func forwarded(r *http.Request) bool { return r.Header[headerSplit] != nil }

var (
	headerSplit  = http.CanonicalHeaderKey(config.HeaderSplit)
	headerBehind = http.CanonicalHeaderKey(config.HeaderBehind)
)
