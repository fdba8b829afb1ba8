// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/flagcache/flagcache/service/config"
)

// withValue returns a document with one flag of a value.
func withValue(value int) string {
	return fmt.Sprintf(`{"flags":{"flag":{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}}}`, value)
}

// pod is an instance that serves the document withValue(number) at number.
type pod struct {
	t        *testing.T
	core     *Core
	handler  *Handler
	registry *prometheus.Registry
	expedite func()
}

func newPod(t *testing.T, number int) *pod {
	p := &pod{t: t, expedite: func() {}}
	p.core, p.registry = newTestCore(t, "")
	p.handler = NewHandler(p.core, Options{Expedite: func() { p.expedite() }})
	p.serve(number)
	return p
}

// serve makes the instance serve another document.
func (p *pod) serve(number int) {
	p.t.Helper()
	p.core.Serve(parse(p.t, withValue(number)))
	p.core.Place(at(int64(number), withValue(number)))
}

// demanding returns the path of a request by a client that was notified of a number.
func demanding(number int) string {
	return base + "?" + parameterTag + "=" + url.QueryEscape(at(int64(number), withValue(number)).tag().String())
}

func (p *pod) waits() map[string]float64 {
	counts := map[string]float64{}
	for _, result := range []string{waitFresh, waitBehind, waitRefused, waitEnded} {
		if n := testutil.ToFloat64(p.core.metrics.freshness.WithLabelValues(result)); n > 0 {
			counts[result] = n
		}
	}
	return counts
}

func (p *pod) expectWaits(want map[string]float64) {
	p.t.Helper()
	if diff := cmp.Diff(want, p.waits()); diff != "" {
		p.t.Errorf("the waits are (-want +got):\n%s", diff)
	}
}

func (p *pod) waiting() int {
	p.handler.freshness.mu.Lock()
	defer p.handler.freshness.mu.Unlock()
	return p.handler.freshness.waiting
}

func TestClientOfANewerPodWaitsForItsFlags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		old := request(p.handler, "POST", base, "").Header().Get("ETag")
		expedited := 0
		p.expedite = func() { expedited++ }
		begin := time.Now()
		time.AfterFunc(300*time.Millisecond, func() { p.serve(2) })
		time.AfterFunc(600*time.Millisecond, func() { p.serve(3) })
		w := request(p.handler, "POST", demanding(3), "", "If-None-Match", old)
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"value":3`) || w.Header().Get(config.HeaderBehind) != "" {
			t.Errorf("the answer is %d %v %s", w.Code, w.Header(), w.Body)
		}
		if took := time.Since(begin); took != 600*time.Millisecond {
			t.Errorf("the answer took %s", took)
		}
		p.expectWaits(map[string]float64{waitFresh: 1})
		if expedited != 2 {
			t.Errorf("the instance was asked %d times to look for more recent flags", expedited)
		}
		// The same flags, published again.
		p.core.Place(at(9, withValue(3)))
		for _, number := range []int{1, 2, 3} {
			if w := request(p.handler, "POST", demanding(number), ""); w.Code != 200 || w.Header().Get(config.HeaderBehind) != "" {
				t.Errorf("a client that knows %d is answered with %d %v", number, w.Code, w.Header())
			}
		}
		p.expectWaits(map[string]float64{waitFresh: 1})
	})
}

// A made-up number costs its client a second.
func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		old := request(p.handler, "POST", base, "").Header().Get("ETag")
		for name, path := range map[string]string{
			"by number": demanding(1 << 60),
			"by time":   base + "?" + parameterModified + "=99999999999",
		} {
			begin := time.Now()
			w := request(p.handler, "POST", path, "", "If-None-Match", old+", *")
			if took := time.Since(begin); took != maxFreshnessWait {
				t.Errorf("%s: the answer took %s", name, took)
			}
			if w.Code != 200 || !strings.Contains(w.Body.String(), `"value":1`) || w.Header().Get(config.HeaderBehind) != "1.1" {
				t.Errorf("%s: the answer is %d %v %s", name, w.Code, w.Header(), w.Body)
			}
		}
		p.expectWaits(map[string]float64{waitBehind: 2})
	})
}

// What clients demand must neither be a reason to roll back nor hide one.
func TestWaitIsNoPartOfTheDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		request(p.handler, "POST", demanding(2), "")
		want := strings.NewReader(`
