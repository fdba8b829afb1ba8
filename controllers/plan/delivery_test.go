// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/service/config"
)

// flagsChanged gives the ConfigMap of the flags other content, which no pod serves yet.
func (w *world) flagsChanged(document string, behind ...string) {
	w.document = document
	w.reconcile()
	w.delivery = observed.Delivery{Of: digestOf(document), Known: true, Behind: behind, Since: w.now}
}

// wait lets time pass, and reconciles.
func (w *world) wait(d time.Duration) Plan {
	w.now = w.now.Add(d)
	return w.reconcile()
}

// A kubelet takes up to two minutes to update a mount, which is nothing to report.
func TestPodsThatAreBehind(t *testing.T) {
	cases := map[string]struct {
		prepare func(*world)
		reason  string
		message []string
		again   time.Duration
	}{
		"for a minute": {
			func(w *world) { w.flagsChanged("bbbb", "a"); w.wait(time.Minute) }, v1alpha1.ReasonValid, nil, 2 * time.Minute,
		},
		"for three minutes": {
			func(w *world) { w.flagsChanged("bbbb", "a", "b"); w.wait(3 * time.Minute) }, v1alpha1.ReasonPodsBehind,
			[]string{"demo-flags", "flags.json", "pods: a, b.", "delete these pods"}, 0,
		},
		"more than are named": {
			func(w *world) { w.flagsChanged("bbbb", "a", "b"); w.delivery.More = 7; w.wait(time.Hour) }, v1alpha1.ReasonPodsBehind,
			[]string{"pods: a, b and 7 more."}, 0,
		},
		"others after those that were reported": {
			func(w *world) {
				w.flagsChanged("bbbb", "a")
				w.wait(time.Hour)
				w.flagsChanged("cccc", "b")
				w.wait(time.Second)
			},
			v1alpha1.ReasonPodsBehind, []string{"pods: b."}, 0,
		},
		"until some cannot be asked": {
			func(w *world) {
				w.flagsChanged("bbbb", "a")
				w.wait(time.Hour)
				w.delivery = observed.Delivery{Of: digestOf("bbbb"), Incomplete: true}
			}, v1alpha1.ReasonPodsBehind, []string{"pods: a."}, 0,
		},
		"no longer": {
			func(w *world) {
				w.flagsChanged("bbbb", "a")
				w.wait(time.Hour)
				w.delivery = observed.Delivery{Of: digestOf("bbbb")}
			}, v1alpha1.ReasonValid, nil, 0,
		},
		"by a result about other flags": {
			func(w *world) { w.flagsChanged("bbbb", "a"); w.delivery.Of = digestOf("aaaa"); w.wait(time.Hour) }, v1alpha1.ReasonValid, nil, 0,
		},
		"and cannot be asked": {
			func(w *world) { w.flagsChanged("bbbb"); w.delivery.Incomplete = true; w.wait(time.Hour) }, v1alpha1.ReasonValid, nil, 0,
		},
		"with flags that were rejected": {
			func(w *world) {
				w.flagsChanged("bbbb", "a")
				w.flags.Problems = []string{"a problem"}
				w.wait(time.Hour)
			}, v1alpha1.ReasonFlagsRejected, nil, 0,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache())
			w.document = "aaaa"
			w.ready()
			c.prepare(w)
			again := w.reconcile().RequeueAfter
			status := metav1.ConditionFalse
			if c.reason == v1alpha1.ReasonValid {
				status = metav1.ConditionTrue
			}
			w.expect(v1alpha1.ConditionFlagsValid, status, c.reason)
			w.expectMessage(v1alpha1.ConditionFlagsValid, c.message...)
			if again != c.again {
				t.Errorf("reconciles again after %s, want %s", again, c.again)
			}
			w.expectSilence()
		})
	}
}

