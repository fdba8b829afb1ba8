// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

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
	replicas := func(s *v1alpha1.FlagCacheSpec) { s.Canary.Traffic.Type = v1alpha1.TrafficReplicas }
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
	scenarios := map[string]scenario{
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

// A ControllerRevision of an operator that did not keep templates gets the one that runs, in
// an annotation, because its data cannot change.
func TestTemplateOfAnOlderRecord(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache()))
	stable := sim.stable()
	holder := mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+stable)
	holder.Data = runtime.RawExtension{Raw: []byte(`{"revision":"` + stable + `"}`)}
	v2(sim)
	want := mustFind[*appsv1.Deployment](sim.world, "demo-"+stable).Spec.Template
	sim.deleteDeployment(stable)
	sim.tick()
	if d := cmp.Diff(want, mustFind[*appsv1.Deployment](sim.world, "demo-"+stable).Spec.Template); d != "" {
		t.Errorf("the Deployment was made again with another template (-want +got):\n%s", d)
	}
	if holder := mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+stable); string(holder.Data.Raw) != `{"revision":"`+stable+`"}` {
		t.Errorf("the data were changed to %s", holder.Data.Raw)
	}
}

// Whatever somebody writes in place of a template is not used, and not expanded without
// bounds.
func TestTemplateThatCannotBeDecoded(t *testing.T) {
	huge := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Args: []string{strings.Repeat("a", 2<<20)}}}}}
	if text := observed.TemplateAnnotation(huge); text != "" {
		t.Errorf("a template of 2 MiB is kept, in %d bytes", len(text))
	}
	random := make([]byte, 100<<10)
	source := rand.NewChaCha8([32]byte{1})
	for i := range random {
		random[i] = "0123456789abcdef"[source.Uint64()%16]
	}
	large := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Args: []string{string(random)}}}}}
	if text := observed.TemplateAnnotation(large); text != "" {
		t.Errorf("a template that leaves no space for the record is annotated, in %d bytes", len(text))
	}
	kept, ok := observed.TemplateOf(&appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: observed.RevisionData("deadbeef", &large)}})
	if d := cmp.Diff(large, kept); !ok || d != "" {
		t.Errorf("a template of 100 KiB is not kept in the data: %v\n%s", ok, d)
	}
	for name, text := range map[string]string{
		"not base64":   "none of your business",
		"not gzip":     base64.StdEncoding.EncodeToString([]byte("text")),
		"no container": observed.TemplateAnnotation(corev1.PodTemplateSpec{}),
	} {
		holder := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationTemplate: text}}}
		if _, ok := observed.TemplateOf(holder); ok {
			t.Errorf("%s: it counts as a template", name)
		}
	}
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
