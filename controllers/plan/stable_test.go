// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// losePods has no pod of a revision ready any more.
func (sim *simulation) losePods(revision string) {
	sim.note("no pod of " + sim.name(revision) + " is ready any more")
	if sim.lost == nil {
		sim.lost = map[string]bool{}
	}
	sim.lost[revision] = true
}

// returnPods has the pods of a revision ready again.
func (sim *simulation) returnPods(revision string) {
	sim.note("the pods of " + sim.name(revision) + " return")
	delete(sim.lost, revision)
}

// returnPart has some pods of a revision ready again, and no more.
func (sim *simulation) returnPart(revision string, ready int32) {
	sim.note(fmt.Sprintf("%d of the pods of %s is ready", ready, sim.name(revision)))
	delete(sim.lost, revision)
	sim.partial = map[string]int32{revision: ready}
}

// noteRecords adds a comment with the outcome of each revision on record.
func (sim *simulation) noteRecords() {
	var outcomes []string
	for revision, record := range readHistory(sim.index()).records {
		outcomes = append(outcomes, fmt.Sprintf("%s %q", sim.name(revision), record.Outcome))
	}
	slices.Sort(outcomes)
	sim.note("on record: " + strings.Join(outcomes, ", "))
}

// deleteDeployment deletes the Deployment of a revision.
func (sim *simulation) deleteDeployment(revision string) {
	sim.note("the Deployment of " + sim.name(revision) + " is deleted")
	sim.children = without(sim.children, mustFind[*appsv1.Deployment](sim.world, "demo-"+revision))
}

// selectRevision edits the selector of the Service.
func (sim *simulation) selectRevision(revision string) {
	sim.note("somebody lets the Service select " + sim.nameOrText(revision))
	mustFind[*corev1.Service](sim.world, "demo").Spec.Selector[v1alpha1.LabelRevision] = revision
}

func (sim *simulation) nameOrText(revision string) string {
	if name := sim.names[revision]; name != "" {
		return name
	}
	return revision
}

