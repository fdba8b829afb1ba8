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

// randomEdits are actions of users, Redis and time in any order.
var randomEdits = map[string]func(*rapid.T, *World){
	"image": func(t *rapid.T, w *World) {
		image := rapid.SampledFrom([]string{"", "flag-service:v2", "flag-service:v3", "flag-service:" + unstartableImage}).Draw(t, "image")
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = image })
	},
	"replicas": func(t *rapid.T, w *World) {
		n := rapid.Int32Range(1, 6).Draw(t, "replicas")
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas, s.Service.Autoscaling = ptr.To(n), nil })
	},
	"autoscaling": func(t *rapid.T, w *World) {
		least := rapid.Int32Range(1, 4).Draw(t, "least")
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) {
			s.Service.Replicas, s.Service.Autoscaling = nil, &v1alpha1.AutoscalingSpec{MinReplicas: least, MaxReplicas: least + 2, TargetCPUPercent: 70}
		})
	},
	"load": func(t *rapid.T, w *World) {
		w.desiredLoad = rapid.Int32Range(1, 8).Draw(t, "load")
		w.nextTick = w.time.Add(tick)
	},
	"cache": func(t *rapid.T, w *World) {
		outside := rapid.Bool().Draw(t, "external")
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) {
			s.Cache = aFlagCache().Spec.Cache
			if outside {
				s.Cache = external(aFlagCache()).Spec.Cache
			}
		})
	},
	"flags": func(t *rapid.T, w *World) {
		w.user().updateFlags(rapid.SampledFrom([]string{goodFlags, "{", ""}).Draw(t, "flags"))
	},
	"suspend": func(t *rapid.T, w *World) {
		suspended := rapid.Bool().Draw(t, "suspended")
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = suspended })
	},
	"server": func(t *rapid.T, w *World) {
		delete(w.servers, externalHost+externalPort)
		if rapid.Bool().Draw(t, "up") {
			w.servers[externalHost+externalPort] = externalPassword
		}
		w.nextTick = w.time.Add(tick)
	},
	"secret": func(t *rapid.T, w *World) {
		host := rapid.SampledFrom([]string{externalHost, otherHost, ""}).Draw(t, "host")
		updateAs(&w.api, secrets, externalName, func(s *corev1.Secret) { s.Data["host"] = []byte(host) })
	},
	"lose": func(t *rapid.T, w *World) {
		k := rapid.SampledFrom([]kind{secrets, configMaps, services, deployments, statefulSets, budgets, autoscalers, policies}).Draw(t, "kind")
		for _, o := range w.api.now(k) {
			if ownedByName(o) {
				w.kube().mustDelete(k, o.GetName())
				return
			}
		}
	},
	"delete": func(_ *rapid.T, w *World) { w.user().deleteFlagCache() },
	"create": func(_ *rapid.T, w *World) {
		if find(w.api.now(flagCaches), name) == nil {
			w.user().mustCreate(aFlagCache())
		}
	},
	"restart": func(_ *rapid.T, w *World) { w.process().restart() },
	"time": func(t *rapid.T, w *World) {
		until := w.time.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second)
		for !w.atRest() && w.time.Before(until) {
			w.advance(false)
		}
	},
}

// maxReconcilesToRest is the maximum number of reconciliations after the last edit: pods start and
// stop in a few steps, and a Deployment that makes no progress exceeds its deadline after five
// minutes.
const maxReconcilesToRest = 60

// TestRandomEditsReachFixedPoint verifies that after any sequence of edits, the World comes to rest
// within a bounded number of reconciliations, without violations and without further writes.
func TestRandomEditsReachFixedPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(scenario{name: "random"}, plan{scenario: "random"})
		var log []string
		w.log = &log
		w.as("user", func() { createInCluster.do(w); w.user().mustCreate(externalSecret(externalHost)) })
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			what := rapid.SampledFrom(slices.Sorted(maps.Keys(randomEdits))).Draw(t, "edit")
			w.logf("---- %s", what)
			w.as("user", func() { randomEdits[what](t, w) })
			for range rapid.IntRange(0, 3).Draw(t, "events") {
				w.advance(false)
			}
		}
		changed := w.reconciles
		w.runUntilRest(false)
		if w.reconciles-changed > maxReconcilesToRest {
			w.violation("L3 effort: %d reconciliations after the last edit", w.reconciles-changed)
		}
		if len(w.violations) == 0 {
			w.oracle().checkSteadyState(steadyReconciles, steadyReconciles/2)
		}
		if len(w.violations) > 0 {
			t.Fatalf("%s\n%s", strings.Join(w.violations, "\n"), strings.Join(log, "\n"))
		}
	})
}
