// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"bytes"
	"encoding/base64"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	podsecurity "k8s.io/pod-security-admission/api"
	podpolicy "k8s.io/pod-security-admission/policy"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
)

// A resource without a status counts as reconciled (kstatus), so the first reconcile
// writes one and creates nothing yet.
func TestFirstReconcileAddsOnlyTheFinalizer(t *testing.T) {
	fc := aFlagCache()
	fc.Finalizers = nil
	w := aWorld(t, fc)
	p := w.reconcile()
	if p.Finalizer != AddFinalizer || len(p.Apply) > 0 {
		t.Errorf("finalizer %v, applying %v; want the finalizer alone", p.Finalizer, names(p.Apply))
	}
	w.expect(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonInitializing)
	w.expect(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonInitializing)
}

// The children are in testdata as YAML, so that changes show in review.
func TestChildrenOfAFlagCache(t *testing.T) {
	tests := map[string]*v1alpha1.FlagCache{
		"incluster.golden": aFlagCache(),
		"external.golden":  withExternal(aFlagCache()),
		"autoscaled.golden": func() *v1alpha1.FlagCache {
			fc := aFlagCache()
			fc.Spec.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 3, MaxReplicas: 9, TargetCPUPercent: 70}
			return fc
		}(),
	}
	for file, fc := range tests {
		t.Run(file, func(t *testing.T) {
			w := aWorld(t, fc)
			w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"uri": []byte("rediss://app:s3cret@cache.example.com:6380")}}
			var text bytes.Buffer
			for _, o := range w.reconcile().Apply {
				if _, record := o.(*appsv1.ControllerRevision); record {
					continue // it has the pod template of the Deployment, compressed
				}
				fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
				if err != nil {
					t.Fatal(err)
				}
				delete(fields, "status")
				document, err := yaml.Marshal(fields)
				if err != nil {
					t.Fatal(err)
				}
				text.WriteString("---\n")
				text.Write(document)
			}
			expectGolden(t, file, text.String())
		})
	}
}

func TestPodsMeetPodSecurityRestricted(t *testing.T) {
	evaluator, err := podpolicy.NewEvaluator(podpolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, o := range aWorld(t, aFlagCache()).reconcile().Apply {
		var pod corev1.PodTemplateSpec
		switch o := o.(type) {
		case *appsv1.Deployment:
			pod = o.Spec.Template
		case *appsv1.StatefulSet:
			pod = o.Spec.Template
		default:
			continue
		}
		for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				t.Errorf("%s: %s: %s", name(o), result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
	}
}

// GitOps tools would take an object with their labels for one of theirs.
func TestMetadataOfTheFlagCacheIsNotCopied(t *testing.T) {
	fc := aFlagCache()
	fc.Labels = map[string]string{"app.kubernetes.io/instance": "argo-app"}
	fc.Annotations = map[string]string{"argocd.argoproj.io/tracking-id": "app:flagcache.dev/FlagCache:shop/demo"}
	for _, o := range aWorld(t, fc).reconcile().Apply {
		annotations := maps.Clone(o.GetAnnotations())
		delete(annotations, v1alpha1.AnnotationRecord)
		if o.GetLabels()["app.kubernetes.io/instance"] != "" || len(annotations) > 0 {
			t.Errorf("%s carries labels %v and annotations %v", name(o), o.GetLabels(), o.GetAnnotations())
		}
	}
}

func TestSteadyStateChangesNothing(t *testing.T) {
	t.Run("in the cluster", func(t *testing.T) { aWorld(t, aFlagCache()).ready().expectSilence() })
	t.Run("autoscaled", func(t *testing.T) {
		fc := aFlagCache()
		fc.Spec.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 3, MaxReplicas: 9, TargetCPUPercent: 70}
		aWorld(t, fc).ready().expectSilence()
	})
	t.Run("external", func(t *testing.T) {
		w := aWorld(t, withExternal(aFlagCache()))
		w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache.example.com")}}
		w.ready().expectSilence()
	})
}

func without(objects []observed.Object, gone observed.Object) []observed.Object {
	var rest []observed.Object
	for _, o := range objects {
		if !observed.Same(o, gone) {
			rest = append(rest, o)
		}
	}
	return rest
}

func TestReasonsForNotReady(t *testing.T) {
	external := func(w *world) { withExternal(w.fc) }
	tests := map[string]struct {
		given   func(*world)
		reason  string
		says    []string
		stalled bool
	}{
		"no ConfigMap yet": {
			given: func(w *world) { w.flags = observed.Flags{State: observed.FlagsNoConfigMap} }, reason: v1alpha1.ReasonConfigMapNotFound, says: []string{"demo-flags", "create it"},
		},
		"the ConfigMap lacks the key": {
			given: func(w *world) { w.flags = observed.Flags{State: observed.FlagsNoKey} }, reason: v1alpha1.ReasonKeyNotFound, says: []string{"flags.json"},
		},
		"flags that are not JSON": {
			given: func(w *world) {
				w.flags = observed.Flags{State: observed.FlagsUnparseable, Error: "line 3, column 7: unexpected }"}
			},
			reason: v1alpha1.ReasonUnparseable, says: []string{"line 3, column 7"}, stalled: true,
		},
		"some invalid flags": {
			given: func(w *world) {
				w.flags = observed.Flags{State: observed.FlagsLoaded, Problems: []string{"p1", "p2", "p3", "p4", "p5"}}
			},
			reason: v1alpha1.ReasonFlagsRejected, says: []string{"p1; p2; p3; and 2 more"}, stalled: true,
		},
		"no Secret": {
			given: external, reason: v1alpha1.ReasonSecretNotFound, says: []string{"my-redis", "create it"},
		},
		"a Secret without permission": {
			given:  func(w *world) { external(w); w.secret.Presence = observed.NotPermitted },
			reason: v1alpha1.ReasonSecretNotPermitted, says: []string{"kubectl label secret my-redis flagcache.dev/allow=true"}, stalled: true,
		},
		"the Secret of another FlagCache": {
			given: func(w *world) {
				external(w)
				w.secret = observed.ExternalSecret{Presence: observed.Owned, Owner: "shop"}
			},
			reason: v1alpha1.ReasonSecretNotPermitted, says: []string{"Secret my-redis belongs to FlagCache shop"}, stalled: true,
		},
		"a Secret without keys": {
			given:  func(w *world) { external(w); w.secret.Presence = observed.Present },
			reason: v1alpha1.ReasonSecretInvalid, says: []string{"neither the key uri nor the key host"}, stalled: true,
		},
		"a Redis that is starting": {
			given: func(*world) {}, reason: v1alpha1.ReasonProvisioning, says: []string{"StatefulSet demo-redis"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache())
			test.given(w)
			w.reconcile()
			w.reconcile()
			w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, test.reason)
			w.expectMessage(v1alpha1.ConditionReady, test.says...)
			if got := meta.IsStatusConditionTrue(w.fc.Status.Conditions, v1alpha1.ConditionStalled); got != test.stalled {
				t.Errorf("Stalled is %v, want %v", got, test.stalled)
			}
			if meta.IsStatusConditionTrue(w.fc.Status.Conditions, v1alpha1.ConditionReconciling) == test.stalled {
				t.Errorf("want exactly one of Reconciling and Stalled")
			}
			w.expectSilence()
		})
	}
}

