// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

func TestNameConflictsNameAllObjects(t *testing.T) {
	w := aWorld(t, aFlagCache())
	for _, o := range []observed.Object{
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "demo-redis"}}, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "demo-redis"}},
	} {
		w.put(o)
	}
	w.reconcile()
	w.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)
	w.expectMessage(v1alpha1.ConditionStalled, "Service demo-redis, NetworkPolicy demo-redis exist and are not controlled by this FlagCache: delete or rename them")

	many := make([]observed.Object, 30)
	for i := range many {
		many[i] = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "taken"}}
	}
	if message := DescribeConflicts(many); !strings.Contains(message, ", 10 more exist") {
		t.Errorf("30 conflicts are described as %q", message)
	}
}

func TestImageOfOurContainer(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	d := observed.All[*appsv1.Deployment](w.index())[0]
	pod := &d.Spec.Template.Spec
	pod.Containers = slices.Insert(pod.Containers, 0, corev1.Container{Name: "injected", Image: "proxy:v7"})
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = true }) // the template stays as it is
	w.reconcile()
	if image := w.fc.Status.Service.Image; image != "flag-service:v1" {
		t.Errorf("the image is %q", image)
	}
}

// TestRolloutsThatAreSuspended: what is not rolled out is not reported as if it were.
func TestRolloutsThatAreSuspended(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache(), step(20, 5*time.Minute)))
	sim.edit(func(s *v1alpha1.FlagCacheSpec) {
		s.Suspend = true
		s.Service.Image = "flag-service:v2"
	})
	stable := sim.stable()
	sim.reconcile()
	sim.expect(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonSuspended)
	sim.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonSuspended)
	sim.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
	if got := *sim.fc.Status.Revisions; got != (v1alpha1.RevisionsStatus{Stable: stable}) {
		t.Errorf("the revisions are %+v, but nothing was started", got)
	}
	sim.expectSilence()
}

// TestServingWhileSuspended: what would serve without the suspension does not.
func TestServingWhileSuspended(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.FlagCacheSpec){
		"the same spec": func(*v1alpha1.FlagCacheSpec) {},
		"another spec":  fromImage("flag-service:v3"),
	} {
		t.Run(name, func(t *testing.T) {
			sim := newSimulation(t, withCanary(aFlagCache()))
			previous, stable := sim.stable(), v2(sim)
			sim.until("the promotion", sim.promoted(stable))
			sim.edit(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = true })
			sim.edit(change)
			sim.losePods(stable)
			sim.tick()
			sim.expect(v1alpha1.ConditionServing, metav1.ConditionFalse, v1alpha1.ReasonNoReadyReplicas)
			if message := sim.condition(v1alpha1.ConditionRolloutHealthy).Message; !strings.Contains(message, "No re") || strings.Contains(message, previous) {
				t.Errorf("RolloutHealthy: %s", message)
			}
		})
	}
}

// TestRolloutHealthyDoesNotSayThatClientsAreServed: that is the condition Serving.
func TestRolloutHealthyDoesNotSayThatClientsAreServed(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	observed.All[*appsv1.Deployment](w.index())[0].Status = appsv1.DeploymentStatus{}
	w.reconcile()
	w.expect(v1alpha1.ConditionServing, metav1.ConditionFalse, v1alpha1.ReasonNoReadyReplicas)
	if message := w.condition(v1alpha1.ConditionRolloutHealthy).Message; strings.Contains(message, "serving") {
		t.Errorf("RolloutHealthy: %s", message)
	}
}

func TestAnnotationsWithUnknownRevisions(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache(), step(20, 5*time.Minute)))
	first := sim.stable()
	sim.change(fromImage("flag-service:v2"))
	candidate := sim.candidate()
	for name, test := range map[string]struct {
		annotation, value string
		warnings          int
	}{
		"the candidate":        {annotation: v1alpha1.AnnotationPause, value: candidate},
		"an earlier revision":  {annotation: v1alpha1.AnnotationPromote, value: first},
		"no revision":          {annotation: v1alpha1.AnnotationPromote, value: "true", warnings: 1},
		"a typo":               {annotation: v1alpha1.AnnotationRetry, value: candidate + "0", warnings: 1},
		"more than is printed": {annotation: v1alpha1.AnnotationAbort, value: strings.Repeat("x", 10_000), warnings: 1},
	} {
		t.Run(name, func(t *testing.T) {
			sim.fc.Annotations = map[string]string{test.annotation: test.value}
			warnings := Make(sim.snapshot()).Warnings
			if len(warnings) != test.warnings {
				t.Fatalf("%d warnings, want %d: %v", len(warnings), test.warnings, warnings)
			}
			for _, w := range warnings {
				if w.Reason != v1alpha1.ReasonUnknownRevision || !strings.Contains(w.Message, test.annotation) || len(w.Message) > 300 {
					t.Errorf("%+v", w)
				}
			}
		})
	}
}

