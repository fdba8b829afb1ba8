// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// flagsChanged gives the ConfigMap of the flags other content, which no pod serves yet.
func (w *world) flagsChanged(digest string, behind ...string) {
	w.flags.Digest = digest
	w.delivery = observed.Delivery{Of: digest, Behind: behind, Since: w.now}
}

// wait lets time pass, and reconciles.
func (w *world) wait(d time.Duration) Plan {
	w.now = w.now.Add(d)
	return w.reconcile()
}

// A ConfigMap that was made again under its name, while it is immutable.
func TestImmutableConfigMapThatIsMadeAgain(t *testing.T) {
	w := aWorld(t, aFlagCache())
	w.flags.Digest, w.flags.Immutable = "aaaa", true
	w.ready()
	w.note("the ConfigMap is deleted and created again with other flags")
	w.flagsChanged("bbbb", "demo-1a2b-0", "demo-1a2b-1")
	w.wait(time.Second)
	w.note("half a minute later the pods still serve the old ones")
	w.wait(30 * time.Second)
	w.expect(v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonPodsBehind)
	w.note(w.condition(v1alpha1.ConditionFlagsValid).Message)
	w.expectSilence()
	w.note("the operator restarts")
	w.delivery = observed.Delivery{}
	w.reconcile()
	w.note("the ConfigMap gets another name, and the pods of its revision serve it")
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Name = "demo-flags-2" })
	w.reconcile()
	w.podsAvailable()
	w.delivery = observed.Delivery{Of: "bbbb"}
	w.reconcile()
	w.podsAvailable()
	w.reconcile()
	w.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	expectGolden(t, "flags-immutable-made-again.golden", strings.Join(w.trace, "\n")+"\n")
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
				w.delivery = observed.Delivery{Of: "bbbb", Incomplete: true}
			}, v1alpha1.ReasonPodsBehind, []string{"pods: a."}, 0,
		},
		"no longer": {
			func(w *world) {
				w.flagsChanged("bbbb", "a")
				w.wait(time.Hour)
				w.delivery = observed.Delivery{Of: "bbbb"}
			}, v1alpha1.ReasonValid, nil, 0,
		},
		"by a result about other flags": {
			func(w *world) { w.flagsChanged("bbbb", "a"); w.delivery.Of = "aaaa"; w.wait(time.Hour) }, v1alpha1.ReasonValid, nil, 0,
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
			w.flags.Digest = "aaaa"
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

// While a candidate has another ConfigMap, the stable pods serve their own.
func TestOnlyPodsThatMountTheFlagsAreToServeThem(t *testing.T) {
	w := aWorld(t, withCanary(aFlagCache()))
	w.flags.Digest = "aaaa"
	w.ready()
	stable := w.fc.Status.Revisions.Stable
	if got := w.reconcile().Delivery; got == nil || got.Digest != "aaaa" || len(got.Revisions) != 1 || got.Revisions[stable].Ready != 2 {
		t.Errorf("the stable pods are to serve the flags, got %+v", got)
	}
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Name = "demo-flags-2" })
	w.flags.Digest = "bbbb"
	w.reconcile()
	w.delivery = observed.Delivery{}
	if got := w.reconcile().Delivery; got != nil {
		t.Errorf("no pod mounts the ConfigMap yet, got %+v", got)
	}
	w.podsAvailable()
	if got := w.reconcile().Delivery; got == nil || got.Revisions[w.fc.Status.Revisions.Candidate].Ready == 0 || len(got.Revisions) != 1 {
		t.Errorf("the pods of the candidate alone are to serve the flags, got %+v", got)
	}
	w.edit(func(s *v1alpha1.FlagCacheSpec) {
		s.Flags.ConfigMap = &v1alpha1.ConfigMapKey{Name: "demo-flags", Key: "other.json"}
	})
	if got := w.reconcile().Delivery; got != nil && got.Revisions[stable].Ready > 0 {
		t.Errorf("the stable pods read another key, got %+v", got)
	}
}