// A scenario is one in which the stable revision does not serve, or something that anybody
// can edit says so, with one line for each change of state.
func TestStableScenarios(t *testing.T) {
	type scenario struct {
		// broken: no pod of the first revision ever becomes ready.
		broken bool
		spec   func(*v1alpha1.FlagCacheSpec)
		script func(*simulation)
	}
	rollback := func(s *v1alpha1.FlagCacheSpec) { s.Canary.OnInconclusive = v1alpha1.InconclusiveRollback }
	replicas := func(s *v1alpha1.FlagCacheSpec) {
		s.Canary.Traffic.Type, s.Canary.Steps[0].Weight = v1alpha1.TrafficReplicas, 33
	}
	fix := func(sim *simulation) {
		sim.change(fromImage("flag-service:v2"))
		candidate := sim.candidate()
		sim.until("the promotion", sim.promoted(candidate))
		sim.runFor(10 * time.Minute)
	}
	inCanary := func(does func(sim *simulation, stable, candidate string)) func(*simulation) {
		return func(sim *simulation) {
			stable := sim.stable()
			candidate := v2(sim)
			does(sim, stable, candidate)
			sim.until("the promotion", sim.promoted(candidate))
			sim.runFor(10 * time.Minute)
		}
	}
	// inDelay has the second revision promoted, and the first one still running.
	inDelay := func(does func(sim *simulation, previous, stable string)) func(*simulation) {
		return func(sim *simulation) {
			previous := sim.stable()
			stable := v2(sim)
			sim.until("the promotion", sim.promoted(stable))
			does(sim, previous, stable)
		}
	}
	v3 := func(sim *simulation) string {
		sim.change(fromImage("flag-service:v3"))
		return sim.candidate()
	}
	scenarios := map[string]scenario{
		"previous-serves-and-the-spec-changes": {script: inDelay(func(sim *simulation, _, stable string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			candidate := v3(sim)
			sim.until("the promotion", sim.promoted(candidate))
			sim.runFor(10 * time.Minute)
		})},
		"previous-serves-and-the-next-fails": {script: inDelay(func(sim *simulation, _, stable string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			sim.setBad(v3(sim), canary.ErrorRate, 0.5)
			sim.until("the rollback", sim.rolledBack)
			sim.runFor(10 * time.Minute)
			sim.returnPods(stable)
			sim.runFor(time.Minute)
		})},
		"previous-serves-and-is-deleted": {script: inDelay(func(sim *simulation, previous, stable string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			candidate := v3(sim)
			sim.until("the first step", func() bool { return sim.weight() > 0 })
			sim.deleteDeployment(previous)
			sim.until("the promotion", sim.promoted(candidate))
		})},
		"previous-serves-and-the-spec-goes-back": {script: inDelay(func(sim *simulation, previous, stable string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			sim.change(fromImage(""))
			sim.until("the promotion", sim.promoted(previous))
			sim.runFor(10 * time.Minute)
		})},
		"previous-serves-while-some-pods-return": {script: inDelay(func(sim *simulation, _, stable string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			sim.returnPart(stable, 1)
			sim.runFor(10 * time.Minute)
			candidate := v3(sim)
			sim.until("the promotion", sim.promoted(candidate))
		})},
		"previous-serves-by-replicas": {spec: replicas, script: inDelay(func(sim *simulation, _, stable string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			candidate := v3(sim)
			sim.until("the promotion", sim.promoted(candidate))
		})},
		"some-pods-return": {script: inCanary(func(sim *simulation, stable, _ string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			sim.returnPart(stable, 1)
		})},
		"some-pods-return-and-the-candidate-fails": {script: func(sim *simulation) {
			stable := sim.stable()
			candidate := v2(sim)
			sim.losePods(stable)
			sim.runFor(time.Minute)
			sim.returnPart(stable, 1)
			sim.runFor(time.Minute)
			sim.setBad(candidate, canary.ErrorRate, 0.5)
			sim.until("the rollback", sim.rolledBack)
			sim.runFor(time.Minute)
		}},
		"selector-names-the-previous-while-pods-lack": {script: inDelay(func(sim *simulation, previous, stable string) {
			sim.returnPart(stable, 1)
			sim.runFor(time.Minute)
			sim.selectRevision(previous)
			sim.runFor(time.Minute)
		})},
		"selector-names-the-candidate-while-pods-lack": {spec: func(s *v1alpha1.FlagCacheSpec) {
			s.Service.Replicas = ptr.To[int32](4)
			s.Canary.Steps[0].Weight = 50
		}, script: func(sim *simulation) {
			stable := sim.stable()
			candidate := v2(sim)
			sim.until("the first step", func() bool { return sim.weight() > 0 })
			sim.returnPart(stable, 1)
			sim.selectRevision(candidate)
			sim.runFor(time.Minute)
		}},
		"the-spec-changes-at-the-promotion": {script: func(sim *simulation) {
			stable := v2(sim)
			sim.until("the switch", func() bool { return sim.index().Selected == stable })
			candidate := v3(sim)
			sim.noteRecords()
			sim.losePods(stable)
			sim.until("a new Service", func() bool { return sim.index().Selected != stable })
			sim.noteRecords()
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"autoscaled-while-the-candidate-serves": {spec: func(s *v1alpha1.FlagCacheSpec) {
			s.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 2, MaxReplicas: 9, TargetCPUPercent: 80}
		}, script: inCanary(func(sim *simulation, stable, candidate string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			sim.note("the autoscaler scales what serves to 5")
			target := mustFind[*autoscalingv2.HorizontalPodAutoscaler](sim.world, "demo").Spec.ScaleTargetRef.Name
			mustFind[*appsv1.Deployment](sim.world, target).Spec.Replicas = ptr.To[int32](5)
			sim.runFor(time.Minute)
			sim.returnPods(stable)
		})},
		"first-never-ready":             {broken: true, spec: rollback, script: fix},
		"first-never-ready-by-replicas": {broken: true, spec: replicas, script: fix},
		"first-never-ready-nor-the-next": {broken: true, script: func(sim *simulation) {
			sim.change(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:typo" })
			sim.losePods(sim.candidate())
			sim.runFor(time.Minute)
			fix(sim)
		}},
		"loses-its-pods-before-a-change": {spec: rollback, script: func(sim *simulation) {
			sim.losePods(sim.stable())
			sim.runFor(time.Minute)
			fix(sim)
		}},
		"loses-its-pods-for-long": {spec: rollback, script: inCanary(func(sim *simulation, stable, _ string) { sim.losePods(stable) })},
		"loses-its-pods-briefly": {script: inCanary(func(sim *simulation, stable, _ string) {
			sim.losePods(stable)
			sim.runFor(time.Minute)
			sim.returnPods(stable)
		})},
		"loses-its-pods-while-the-candidate-fails": {spec: rollback, script: func(sim *simulation) {
			stable := sim.stable()
			candidate := v2(sim)
			sim.losePods(stable)
			sim.setBad(candidate, canary.ErrorRate, 0.5)
			sim.runFor(time.Minute)
			sim.returnPods(stable)
			sim.until("the rollback", sim.rolledBack)
			sim.runFor(time.Minute)
		}},
		"loses-its-pods-and-the-candidate-is-aborted": {script: func(sim *simulation) {
			stable := sim.stable()
			candidate := v2(sim)
			sim.losePods(stable)
			sim.runFor(time.Minute)
			sim.annotate(v1alpha1.AnnotationAbort, candidate)
			sim.runFor(time.Minute)
			sim.returnPods(stable)
			sim.runFor(time.Minute)
		}},
		"loses-its-pods-after-a-promotion": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.until("the promotion", sim.promoted(candidate))
			sim.losePods(candidate)
			sim.runFor(20 * time.Minute)
			sim.returnPods(candidate)
			sim.runFor(time.Minute)
		}},
		"deleted": {script: inCanary(func(sim *simulation, stable, _ string) { sim.deleteDeployment(stable) })},
		"deleted-after-a-rollback": {script: func(sim *simulation) {
			stable := sim.stable()
			sim.annotate(v1alpha1.AnnotationAbort, v2(sim))
			sim.until("the rollback", sim.rolledBack)
			sim.runFor(time.Minute)
			sim.deleteDeployment(stable)
			sim.runFor(time.Minute)
		}},
		"selector-names-no-revision":   {script: inCanary(func(sim *simulation, _, _ string) { sim.selectRevision("deadbeef") })},
		"selector-names-the-candidate": {script: inCanary(func(sim *simulation, _, candidate string) { sim.selectRevision(candidate) })},
		"selector-names-the-previous": {script: func(sim *simulation) {
			previous := sim.stable()
			sim.until("the promotion", sim.promoted(v2(sim)))
			sim.runFor(10 * time.Minute)
			sim.change(fromImage("flag-service:v3"))
			candidate := sim.candidate()
			sim.until("the first step", func() bool { return sim.weight() > 0 })
			sim.selectRevision(previous)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"label-removed": {script: inCanary(func(sim *simulation, stable, _ string) {
			sim.note("somebody removes the label of the stable Deployment")
			delete(mustFind[*appsv1.Deployment](sim.world, "demo-"+stable).Labels, v1alpha1.LabelRevision)
		})},
		"labels-exchanged": {script: inCanary(func(sim *simulation, stable, candidate string) {
			sim.note("somebody exchanges the labels of both Deployments, and of their records")
			mustFind[*appsv1.Deployment](sim.world, "demo-"+stable).Labels[v1alpha1.LabelRevision] = candidate
			mustFind[*appsv1.Deployment](sim.world, "demo-"+candidate).Labels[v1alpha1.LabelRevision] = stable
			mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+stable).Labels[v1alpha1.LabelRevision] = candidate
			mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+candidate).Labels[v1alpha1.LabelRevision] = stable
		})},
	}
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) {
			fc := withCanary(aFlagCache())
			if scenario.spec != nil {
				scenario.spec(&fc.Spec)
			}
			var sim *simulation
			if scenario.broken {
				sim = newBrokenSimulation(t, fc)
			} else {
				sim = newSimulation(t, fc)
			}
			sim.conditions = true
			scenario.script(sim)
			expectGolden(t, "stable-"+name+".golden", strings.Join(sim.trace, "\n")+"\n")
		})
	}
}