func TestCacheFailureIsReported(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	before := w.fc.Status
	w.probe = observed.Probe{Health: observed.Unhealthy, Reason: "ConnectionRefused", Message: "demo-redis.shop.svc:6379 refuses connections"}
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, "ConnectionRefused")
	w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, "ConnectionRefused")
	w.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
	want := []Event{
		{Type: "Warning", Reason: "ConnectionRefused", Action: "Ready", Message: "demo-redis.shop.svc:6379 refuses connections"},
		{Type: "Warning", Reason: "ConnectionRefused", Action: "CacheHealthy", Message: "demo-redis.shop.svc:6379 refuses connections"},
	}
	if d := cmp.Diff(want, Transitions(before, w.fc.Status)); d != "" {
		t.Errorf("events differ (-want +got):\n%s", d)
	}
	w.expectSilence()
}

// After a restart of the operator the prober has no result yet. Until it has, the last
// one stands; otherwise the cache would be reported as failed.
func TestOperatorRestartChangesNothing(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.probe = observed.Probe{}
	w.expectSilence()
}

// A probe that is too early fails, and the next one is an interval later.
func TestInClusterRedisIsProbedOnceReady(t *testing.T) {
	w := aWorld(t, aFlagCache())
	if p := w.reconcile(); p.Probe != nil {
		t.Error("Redis is probed before its pod was ready")
	}
	w.expect(v1alpha1.ConditionCacheHealthy, metav1.ConditionUnknown, v1alpha1.ReasonProbing)
	w.podsAvailable()
	if p := w.reconcile(); p.Probe == nil {
		t.Error("Redis is ready, but not probed")
	}
	w.ready()
	mustFind[*appsv1.StatefulSet](w, "demo-redis").Status.ReadyReplicas = 0
	if p := w.reconcile(); p.Probe == nil {
		t.Error("Redis is no longer probed because its pod is not ready")
	}
}