# HELP ofrep_freshness_wait_seconds Time that requests waited for more recent flags, in seconds.
# TYPE ofrep_freshness_wait_seconds histogram
ofrep_freshness_wait_seconds_bucket{le="0.001"} 0
ofrep_freshness_wait_seconds_bucket{le="0.002"} 0
ofrep_freshness_wait_seconds_bucket{le="0.005"} 0
ofrep_freshness_wait_seconds_bucket{le="0.01"} 0
ofrep_freshness_wait_seconds_bucket{le="0.025"} 0
ofrep_freshness_wait_seconds_bucket{le="0.05"} 0
ofrep_freshness_wait_seconds_bucket{le="0.1"} 0
ofrep_freshness_wait_seconds_bucket{le="0.15"} 0
ofrep_freshness_wait_seconds_bucket{le="0.3"} 0
ofrep_freshness_wait_seconds_bucket{le="0.5"} 0
ofrep_freshness_wait_seconds_bucket{le="1"} 1
ofrep_freshness_wait_seconds_bucket{le="+Inf"} 1
ofrep_freshness_wait_seconds_sum 1
ofrep_freshness_wait_seconds_count 1
`)
		if err := testutil.GatherAndCompare(p.registry, want, config.MetricFreshnessWait); err != nil {
			t.Error(err)
		}
		families, err := p.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() != config.MetricRequestDuration {
				continue
			}
			for _, m := range family.GetMetric() {
				if sum := m.GetHistogram().GetSampleSum(); sum != 0 {
					t.Errorf("the requests took %f s: %v", sum, m)
				}
			}
		}
	})
}

func TestDifferentTagIsNeverAnsweredWithNotModified(t *testing.T) {
	p := newPod(t, 5)
	tag := request(p.handler, "POST", base, "").Header().Get("ETag")
	for path, want := range map[string]int{
		base: 304, demanding(5): 304, demanding(4): 200,
		base + "?" + parameterTag + "=abc123":                            200,
		base + "?" + parameterModified + "=1700000005":                   304,
		base + "?" + parameterModified + "=1700000004":                   304,
		base + "?" + parameterTag + "=abc&" + parameterModified + "=100": 200,
	} {
		for _, known := range []string{tag, strings.TrimSuffix(tag, `"`) + `-gzip"`, "*"} {
			if w := request(p.handler, "POST", path, "", "If-None-Match", known); w.Code != want {
				t.Errorf("%s with %s is answered with %d", path, known, w.Code)
			}
		}
	}
	p.expectWaits(map[string]float64{})
}

func TestDisconnectedClientsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		ctx, disconnect := context.WithCancel(t.Context())
		begin := time.Now()
		time.AfterFunc(100*time.Millisecond, disconnect)
		p.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", demanding(2), nil))
		if took := time.Since(begin); took != 100*time.Millisecond {
			t.Errorf("the request of a client that disconnected took %s", took)
		}
		if n := p.waiting(); n != 0 {
			t.Errorf("%d requests are waiting", n)
		}
		p.expectWaits(map[string]float64{waitEnded: 1})
	})
}

func TestStopEndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		begin := time.Now()
		time.AfterFunc(100*time.Millisecond, p.handler.Stop)
		for range 2 {
			if w := request(p.handler, "POST", demanding(2), ""); w.Code != 200 || w.Header().Get(config.HeaderBehind) == "" {
				t.Errorf("the answer is %d %v", w.Code, w.Header())
			}
		}
		if took := time.Since(begin); took != 100*time.Millisecond {
			t.Errorf("the requests of an instance that stops took %s", took)
		}
	})
}

// A pod that forwards a request to the candidate has waited, and answers the request itself.
func TestForwardedRequestsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		begin := time.Now()
		w := request(p.handler, "POST", demanding(2), "", config.HeaderSplit, "revision")
		if w.Code != 200 || w.Header().Get(config.HeaderBehind) != "1.1" || time.Since(begin) != 0 {
			t.Errorf("the answer is %d %v after %s", w.Code, w.Header(), time.Since(begin))
		}
	})
}

// TestMadeUpDemandsDoNotDelayOthers is an attack: two clients demand flags that do not
// exist, with as many requests as they can.
func TestMadeUpDemandsDoNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		var attack sync.WaitGroup
		ended := make(chan struct{})
		for attacker := range 2 {
			for port := range 2 * maxWaiting {
				attack.Go(func() {
					for {
						select {
						case <-ended:
							return
						default:
						}
						begin := time.Now()
						r := httptest.NewRequest("POST", demanding(1<<60), nil)
						r.RemoteAddr = fmt.Sprintf("192.0.2.%d:%d", attacker+3, port+1)
						p.handler.ServeHTTP(httptest.NewRecorder(), r)
						// A request that was refused to wait is sent again a little later.
						if time.Since(begin) == 0 {
							<-time.After(maxFreshnessWait / 2)
						}
					}
				})
			}
			synctest.Wait()
			if n := p.waiting(); n != (attacker+1)*maxWaitingOfClient {
				t.Errorf("%d requests of %d clients are waiting", n, attacker+1)
			}
		}
		for range 30 {
			begin := time.Now()
			for _, path := range []string{base, base + "/flag", demanding(1)} {
				if w := request(p.handler, "POST", path, ""); w.Code != 200 || time.Since(begin) != 0 {
					t.Fatalf("%s is answered with %d after %s", path, w.Code, time.Since(begin))
				}
			}
			// Nobody else can wait meanwhile; it is answered at once.
			if w := request(p.handler, "POST", demanding(2), ""); w.Code != 200 || w.Header().Get(config.HeaderBehind) == "" || time.Since(begin) != 0 {
				t.Fatalf("a demand is answered with %d %v after %s", w.Code, w.Header(), time.Since(begin))
			}
			<-time.After(37 * time.Millisecond)
		}
		close(ended)
		attack.Wait()
		if n := p.waiting(); n != 0 || len(p.handler.freshness.byClient) != 0 {
			t.Errorf("%d requests of %d clients are waiting", n, len(p.handler.freshness.byClient))
		}
	})
}

// One client leaves half of the room to others, however many connections it has.
func TestOneClientLeavesRoomToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		// Waiting requests are not in flight.
		p.handler = NewHandler(p.core, Options{MaxInFlight: 1})
		var attack sync.WaitGroup
		for port := range 2 * maxWaiting {
			attack.Go(func() {
				r := httptest.NewRequest("POST", demanding(1<<60), nil)
				r.RemoteAddr = fmt.Sprintf("[2001:db8::%x]:%d", port, port+1)
				p.handler.ServeHTTP(httptest.NewRecorder(), r)
			})
		}
		synctest.Wait()
		time.AfterFunc(500*time.Millisecond, func() { p.serve(2) })
		if w := request(p.handler, "POST", demanding(2), ""); !strings.Contains(w.Body.String(), `"value":2`) {
			t.Errorf("a demand that can be met is answered with %s", w.Body)
		}
		attack.Wait()
	})
}

// Large bodies have few places, which waiting requests must leave to others.
func TestWaitingRequestsLeaveRoomForLargeBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, 1)
		large := `{"context":{"a":"` + strings.Repeat("x", 2*smallBody) + `"}}`
		var attack sync.WaitGroup
		for range 2 * maxLargeBodies {
			attack.Go(func() { request(p.handler, "POST", demanding(1<<60), large) })
			synctest.Wait()
		}
		if n := p.waiting(); n != maxWaitingLarge {
			t.Errorf("%d requests with large bodies are waiting", n)
		}
		if w := request(p.handler, "POST", base, large); w.Code != 200 {
			t.Errorf("a request with a large body is answered with %d", w.Code)
		}
		attack.Wait()
	})
}

func TestClientsAreToldApart(t *testing.T) {
	of := func(address string) string { return clientOf(&http.Request{RemoteAddr: address}, nil) }
	if of("192.0.2.1:1") != of("192.0.2.1:2") || of("192.0.2.1:1") != of("[::ffff:192.0.2.1]:1") || of("192.0.2.1:1") == of("192.0.2.2:1") {
		t.Error("addresses of IPv4 are not told apart by the whole address")
	}
	if of("[2001:db8::1]:1") != of("[2001:db8::ffff:1]:1") || of("[2001:db8::1]:1") == of("[2001:db8:0:1::1]:1") {
		t.Error("addresses of IPv6 are not told apart by their network")
	}
	if of("[fe80::1%eth0]:1") != of("[fe80::2%eth1]:1") || of("pipe") != "pipe" {
		t.Error("addresses with a zone are told apart, or others are not")
	}
}
