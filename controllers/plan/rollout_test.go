// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

func production(s *v1alpha1.FlagCacheSpec)   { s.Environment = "production" }
func back(s *v1alpha1.FlagCacheSpec)         { s.Environment = "default" }
func staging(s *v1alpha1.FlagCacheSpec)      { s.Environment = "staging" }
func fiveReplicas(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas = ptr.To[int32](5) }

// A scenario is a rollout, with one line for each reconcile. The Service always selects a
// revision that can answer, if there is one.
func TestRolloutScenarios(t *testing.T) {
	tests := map[string]func(*world){
		"first": func(w *world) {
			w.reconcile()
			w.note("the pods become available")
			w.podsAvailable()
			w.probe = observed.Probe{Health: observed.Healthy}
			w.reconcile()
			w.reconcile()
		},
		"change": func(w *world) {
			w.ready()
			w.note("the environment changes")
			w.edit(production)
			w.reconcile()
			w.reconcile()
			w.note("the pods become available")
			w.podsAvailable()
			w.reconcile()
			w.reconcile()
			w.reconcile()
		},
		"back-in-the-middle": func(w *world) {
			w.ready()
			w.note("the environment changes")
			w.edit(production)
			w.reconcile()
			w.note("the environment changes back")
			w.edit(back)
			w.reconcile()
			w.reconcile()
		},
		"superseded": func(w *world) {
			w.ready()
			w.note("the environment changes")
			w.edit(production)
			w.reconcile()
			w.note("the environment changes again")
			w.edit(staging)
			w.reconcile()
			w.podsAvailable()
			w.reconcile()
			w.reconcile()
		},
		"stuck": func(w *world) {
			w.ready()
			w.note("the environment changes")
			w.edit(production)
			w.reconcile()
			w.note("the candidate exceeds its progress deadline")
			w.candidateStuck()
			w.reconcile()
			w.reconcile()
		},
		"scaled": func(w *world) {
			w.ready()
			w.note("five replicas: no revision changes")
			w.edit(fiveReplicas)
			w.reconcile()
			w.podsAvailable()
			w.reconcile()
		},
		"scaled-in-the-middle": func(w *world) {
			w.ready()
			w.note("the environment changes, then the size")
			w.edit(production)
			w.reconcile()
			w.edit(fiveReplicas)
			w.reconcile()
			w.podsAvailable()
			w.reconcile()
			w.reconcile()
		},
		"stable-lost": func(w *world) {
			w.ready()
			w.note("the environment changes, then the stable Deployment is deleted")
			w.edit(production)
			w.reconcile()
			w.children = without(w.children, mustFind[*appsv1.Deployment](w, "demo-"+w.fc.Status.Revisions.Stable))
			w.reconcile()
			w.reconcile()
			w.note("the pods become available")
			w.podsAvailable()
			w.reconcile()
			w.reconcile()
		},
		"change-while-the-flags-are-broken": func(w *world) {
			w.ready()
			w.note("the flags break, then the environment changes")
			w.flags = observed.Flags{State: observed.FlagsUnparseable, Error: "line 1"}
			w.edit(production)
			w.reconcile()
			w.note("the new pods serve the last good flags")
			w.podsAvailable()
			w.reconcile()
			w.reconcile()
			w.note("the flags are fixed")
			w.flags = observed.Flags{State: observed.FlagsLoaded}
			w.reconcile()
			w.reconcile()
		},
	}
	for name, script := range tests {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache())
			script(w)
			expectGolden(t, "rollout-"+name+".golden", strings.Join(w.trace, "\n")+"\n")
		})
	}
}

func TestChangesOfTheRevision(t *testing.T) {
	revision := func(w *world) string {
		w.reconcile()
		return mustFind[*corev1.Service](w, "demo").Spec.Selector[v1alpha1.LabelRevision]
	}
	tests := map[string]struct {
		change func(*v1alpha1.FlagCacheSpec)
		same   bool
	}{
		"replicas": {change: fiveReplicas, same: true},
		"probe":    {change: func(s *v1alpha1.FlagCacheSpec) { s.Probe.FailureThreshold = 9 }, same: true},
		"autoscaling": {change: func(s *v1alpha1.FlagCacheSpec) {
			s.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 1, MaxReplicas: 2}
		}, same: true},
		"image":       {change: func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v2" }},
		"environment": {change: production},
		"env":         {change: func(s *v1alpha1.FlagCacheSpec) { s.Service.Env = []v1alpha1.EnvVar{{Name: "A", Value: "b"}} }},
		"flags key":   {change: func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Key = "other.json" }, same: true},
		"flags name":  {change: func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Name = "demo-flags-7h2k" }, same: true},
		"cache": {change: func(s *v1alpha1.FlagCacheSpec) {
			s.Cache.Type, s.Cache.External = v1alpha1.CacheExternal, &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "my-redis"}}
		}},
	}
	before := revision(aWorld(t, aFlagCache()))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache())
			w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache")}}
			w.edit(test.change)
			if same := revision(w) == before; same != test.same {
				t.Errorf("the same revision: %v, want %v", same, test.same)
			}
		})
	}
}

// A change from an in-cluster Redis to another cache keeps the old one until the pods
// that use it are removed.
func TestOldCacheStaysUntilTheNewRevisionServes(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache")}}
	w.edit(func(s *v1alpha1.FlagCacheSpec) {
		s.Cache.Type, s.Cache.External = v1alpha1.CacheExternal, &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "my-redis"}}
	})
	w.reconcile()
	mustFind[*appsv1.StatefulSet](w, "demo-redis")
	w.podsAvailable()
	w.reconcile()
	mustFind[*appsv1.StatefulSet](w, "demo-redis")
	w.reconcile()
	if _, ok := observed.Get[*appsv1.StatefulSet](w.index(), "demo-redis"); ok {
		t.Errorf("the old Redis still exists although the new revision serves")
	}
	w.reconcile()
	w.expectSilence()
}