func TestStatusIgnoresSmallChangesOfLatency(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.probe.Latency = "50ms"
	w.expectSilence()
	w.edit(func(spec *v1alpha1.FlagCacheSpec) { spec.Service.Replicas = ptr.To[int32](3) })
	w.reconcile()
	if got := w.fc.Status.Probe.Latency; got != "50ms" {
		t.Errorf("the latency in the status is %s, want that of the last written probe", got)
	}
}

func TestNameConflict(t *testing.T) {
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "shop", Labels: map[string]string{v1alpha1.LabelName: "demo"}}}
	predecessors := theirs.DeepCopy()
	predecessors.OwnerReferences = []metav1.OwnerReference{{APIVersion: "flagcache.dev/v1alpha1", Kind: "FlagCache", Name: "demo", UID: "uid-0", Controller: ptr.To(true)}}
	for name, other := range map[string]*corev1.Service{"without an owner": theirs, "of a FlagCache that had the name before": predecessors} {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache())
			w.children = append(w.children, other)
			p := w.reconcile()
			if observed.Contains(p.Apply, other) || observed.Contains(p.Delete, other) {
				t.Errorf("the plan changes it")
			}
			if p.RequeueAfter == 0 {
				t.Errorf("no watch reports when the name is free again, so the plan needs a RequeueAfter")
			}
			w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
			w.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)
			w.expectMessage(v1alpha1.ConditionReady, "Service demo exists")
		})
	}
}

func TestSpecThatIsNotPermittedChangesNothing(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "evil:v1" })
	w.violations = []policy.Violation{{Field: "service.image", Problem: `"evil:v1" is not permitted; permitted: ghcr.io/acme/`}, {Field: "service.podLabels"}}
	p := w.reconcile()
	if len(p.Apply)+len(p.Delete) > 0 {
		t.Errorf("applied %d and deleted %d objects", len(p.Apply), len(p.Delete))
	}
	if p.Probe == nil || p.ProbeNext != nil || p.Evidence != nil {
		t.Errorf("the connection in use is probed: %t; another one: %t; the canary is sampled: %t", p.Probe != nil, p.ProbeNext != nil, p.Evidence != nil)
	}
	w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotPermitted)
	w.expectMessage(v1alpha1.ConditionReady, `spec.service.image: "evil:v1" is not permitted; permitted: ghcr.io/acme/ (and 1 more)`, "ask the administrator")
	w.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNotPermitted)
	w.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
	w.expectSilence()

	w.violations = nil
	if p := w.reconcile(); len(p.Apply) == 0 {
		t.Error("nothing is applied once it is permitted")
	}
}

func TestSuspendChangesNothing(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = true; s.Service.Replicas = ptr.To[int32](5) })
	p := w.reconcile()
	if len(p.Apply)+len(p.Delete) > 0 {
		t.Errorf("applying %v, deleting %v", names(p.Apply), names(p.Delete))
	}
	w.expect(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonSuspended)
	w.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
}

func TestDeletionIsSequential(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	revision := w.fc.Status.Revisions.Stable
	private := mustFind[*appsv1.Deployment](w, "demo-"+revision).Spec.Template.Spec.Volumes[1].Secret.SecretName
	w.fc.DeletionTimestamp = ptr.To(metav1.NewTime(noon))
	var stages []string
	for range 6 {
		p := w.reconcile()
		stages = append(stages, strings.Join(names(p.Delete), ", "))
		if p.Probe != nil {
			t.Errorf("the cache is still probed")
		}
	}
	want := []string{
		"Service demo",
		"Deployment demo-" + revision,
		"StatefulSet demo-redis",
		"Secret demo-redis, ConfigMap demo-published-flags, Service demo-redis, NetworkPolicy demo-redis, Secret demo-integrity, ConfigMap demo-client, Secret " + private +
			", Secret demo-connection, NetworkPolicy demo, PodDisruptionBudget demo-" + revision + ", ControllerRevision demo-" + revision,
		"", "",
	}
	if d := cmp.Diff(want, stages); d != "" {
		t.Errorf("stages differ (-want +got):\n%s", d)
	}
	if len(w.fc.Finalizers) > 0 {
		t.Errorf("the finalizer still exists")
	}
}

func TestDeletionWaitsForRemainingObjects(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.fc.DeletionTimestamp = ptr.To(metav1.NewTime(noon))
	svc := mustFind[*corev1.Service](w, "demo")
	svc.DeletionTimestamp, svc.Finalizers = ptr.To(metav1.NewTime(noon)), []string{"example.com/slow"}
	p := w.reconcile()
	if len(p.Delete) > 0 || p.Finalizer != KeepFinalizer {
		t.Errorf("deleting %v, finalizer %v; want to wait", names(p.Delete), p.Finalizer)
	}
	w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting)
	w.expectMessage(v1alpha1.ConditionReady, "Waiting for Service demo")
}