// Pods of an operator that did not publish flags mount the ConfigMap of the user.
func TestOnlyPodsThatReadTheDocumentAreToServeIt(t *testing.T) {
	w := aWorld(t, withCanary(aFlagCache()))
	w.ready()
	stable := w.fc.Status.Revisions.Stable
	expect := func(revisions ...string) {
		t.Helper()
		var got []string
		if target := w.reconcile().Delivery; target != nil {
			got = slices.Sorted(maps.Keys(target.Revisions))
		}
		slices.Sort(revisions)
		if d := cmp.Diff(revisions, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("the revisions that are to serve the document differ (-want +got):\n%s", d)
		}
	}
	expect(stable)
	w.upgraded()
	stable = w.fc.Status.Revisions.Stable
	expect()
	expect(stable)
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v2" })
	expect(stable)
	w.podsAvailable()
	candidate := w.fc.Status.Revisions.Candidate
	expect(stable, candidate)
	w.flags = observed.Flags{State: observed.FlagsUnparseable}
	expect(candidate)
	w.flags = observed.Flags{State: observed.FlagsLoaded}
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Name = "demo-flags-2" })
	expect(candidate)
}

// anExternalWorld holds one FlagCache with a Redis that others may use.
func anExternalWorld(t *testing.T, change func(*v1alpha1.FlagCache)) *world {
	fc := withExternal(aFlagCache())
	change(fc)
	w := aWorld(t, fc)
	w.document = "aaaa"
	w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache.example.com")}}
	return w
}

// Redis has the document of another store, as pods report.
func TestForeignStore(t *testing.T) {
	w := anExternalWorld(t, func(*v1alpha1.FlagCache) {})
	w.ready()
	pod := mustFind[*appsv1.Deployment](w, "demo-"+w.fc.Status.Revisions.Stable).Spec.Template.Spec
	if d := cmp.Diff([]string{"flagcache:shop/demo"}, variable(pod, config.EnvFlagsStore)); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", config.EnvFlagsStore, d)
	}
	if got := w.reconcile().Delivery; got == nil || !got.Shared {
		t.Errorf("the pods are asked %+v", got)
	}
	w.delivery = observed.Delivery{Of: digestOf("aaaa"), Known: true, Foreign: true}
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, v1alpha1.ReasonForeignStore)
	w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonForeignStore)
	w.expect(v1alpha1.ConditionFlagsValid, metav1.ConditionTrue, v1alpha1.ReasonValid)
	w.expectMessage(v1alpha1.ConditionCacheHealthy, "for environment "+w.fc.Spec.Environment)
	w.expectSilence()

	// A restarted operator knows nothing of pods yet, and some may not answer.
	for _, unknown := range []observed.Delivery{{}, {Of: digestOf("aaaa"), Known: true, Incomplete: true}} {
		w.delivery = unknown
		w.reconcile()
		w.expect(v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, v1alpha1.ReasonForeignStore)
	}
	w.delivery = observed.Delivery{Of: digestOf("aaaa"), Known: true}
	w.reconcile()
	w.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

// The ConfigMap may be deleted and created again, or have another name, without that its
// documents in Redis are taken for those of another store.
func TestStoreIsThatOfTheFlagCache(t *testing.T) {
	fc := aFlagCache()
	before := source.EnvVars(fc)
	fc.Spec.Flags.ConfigMap.Name = "another"
	if d := cmp.Diff(before, source.EnvVars(fc)); d != "" {
		t.Errorf("the variables differ (-before +after):\n%s", d)
	}
}

func TestForeignStoreWithADatabase(t *testing.T) {
	w := anExternalWorld(t, func(fc *v1alpha1.FlagCache) { withPostgres(fc) })
	w.database = databaseSecret("postgres://flags:s3cret@db.example.com:6432/flags?sslmode=require\n")
	w.flags = observed.Flags{}
	w.ready()
	pod := mustFind[*appsv1.Deployment](w, "demo-"+w.fc.Status.Revisions.Stable).Spec.Template.Spec
	if got := variable(pod, config.EnvFlagsStore); got != nil {
		t.Errorf("%s is %v, but the database identifies itself", config.EnvFlagsStore, got)
	}
	if got := w.reconcile().Delivery; got == nil || !got.Shared || got.Digest != "" || len(got.Revisions) != 1 {
		t.Errorf("the pods are asked %+v", got)
	}
	w.delivery = observed.Delivery{Known: true, Foreign: true}
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, v1alpha1.ReasonForeignStore)
	w.expectSilence()
}
