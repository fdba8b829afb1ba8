// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/flagcache/flagcache/controllers/dial"
)

// Digests of two documents.
var (
	newFlags = strings.Repeat("a", digestLength)
	oldFlags = strings.Repeat("b", digestLength)
)

// serving returns a handler that responds with the metrics of a pod that serves documents.
func serving(digests ...string) http.HandlerFunc {
	text := "# TYPE flag_config_info gauge\n"
	for _, digest := range digests {
		text += fmt.Sprintf("flag_config_info{digest=%q} 1\n", digest)
	}
	return respondWith(text)
}

// withForeignRedis returns the metrics of a pod that reports whether Redis has the
// document of another store.
func withForeignRedis(foreign int) http.HandlerFunc {
	return respondWith(fmt.Sprintf("# TYPE flag_cache_foreign gauge\nflag_cache_foreign %d\n", foreign))
}

// isReady makes a pod ready.
func isReady(pod *corev1.Pod) {
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

var since = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// delivery asks the pods of the network about a document.
func (n *network) delivery(expected int32, last Delivery) Delivery {
	return n.ask(aDelivery(expected), last)
}

func (n *network) ask(target DeliveryTarget, last Delivery) Delivery {
	client := NewHTTPClient(&dial.Rules{})
	client.Transport.(*http.Transport).DialContext = n.dial
	pods := &Pods{Client: fake.NewClientBuilder().WithObjects(n.pods...).Build(), Clock: testingclock.NewFakePassiveClock(since), HTTP: client}
	return pods.delivery(n.t.Context(), target, last)
}

func aDelivery(expected int32) DeliveryTarget {
	target := aTarget()
	return DeliveryTarget{FlagCache: target.FlagCache, Digest: newFlags, Revisions: map[string]ReadyPods{target.Stable: {Ready: expected}}}
}

func TestFindsThePodsThatServeOtherFlags(t *testing.T) {
	stable := aTarget().Stable
	cases := map[string]struct {
		pods []http.HandlerFunc
		want Delivery
	}{
		"none":                   {[]http.HandlerFunc{serving(newFlags), serving(newFlags)}, Delivery{Serving: 2, Asked: 2}},
		"one":                    {[]http.HandlerFunc{serving(newFlags), serving(oldFlags)}, Delivery{Serving: 1, Asked: 2, Behind: []string{"checkout-5d1a9c00-7d9f-2"}, Since: since}},
		"not reported":           {[]http.HandlerFunc{respondWith("")}, Delivery{Asked: 1}},
		"two documents":          {[]http.HandlerFunc{serving(newFlags, oldFlags)}, Delivery{Asked: 1}},
		"another store":          {[]http.HandlerFunc{serving(newFlags), withForeignRedis(1)}, Delivery{Serving: 1, Asked: 2, Foreign: true}},
		"no other store":         {[]http.HandlerFunc{withForeignRedis(0)}, Delivery{Asked: 1}},
		"no digest":              {[]http.HandlerFunc{serving("<b>")}, Delivery{Asked: 1}},
		"an unreadable response": {[]http.HandlerFunc{respondWith("<html>"), serving(oldFlags)}, Delivery{Incomplete: true, Asked: 1, Behind: []string{"checkout-5d1a9c00-7d9f-2"}, Since: since}},
		"oversized metrics":      {[]http.HandlerFunc{respondWith(strings.Repeat("# a comment that says nothing\n", maxBytes/30+1))}, Delivery{Incomplete: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newNetwork(t)
			for _, respond := range c.pods {
				s.add(stable, respond, isReady)
			}
			c.want.Digest = newFlags
			if d := cmp.Diff(c.want, s.delivery(int32(len(c.pods)), Delivery{})); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestNamesAtMostFivePods(t *testing.T) {
	s := newNetwork(t)
	for range MaxNamed + 2 {
		s.add(aTarget().Stable, serving(oldFlags), isReady)
	}
	first := Delivery{Since: since.Add(-time.Hour)}
	if got := s.delivery(MaxNamed+2, first); len(got.Behind) != MaxNamed || got.More != 2 || !got.Since.Equal(first.Since) {
		t.Errorf("got %+v", got)
	}
}

// Only pods that get requests are asked, and only those that the operator's Deployments
// created.
func TestAsksReadyPodsOfTheRevisions(t *testing.T) {
	s, target := newNetwork(t), aTarget()
	s.add(target.Stable, serving(oldFlags))
	s.add(target.Candidate, serving(oldFlags), isReady)
	s.add(target.Stable, serving(oldFlags), isReady, func(pod *corev1.Pod) { pod.OwnerReferences = nil })
	if got := s.delivery(1, Delivery{}); len(got.Behind) > 0 || !got.Incomplete || len(s.dialled) > 0 {
		t.Errorf("got %+v and dialled %v, with no ready pod of the revision", got, s.dialled)
	}
}

// runDeliveries runs Deliveries in virtual time with scripted results, and counts the
// samples and the reports.
func runDeliveries(t *testing.T, sample func() Delivery, test func(d *Deliveries, samples, reports *int)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		samples, reports := 0, 0
		d := newDeliveries(func(context.Context, DeliveryTarget, Delivery) Delivery { samples++; return sample() }, func(types.NamespacedName) { reports++ })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Start(ctx) }()
		synctest.Wait()
		test(d, &samples, &reports)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestFlagsThatAllPodsServeAreNotReadAgain(t *testing.T) {
	runDeliveries(t, func() Delivery { return Delivery{} }, func(d *Deliveries, samples, _ *int) {
		target := aDelivery(2)
		for range 3 {
			d.Watch(target.FlagCache, aDelivery(2))
			advance(time.Hour)
		}
		if *samples != 1 {
			t.Errorf("%d samples of a document that all pods serve", *samples)
		}
		replaced := aDelivery(2)
		replaced.Revisions[aTarget().Stable] = ReadyPods{Ready: 2, Version: "another"}
		d.Watch(target.FlagCache, replaced)
		advance(time.Hour)
		if *samples != 2 {
			t.Errorf("%d samples after a pod was replaced", *samples)
		}
	})
}

func TestPodsThatAreBehindAreAskedUntilTheyAreNot(t *testing.T) {
	result := Delivery{Digest: newFlags, Behind: []string{"a"}}
	runDeliveries(t, func() Delivery { return result }, func(d *Deliveries, samples, reports *int) {
		target := aDelivery(2)
		d.Watch(target.FlagCache, target)
		advance(time.Hour)
		if *samples < 60 || *samples > 70 || *reports != 1 {
			t.Errorf("%d samples and %d reports in an hour with the same result", *samples, *reports)
		}
		scaled := aDelivery(3)
		d.Watch(target.FlagCache, scaled)
		if last, ok := d.Last(target.FlagCache); !ok || len(last.Behind) != 1 {
			t.Errorf("the result is %+v (%t) after a pod was added", last, ok)
		}
		result = Delivery{Digest: newFlags}
		advance(time.Hour)
		if *reports != 2 {
			t.Errorf("%d reports after no pod is behind", *reports)
		}
		changed := aDelivery(3)
		changed.Digest = oldFlags
		d.Watch(target.FlagCache, changed)
		if last, ok := d.Last(target.FlagCache); ok {
			t.Errorf("the result about another document is %+v", last)
		}
	})
}

func TestPodsThatCannotBeAskedAreGivenUp(t *testing.T) {
	runDeliveries(t, func() Delivery { return Delivery{Incomplete: true} }, func(d *Deliveries, samples, _ *int) {
		d.Watch(aDelivery(1).FlagCache, aDelivery(1))
		advance(24 * time.Hour)
		if *samples != maxIncomplete {
			t.Errorf("%d samples", *samples)
		}
	})
}

// Other programs may begin to use a shared Redis at any time, and end.
func TestPodsAreAskedAboutASharedRedis(t *testing.T) {
	result := Delivery{}
	runDeliveries(t, func() Delivery { return result }, func(d *Deliveries, samples, reports *int) {
		target := aDelivery(2)
		target.Shared, target.Digest = true, ""
		d.Watch(target.FlagCache, target)
		advance(time.Hour)
		if *samples < 12 || *samples > 14 || *reports != 1 {
			t.Errorf("%d samples and %d reports in an hour at rest", *samples, *reports)
		}
		result.Foreign = true
		advance(time.Hour)
		if *samples < 60 || *reports != 2 {
			t.Errorf("%d samples and %d reports while another program uses it", *samples, *reports)
		}
		result.Foreign = false
		advance(time.Hour)
		if *reports != 3 {
			t.Errorf("%d reports after none does", *reports)
		}
	})
}

// A database identifies itself, so that no digest is known.
func TestPodsWithADatabaseAreNotBehind(t *testing.T) {
	s, target := newNetwork(t), aDelivery(1)
	s.add(aTarget().Stable, serving(oldFlags), isReady)
	target.Digest = ""
	if got := s.ask(target, Delivery{}); len(got.Behind) > 0 || got.Incomplete {
		t.Errorf("got %+v", got)
	}
}