// TestAnnotationsThatAreIgnored: a request that cannot have an effect is reported.
func TestAnnotationsThatAreIgnored(t *testing.T) {
	inCluster, withToken := aFlagCache(), withElastiCache(aFlagCache())
	withIAM := withElastiCache(aFlagCache())
	withIAM.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
	for name, test := range map[string]struct {
		fc                *v1alpha1.FlagCache
		annotation, value string
		ignored           bool
	}{
		"objects of others":               {fc: inCluster, annotation: v1alpha1.AnnotationAdoptChildren, value: "true", ignored: true},
		"objects of a predecessor":        {fc: inCluster, annotation: v1alpha1.AnnotationAdoptChildren, value: string(inCluster.UID)},
		"a group without ElastiCache":     {fc: inCluster, annotation: v1alpha1.AnnotationAdopt, value: "fc-shop-demo-0", ignored: true},
		"a group":                         {fc: withToken, annotation: v1alpha1.AnnotationAdopt, value: "fc-shop-demo-0"},
		"another group":                   {fc: withToken, annotation: v1alpha1.AnnotationAdopt, value: "fc-shop-demo-1", ignored: true},
		"another operator":                {fc: inCluster, annotation: v1alpha1.AnnotationOperator, value: "team"},
		"no namespace":                    {fc: inCluster, annotation: v1alpha1.AnnotationOperator, value: "Team A", ignored: true},
		"a text that is no namespace":     {fc: inCluster, annotation: v1alpha1.AnnotationOperator, value: strings.Repeat("x", 1<<18), ignored: true},
		"a rotation in the cluster":       {fc: inCluster, annotation: v1alpha1.AnnotationRotateToken, value: "1", ignored: true},
		"a rotation with authentication":  {fc: withToken, annotation: v1alpha1.AnnotationRotateToken, value: "1"},
		"a rotation with credentials":     {fc: withIAM, annotation: v1alpha1.AnnotationRotateToken, value: "1", ignored: true},
		"a reconcile, which any value is": {fc: inCluster, annotation: v1alpha1.AnnotationReconcileAt, value: "now"},
	} {
		t.Run(name, func(t *testing.T) {
			fc := test.fc.DeepCopy()
			fc.Annotations = map[string]string{test.annotation: test.value}
			warnings := ignoredRequests(fc, "fc-shop-demo-0")
			if (len(warnings) == 1) != test.ignored || len(warnings) > 1 {
				t.Fatalf("the warnings are %v", warnings)
			}
			for _, w := range warnings {
				if w.Reason != v1alpha1.ReasonAnnotationIgnored || !strings.Contains(w.Message, test.annotation) || len(w.Message) > 300 {
					t.Errorf("%+v", w)
				}
			}
		})
	}
}

// TestAutoscalersOfOthers: a size that an autoscaler of somebody else chose is not reverted,
// and the next revision has it, too.
func TestAutoscalersOfOthers(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	stable := w.fc.Status.Revisions.Stable
	sized := func(revision string) int32 {
		return ptr.Deref(mustFind[*appsv1.Deployment](w, "demo-"+revision).Spec.Replicas, 0)
	}
	w.note("an autoscaler of somebody else scales the Deployment")
	mustFind[*appsv1.Deployment](w, "demo-"+stable).Spec.Replicas = ptr.To[int32](7)
	w.podsAvailable()
	if !ScaledByOthers(w.index()) {
		t.Error("7 replicas instead of 2 are not noticed")
	}
	w.autoscalers = map[string]string{stable: "theirs"}
	p := w.reconcile()
	w.expect(v1alpha1.ConditionServiceAvailable, metav1.ConditionTrue, v1alpha1.ReasonAvailable)
	if got := sized(stable); got != 7 || w.fc.Status.Service.Replicas != 7 {
		t.Errorf("the Deployment has %d replicas, and the status %d", got, w.fc.Status.Service.Replicas)
	}
	if len(p.Warnings) != 1 || p.Warnings[0].Reason != v1alpha1.ReasonForeignAutoscaler || !strings.Contains(p.Warnings[0].Message, "HorizontalPodAutoscaler theirs scales Deployment demo-"+stable) {
		t.Errorf("the warnings are %v", p.Warnings)
	}
	w.expectSilence()
	w.note("another revision starts at the same size")
	w.edit(fromImage("flag-service:v2"))
	w.reconcile()
	if got := sized(w.fc.Status.Revisions.Candidate); got != 7 {
		t.Errorf("the next revision starts with %d replicas", got)
	}
	w.podsAvailable()
	w.reconcile()
	w.note("the autoscaler targets what is not there any more")
	w.autoscalers = nil
	w.podsAvailable()
	w.reconcile()
	w.podsAvailable()
	w.reconcile()
	if got := sized(w.fc.Status.Revisions.Stable); got != 2 || w.fc.Status.Revisions.Stable == stable {
		t.Errorf("without an autoscaler the Deployment has %d replicas", got)
	}
	w.note("somebody scales the Deployment to zero, which autoscalers leave alone")
	stable = w.fc.Status.Revisions.Stable
	w.autoscalers = map[string]string{stable: "theirs"}
	mustFind[*appsv1.Deployment](w, "demo-"+stable).Spec.Replicas = ptr.To[int32](0)
	w.reconcile()
	if got := sized(stable); got != 2 {
		t.Errorf("a Deployment without replicas is left with %d", got)
	}
	expectGolden(t, "autoscaled-by-others.golden", strings.Join(w.trace, "\n")+"\n")
}
