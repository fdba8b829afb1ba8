// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// edits are what users, Redis and time do to a World, in any order.
var edits = map[string]func(*rapid.T, *World){
	"image": func(t *rapid.T, w *World) {
		image := rapid.SampledFrom([]string{"", "flag-service:v2", "flag-service:v3", "flag-service:" + brokenImage}).Draw(t, "image")
		w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = image })
	},
	"replicas": func(t *rapid.T, w *World) {
		n := rapid.Int32Range(1, 6).Draw(t, "replicas")
		w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas, s.Service.Autoscaling = ptr.To(n), nil })
	},
	"autoscaling": func(t *rapid.T, w *World) {
		least := rapid.Int32Range(1, 4).Draw(t, "least")
		w.respec(func(s *v1alpha1.FlagCacheSpec) {
			s.Service.Replicas, s.Service.Autoscaling = nil, &v1alpha1.AutoscalingSpec{MinReplicas: least, MaxReplicas: least + 2, TargetCPUPercent: 70}
		})
	},
	"load": func(t *rapid.T, w *World) {
		w.load = rapid.Int32Range(1, 8).Draw(t, "load")
		w.nextTick = w.time.Add(tick)
	},
	"cache": func(t *rapid.T, w *World) {
		outside := rapid.Bool().Draw(t, "external")
		w.respec(func(s *v1alpha1.FlagCacheSpec) {
			s.Cache = aFlagCache().Spec.Cache
			if outside {
				s.Cache = external(aFlagCache()).Spec.Cache
			}
		})
	},
	"flags": func(t *rapid.T, w *World) {
		w.setFlags(rapid.SampledFrom([]string{goodFlags, "{", ""}).Draw(t, "flags"))
	},
	"suspend": func(t *rapid.T, w *World) {
		suspended := rapid.Bool().Draw(t, "suspended")
		w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = suspended })
	},
	"server": func(t *rapid.T, w *World) {
		delete(w.servers, externalHost+externalPort)
		if rapid.Bool().Draw(t, "up") {
			w.servers[externalHost+externalPort] = takes(externalPassword)
		}
		w.nextTick = w.time.Add(tick)
	},
	"secret": func(t *rapid.T, w *World) {
		host := rapid.SampledFrom([]string{externalHost, otherHost, ""}).Draw(t, "host")
		edit(&w.api, secrets, externalName, func(s *corev1.Secret) { s.Data["host"] = []byte(host) })
	},
	"lose": func(t *rapid.T, w *World) {
		k := rapid.SampledFrom([]kind{secrets, configMaps, services, deployments, statefulSets, budgets, autoscalers, policies}).Draw(t, "kind")
		for _, o := range w.api.now(k) {
			if ownedByName(o) {
				w.mustRemove(k, o.GetName())
				return
			}
		}
	},
	"delete": func(_ *rapid.T, w *World) { w.deleteFlagCache() },
	"create": func(_ *rapid.T, w *World) {
		if find(w.api.now(flagCaches), name) == nil {
			w.make(aFlagCache())
		}
	},
	"restart": func(_ *rapid.T, w *World) { w.restart() },
	"time": func(t *rapid.T, w *World) {
		until := w.time.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second)
		for !w.atRest() && w.time.Before(until) {
			w.happen(false)
		}
	},
}

// most looks that a World takes to come to rest after its last change: pods come
// and go in a few steps, and a broken image is given up after five minutes of
// silence.
const restless = 60

// TestAnyEditsEndInAFixedPoint: whatever users do, when they stop the World comes
// to rest within a bounded number of looks, with every invariant held on the
// way, and nothing is written after that.
func TestAnyEditsEndInAFixedPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(scenario{name: "random"}, plan{scenario: "random"})
		var film []string
		w.film = &film
		w.as("user", func() { createInCluster.do(w); w.make(externalSecret(externalHost)) })
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			what := rapid.SampledFrom(slices.Sorted(maps.Keys(edits))).Draw(t, "edit")
			w.filmed("---- %s", what)
			w.as("user", func() { edits[what](t, w) })
			for range rapid.IntRange(0, 3).Draw(t, "events") {
				w.happen(false)
			}
		}
		changed := w.looks
		w.drive(false)
		if w.looks-changed > restless {
			w.violate("L3 effort: %d looks from the last edit to rest", w.looks-changed)
		}
		if len(w.broken) == 0 {
			w.checkSilence(silentLooks)
		}
		if len(w.broken) > 0 {
			t.Fatalf("%s\n%s", strings.Join(w.broken, "\n"), strings.Join(film, "\n"))
		}
	})
}