// Objects of a predecessor with the same name are not deleted.
func TestDeletionLeavesForeignObjects(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	other := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "demo-other", Namespace: "shop", Labels: map[string]string{v1alpha1.LabelName: "demo"}}}
	w.children = append(w.children, other)
	w.fc.DeletionTimestamp = ptr.To(metav1.NewTime(noon))
	for range 5 {
		w.reconcile()
	}
	if d := cmp.Diff([]string{"Secret demo-other"}, names(w.children)); d != "" {
		t.Errorf("the remaining objects differ (-want +got):\n%s", d)
	}
}

func TestFailedCallsAreReportedByReady(t *testing.T) {
	tests := map[string]struct {
		failure Failure
		stalled bool
	}{
		"retried":    {failure: Failure{Reason: v1alpha1.ReasonRetrying, Message: "applying Service demo failed (InternalError)"}},
		"forbidden":  {failure: Failure{Reason: v1alpha1.ReasonForbidden, Message: "services is forbidden"}},
		"name taken": {failure: Failure{Reason: v1alpha1.ReasonNameConflict, Message: "Service demo exists"}, stalled: true},
		"invalid":    {failure: Failure{Reason: v1alpha1.ReasonInvalidChild, Message: "spec.x is invalid"}, stalled: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache()).ready()
			w.fc.Status = Conclude(w.snapshot(), Make(w.snapshot()), []Failure{test.failure})
			w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, test.failure.Reason)
			if test.stalled {
				w.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, test.failure.Reason)
			} else {
				w.expect(v1alpha1.ConditionReconciling, metav1.ConditionTrue, test.failure.Reason)
			}
		})
	}
}

func TestConditionsHaveTheCurrentGeneration(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Probe.FailureThreshold = 5 })
	w.reconcile()
	for _, c := range w.fc.Status.Conditions {
		if c.ObservedGeneration != w.fc.Generation {
			t.Errorf("%s has the generation %d, want %d", c.Type, c.ObservedGeneration, w.fc.Generation)
		}
	}
}

// A credential in the status would be readable by everyone who may list FlagCaches.
func TestNoCredentialReachesStatusOrEvents(t *testing.T) {
	w := aWorld(t, withExternal(aFlagCache()))
	w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"uri": []byte("redis://app:s3cret-value@cache:6379")}}
	before := w.fc.Status
	w.ready()
	text, err := yaml.Marshal(w.fc.Status)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range Transitions(before, w.fc.Status) {
		text = append(text, e.Message...)
	}
	for _, form := range []string{"s3cret-value", base64.StdEncoding.EncodeToString([]byte("s3cret-value"))} {
		if strings.Contains(string(text), form) {
			t.Errorf("the password is in the status or an event:\n%s", text)
		}
	}
}

// The autoscaler owns the size of the stable revision; the next revision takes over at
// that size.
func TestAutoscalerOwnsTheReplicas(t *testing.T) {
	fc := aFlagCache()
	fc.Spec.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 2, MaxReplicas: 9, TargetCPUPercent: 70}
	w := aWorld(t, fc).ready()
	stable := w.fc.Status.Revisions.Stable
	mustFind[*appsv1.Deployment](w, "demo-"+stable).Spec.Replicas = ptr.To[int32](7)
	w.podsAvailable()
	w.reconcile()
	w.expectSilence()
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Environment = "production" })
	w.reconcile()
	candidate := mustFind[*appsv1.Deployment](w, "demo-"+w.fc.Status.Revisions.Candidate)
	if got := *candidate.Spec.Replicas; got != 7 {
		t.Errorf("the candidate has %d replicas, want 7, as the stable revision", got)
	}
	if got := mustFind[*autoscalingv2.HorizontalPodAutoscaler](w, "demo").Spec.ScaleTargetRef.Name; got != "demo-"+stable {
		t.Errorf("the autoscaler scales %s before the candidate is stable", got)
	}
}

// Autoscaling was removed from the spec together with a change of the pods: the autoscaler and the operator would set the size in turns.
func TestAutoscalerIsDeletedDuringARollout(t *testing.T) {
	fc := aFlagCache()
	fc.Spec.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 3, MaxReplicas: 9, TargetCPUPercent: 70}
	w := aWorld(t, fc).ready()
	w.edit(func(s *v1alpha1.FlagCacheSpec) {
		s.Environment, s.Service.Autoscaling, s.Service.Replicas = "production", nil, ptr.To[int32](4)
	})
	w.reconcile()
	if _, ok := observed.Get[*autoscalingv2.HorizontalPodAutoscaler](w.index(), "demo"); ok {
		t.Errorf("the autoscaler still exists")
	}
}