// While nothing that was judged has a ready pod, a revision that was rejected, or may have been,
// serves only if no other one can.
func TestRejectedRevisionIsTheLastResort(t *testing.T) {
	for name, reject := range map[string]func(sim *simulation, candidate string){
		"rejected just now": func(sim *simulation, candidate string) { sim.annotate(v1alpha1.AnnotationAbort, candidate) },
		"rejected before": func(sim *simulation, candidate string) {
			sim.annotate(v1alpha1.AnnotationAbort, candidate)
			sim.reconcile()
		},
		"its record cannot be read": func(sim *simulation, candidate string) {
			mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+candidate).Annotations[v1alpha1.AnnotationRecord] = "{"
		},
	} {
		t.Run(name, func(t *testing.T) {
			sim := newSimulation(t, withCanary(aFlagCache()))
			stable, candidate, other := sim.stable(), v2(sim), "0badcafe"
			sim.until("the first step", func() bool { return sim.weight() > 0 })
			d := mustFind[*appsv1.Deployment](sim.world, "demo-"+candidate).DeepCopy()
			d.Name = "demo-" + other
			mustFind[*appsv1.Deployment](sim.world, "demo-"+stable).Status = appsv1.DeploymentStatus{}
			reject(sim, candidate)
			sim.put(d)
			sim.podsAvailable()
			mustFind[*appsv1.Deployment](sim.world, "demo-"+stable).Status = appsv1.DeploymentStatus{}
			sim.reconcile()
			if got := sim.index().Selected; got != other {
				t.Errorf("the Service selects %s, want %s, of which nothing is on record", sim.nameOrText(got), other)
			}
		})
	}
}

