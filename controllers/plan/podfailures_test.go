// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

const noCPU = "no node can run a pod: 0/3 nodes are available: 3 Insufficient cpu. Check its resources"

// TestRedisThatDoesNotStart: a StatefulSet has no progress deadline of its own.
func TestRedisThatDoesNotStart(t *testing.T) {
	w := aWorld(t, aFlagCache())
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonProvisioning)

	w.cachePods = observed.PodFailure{Reason: "Unschedulable", Message: noCPU, Since: w.now}
	w.now = w.now.Add(time.Minute)
	if p := w.reconcile(); p.RequeueAfter == 0 || p.RequeueAfter > 30*time.Second {
		t.Errorf("reconciled again after %v, but pods are not watched", p.RequeueAfter)
	}
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, "Unschedulable")
	w.expect(v1alpha1.ConditionReconciling, metav1.ConditionTrue, "Unschedulable")
	w.expectMessage(v1alpha1.ConditionReady, noCPU)

	w.now = w.now.Add(5 * time.Minute)
	w.reconcile()
	w.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonProgressDeadlineExceeded)
	w.expectMessage(v1alpha1.ConditionStalled, "StatefulSet demo-redis did not become ready in 300 seconds", noCPU, "delete Pod demo-redis-0")
	w.expectSilence()

	w.note("the spec is corrected, and the pod is deleted: another one may take as long")
	w.cachePods = observed.PodFailure{Since: w.now}
	w.reconcile()
	w.expect(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProvisioning)
	w.podsAvailable()
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionTrue, v1alpha1.ReasonProvisioned)
}

// TestRedisThatStops: the deadline begins when the pod was lost, however old its
// StatefulSet is.
func TestRedisThatStops(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.now = w.now.Add(24 * time.Hour)
	mustFind[*appsv1.StatefulSet](w, "demo-redis").Status.ReadyReplicas = 0
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonProvisioning)
	w.now = w.now.Add(4 * time.Minute)
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonProvisioning)
	w.now = w.now.Add(2 * time.Minute)
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonProgressDeadlineExceeded)
}

func TestFirstRevisionThatDoesNotStart(t *testing.T) {
	w := aWorld(t, aFlagCache())
	w.reconcile()
	w.reconcile()
	first := func() *appsv1.Deployment { return observed.All[*appsv1.Deployment](w.index())[0] }

	w.note("a quota, LimitRange, policy or webhook rejects its pods")
	first().Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
		Message: `pods "demo-1f2e-x7k2p" is forbidden: exceeded quota: all, requested: pods=1, used: pods=10, limited: pods=10`}}
	w.reconcile()
	w.expect(v1alpha1.ConditionServiceAvailable, metav1.ConditionFalse, "FailedCreate")
	w.expectMessage(v1alpha1.ConditionServiceAvailable, "exceeded quota: all, requested: pods=1, limited: pods=10. Change the quota")
	w.expectMessage(v1alpha1.ConditionServing, "exceeded quota: all")

	w.note("no node has room")
	first().Status.Conditions = nil
	w.pods = map[string]observed.PodFailure{first().Labels[v1alpha1.LabelRevision]: {Reason: "Unschedulable", Message: noCPU}}
	w.reconcile()
	w.expect(v1alpha1.ConditionServiceAvailable, metav1.ConditionFalse, "Unschedulable")

	w.note("not in time either")
	first().Status = appsv1.DeploymentStatus{ObservedGeneration: first().Generation,
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse}}}
	w.reconcile()
	w.expect(v1alpha1.ConditionServiceAvailable, metav1.ConditionFalse, v1alpha1.ReasonProgressDeadlineExceeded)
	w.expectMessage(v1alpha1.ConditionServiceAvailable, noCPU)
	w.expectSilence()
}

// TestNextRevisionThatDoesNotStart: without a canary, the stable revision serves on.
func TestNextRevisionThatDoesNotStart(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.edit(fromImage("flag-service:v2"))
	w.reconcile()
	w.pods = map[string]observed.PodFailure{w.fc.Status.Revisions.Candidate: {Reason: "Unschedulable", Message: noCPU}}
	w.candidateStuck()
	w.reconcile()
	w.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionFalse, v1alpha1.ReasonRolloutStuck)
	w.expectMessage(v1alpha1.ConditionRolloutHealthy, noCPU)
	w.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
}
