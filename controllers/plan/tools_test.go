// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	kstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/test/golden"
)

// toolsFixtures is where the tests of GitOps tools read a FlagCache of each phase, relative to
// testdata.
const toolsFixtures = "../../../config/argocd/resource_customizations/flagcache.dev/FlagCache/testdata"

// toolsFixture is a FlagCache as tools read it, with the conditions alone in its status.
func toolsFixture(t *testing.T, fc *v1alpha1.FlagCache) string {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "FlagCache",
		"metadata": map[string]any{"name": fc.Name, "namespace": fc.Namespace, "generation": fc.Generation},
		"spec":     map[string]any{"suspend": fc.Spec.Suspend},
		"status":   map[string]any{"observedGeneration": fc.Status.ObservedGeneration, "conditions": fc.Status.Conditions},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWhatToolsReport: the rows of the table in docs/canary.md.
func TestWhatToolsReport(t *testing.T) {
	canaryOf := func(t *testing.T, prepare func(*simulation)) *world {
		sim := newSimulation(t, withCanary(aFlagCache()))
		prepare(sim)
		return sim.world
	}
	pending := func(t *testing.T) *world {
		w := aWorld(t, aFlagCache())
		w.reconcile()
		w.cachePods = observed.PodFailure{Reason: "Unschedulable", Message: noCPU}
		w.reconcile()
		return w
	}
	for name, row := range map[string]struct {
		world    func(*testing.T) *world
		ready    metav1.ConditionStatus
		reason   string
		serving  metav1.ConditionStatus
		computed kstatus.Status
	}{
		"the first revision starts": {
			world: func(t *testing.T) *world { w := aWorld(t, aFlagCache()); w.reconcile(); return w },
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonProvisioning, serving: metav1.ConditionFalse, computed: kstatus.InProgressStatus,
		},
		"at rest": {
			world: func(t *testing.T) *world { return aWorld(t, aFlagCache()).ready() },
			ready: metav1.ConditionTrue, reason: v1alpha1.ReasonReady, serving: metav1.ConditionTrue, computed: kstatus.CurrentStatus,
		},
		"a canary": {
			world: func(t *testing.T) *world { return canaryOf(t, func(sim *simulation) { v2(sim) }) },
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonCanaryProgressing, serving: metav1.ConditionTrue, computed: kstatus.InProgressStatus,
		},
		"a canary that is paused": {
			world: func(t *testing.T) *world {
				return canaryOf(t, func(sim *simulation) { sim.annotate(v1alpha1.AnnotationPause, v2(sim)); sim.tick() })
			},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonCanaryPaused, serving: metav1.ConditionTrue, computed: kstatus.InProgressStatus,
		},
		"a canary that is held": {
			world: func(t *testing.T) *world {
				return canaryOf(t, func(sim *simulation) {
					v2(sim)
					sim.runFor(time.Minute)
					sim.probe = observed.Probe{Health: observed.Unhealthy, Reason: "TimedOut", Message: "It does not answer"}
					sim.tick()
				})
			},
			ready: metav1.ConditionUnknown, reason: v1alpha1.ReasonCanaryHeld, serving: metav1.ConditionTrue, computed: kstatus.InProgressStatus,
		},
		"an inconclusive canary": {
			world: func(t *testing.T) *world {
				return canaryOf(t, func(sim *simulation) {
					sim.fc.Spec.Canary.MinimumRequests = 1_000_000_000
					v2(sim)
					sim.until("the deadline", func() bool {
						return sim.condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonCanaryInconclusive
					})
					sim.expectMessage(v1alpha1.ConditionReady, "The deadline of step 1 of revision "+sim.candidate()+" passed with too little evidence",
						"errorRate has about ", " of the 1000000000 requests that it needs", "none of the step's duration is left")
				})
			},
			ready: metav1.ConditionUnknown, reason: v1alpha1.ReasonCanaryInconclusive, serving: metav1.ConditionTrue, computed: kstatus.FailedStatus,
		},
		"rolled back": {
			world: func(t *testing.T) *world {
				return canaryOf(t, func(sim *simulation) {
					sim.setBad(v2(sim), canary.ErrorRate, 0.5)
					sim.until("the rollback", sim.rolledBack)
				})
			},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonRolledBack, serving: metav1.ConditionTrue, computed: kstatus.FailedStatus,
		},
		"the stable revision does not serve": {
			world: func(t *testing.T) *world {
				return canaryOf(t, func(sim *simulation) {
					v2(sim)
					sim.runFor(time.Minute)
					sim.losePods(sim.stable())
					sim.runFor(time.Minute)
				})
			},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonStableUnavailable, serving: metav1.ConditionTrue, computed: kstatus.InProgressStatus,
		},
		"pods do not come": {
			world: pending, ready: metav1.ConditionFalse, reason: "Unschedulable", serving: metav1.ConditionFalse, computed: kstatus.InProgressStatus,
		},
		"pods did not come in five minutes": {
			world: func(t *testing.T) *world {
				w := pending(t)
				w.now = w.now.Add(6 * time.Minute)
				w.reconcile()
				return w
			},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonProgressDeadlineExceeded, serving: metav1.ConditionFalse, computed: kstatus.FailedStatus,
		},
		"suspended": {
			world: func(t *testing.T) *world {
				w := aWorld(t, aFlagCache()).ready()
				w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = true })
				w.reconcile()
				return w
			},
			ready: metav1.ConditionUnknown, reason: v1alpha1.ReasonSuspended, serving: metav1.ConditionTrue, computed: kstatus.InProgressStatus,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := row.world(t)
			w.t = t
			w.expect(v1alpha1.ConditionReady, row.ready, row.reason)
			if got := w.condition(v1alpha1.ConditionServing).Status; got != row.serving {
				t.Errorf("Serving is %s, want %s", got, row.serving)
			}
			object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(w.fc)
			if err != nil {
				t.Fatal(err)
			}
			got, err := kstatus.Compute(&unstructured.Unstructured{Object: object})
			if err != nil || got.Status != row.computed {
				t.Errorf("kstatus is %+v, %v, want %s", got, err, row.computed)
			}
			golden.Expect(t, filepath.Join(toolsFixtures, strings.ReplaceAll(name, " ", "-")+".yaml"), toolsFixture(t, w.fc))
		})
	}
}