// newBrokenSimulation is one in which no pod of the first revision becomes ready.
func newBrokenSimulation(t *testing.T, fc *v1alpha1.FlagCache) *simulation {
	w := aWorld(t, fc)
	w.reconcile()
	w.trace = nil
	first := w.index().Selected
	w.probe = observed.Probe{Health: observed.Healthy}
	sim := &simulation{
		world: w, perSecond: 200, lookups: 2, lost: map[string]bool{first: true},
		bad: map[string]map[canary.Check]float64{}, counted: map[string]map[canary.Check][2]float64{}, names: map[string]string{},
	}
	sim.name(first)
	sim.runFor(time.Minute)
	sim.expect(v1alpha1.ConditionServing, metav1.ConditionFalse, v1alpha1.ReasonNoReadyReplicas)
	for _, record := range readHistory(sim.index()).records {
		if record.Outcome != "" {
			t.Errorf("the outcome of the first revision, which was never ready, is %s", record.Outcome)
		}
	}
	return sim
}

// The order of promotions does not depend on the clock.
func TestPromotionAfterTheClockWasSetBack(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache()))
	sim.now = sim.now.Add(-24 * time.Hour)
	candidate := v2(sim)
	sim.until("the promotion", sim.promoted(candidate))
	sim.children = without(sim.children, mustFind[*corev1.Service](sim.world, "demo"))
	sim.fc.Status.Revisions = nil
	sim.tick()
	if sim.stable() != candidate {
		t.Errorf("revision %s is stable, want the one that was promoted last", sim.name(sim.stable()))
	}
}
