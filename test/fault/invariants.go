// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	claims "github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
)

// secretMarker is the beginning of all credentials of the World. Nothing else contains it.
const secretMarker = "LINNET"

// violation records that an invariant does not hold.
func (w *World) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.logf("!!!! %s", text)
	w.violations = append(w.violations, fmt.Sprintf("%s (call %d, reconciliation %d, %v)", text, w.calls, w.reconciles, w.time.Sub(w.start)))
}

// checkWrite verifies the invariants after a change of the store.
func (w oracle) checkWrite(k kind, before, after client.Object) {
	if k == flagCaches && after != nil {
		w.checkStatus(before, after)
	}
	if w.writer == operator {
		w.checkSecrecy(k, before, after)
		w.checkOperatorWrite(k, before, after) // before recordStable
	}
	w.checkKeys(k, before, after)
	w.canaryOracle().checkCanary(k, before, after)
	w.cloudOracle().checkCloud(k, before, after)
}

// checkOperatorWrite verifies the invariants that apply only to writes of the operator.
func (w oracle) checkOperatorWrite(k kind, before, after client.Object) {
	w.checkClaim(k, after)
	w.checkOwnership(k, before, after)
	w.checkPublished(k, before, after)
	switch k {
	case deployments:
		w.checkCapacity(before, after)
	case services:
		w.checkGate(before, after)
	case statefulSets:
		w.checkCacheInUse(after)
	case flagCaches:
		w.checkFinalizerLast(after)
	}
}

// checkClaim verifies that nothing is changed of a FlagCache that another operator handles.
func (w oracle) checkClaim(k kind, after client.Object) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return
	}
	if handler := claims.Handler(fc); handler != "" && handler != operatorNamespace {
		w.violation("S1 ownership: a %s was written (%v) of a FlagCache that the operator in namespace %s handles", k, after != nil, handler)
	}
}

// checkCacheInUse verifies S2: a cache is deleted only after a revision that does not use it has
// become stable.
func (w oracle) checkCacheInUse(after client.Object) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	serving, serves := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+w.canaryOracle().stable())
	if after != nil || !ok || fc.DeletionTimestamp != nil || !serves {
		return
	}
	for _, o := range w.api.now(deployments) {
		if serving.CreationTimestamp.Time.Before(o.GetCreationTimestamp().Time) {
			w.violation("S2 capacity: the cache was deleted before revision %s became stable", o.GetLabels()[v1alpha1.LabelRevision])
		}
	}
}

// checkFinalizerLast verifies S5: the FlagCache is removed after everything that was on the path of
// traffic.
func (w oracle) checkFinalizerLast(after client.Object) {
	if after != nil || w.plan.hasOutdatedDecisions() {
		return
	}
	for _, k := range []kind{services, deployments, statefulSets, autoscalers, users, userGroups, securityGroups, metricAlarms} {
		for _, o := range w.api.now(k) {
			if ownedByName(o) {
				w.violation("S5 preconditions: the finalizer was removed before %s %s", k, o.GetName())
				return
			}
		}
	}
}

// checkOwnership verifies S1: the operator writes only objects of the FlagCache.
func (w oracle) checkOwnership(k kind, before, after client.Object) {
	switch {
	case k == flagCaches && after == nil && before.GetDeletionTimestamp() == nil:
		w.violation("S1 ownership: the operator deleted the FlagCache")
	case k == flagCaches:
		w.checkSpecUntouched(before, after)
	case k == httpRoutes:
		w.checkRoute(before, after)
	case before != nil && !metav1.IsControlledBy(before, w.current.flagCache):
		w.violation("S1 ownership: %s %s was written but does not belong to the FlagCache", k, before.GetName())
	case after != nil && !metav1.IsControlledBy(after, w.current.flagCache):
		w.violation("S1 ownership: %s %s was created without an owner", k, after.GetName())
	}
}

func (w oracle) checkSpecUntouched(before, after client.Object) {
	if before != nil && after != nil && !sameSpec(before, after) {
		w.violation("S1 ownership: the operator changed the spec")
	}
}

// checkCapacity verifies S2: the operator does not reduce the pods of the stable revision.
func (w oracle) checkCapacity(before, after client.Object) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if before == nil || !ok || fc.DeletionTimestamp != nil {
		return
	}
	revision := strings.TrimPrefix(before.GetName(), name+"-")
	if after == nil && revision == w.clients.last {
		w.violation("S2 capacity: revision %s, the last that served, was deleted", revision)
	}
	if revision != w.canaryOracle().stable() {
		return
	}
	old := before.(*appsv1.Deployment)
	if after == nil {
		w.violation("S2 capacity: the stable revision was deleted")
		return
	}
	updated := after.(*appsv1.Deployment)
	if required := w.requiredReplicas(fc, old); ptr.Deref(updated.Spec.Replicas, 1) < min(required, ptr.Deref(old.Spec.Replicas, 1)) {
		w.violation("S2 capacity: the stable revision was scaled from %d to %d, it requires %d", ptr.Deref(old.Spec.Replicas, 1), ptr.Deref(updated.Spec.Replicas, 1), required)
	}
	if hash(old.Spec.Template) != hash(updated.Spec.Template) && old.Annotations[annotationTemplate] != hash(updated.Spec.Template) {
		w.violation("S2 capacity: the pods of the stable revision are replaced in place")
	}
}

// requiredReplicas returns the replicas that the stable revision must have.
func (w oracle) requiredReplicas(fc *v1alpha1.FlagCache, d *appsv1.Deployment) int32 {
	auto := fc.Spec.Service.Autoscaling
	if auto == nil {
		return ptr.Deref(fc.Spec.Service.Replicas, 2)
	}
	return min(ptr.Deref(d.Spec.Replicas, 1), auto.MaxReplicas)
}

// checkGate verifies S3: the Service does not select an unavailable revision while another one is
// serving.
func (w oracle) checkGate(before, after client.Object) {
	if before == nil || after == nil || before.GetName() != name {
		return
	}
	from, to := stableOf(before), stableOf(after)
	if from == to {
		return
	}
	old, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+from)
	serving := ok && old.Status.AvailableReplicas > 0
	// What serves before any promotion is on record is protected as well, unless it stood in.
	first := w.canaryOracle().lastPromoted() == "" && !w.canaryOracle().wasSuperseded(from)
	if serving && first || w.canaryOracle().protects(to) {
		w.canaryOracle().checkPromotion(to)
	}
	if !serving {
		return
	}
	next, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+to)
	if !ok || next.Status.AvailableReplicas < w.minimumReplicas(old, next) {
		w.violation("S3 gate: the Service was switched from revision %s to %s, which is not available", from, to)
	}
}

// minimumReplicas returns how many replicas a revision needs to replace another one.
func (w oracle) minimumReplicas(old, next *appsv1.Deployment) int32 {
	return max(1, min(old.Status.AvailableReplicas, ptr.Deref(next.Spec.Replicas, 1), ptr.Deref(w.current.flagCache.Spec.Service.Replicas, 1)))
}

func revisionOf(service client.Object) string {
	return service.(*corev1.Service).Spec.Selector[v1alpha1.LabelRevision]
}

// backgroundReasons are those of Reconciling beside Ready=True.
var backgroundReasons = []string{v1alpha1.ReasonModifying, v1alpha1.ReasonAWSRetrying, v1alpha1.ReasonRotationPending}

// checkStatus verifies S4: the status is correct; and S8: it never goes backwards.
func (w oracle) checkStatus(before, after client.Object) {
	fc := after.(*v1alpha1.FlagCache)
	if before != nil && before.GetUID() == after.GetUID() && fc.Status.ObservedGeneration < before.(*v1alpha1.FlagCache).Status.ObservedGeneration {
		w.violation("S8 monotonicity: observedGeneration decreased")
	}
	ready := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionReady)
	reconciling := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionReconciling)
	if c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReconciling); c != nil && slices.Contains(backgroundReasons, c.Reason) {
		reconciling = false // the cache is available meanwhile
	}
	stalled := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionStalled)
	if reconciling && stalled || ready && (reconciling || stalled) {
		w.violation("S4 truth: Ready %t, Reconciling %t and Stalled %t contradict each other", ready, reconciling, stalled)
	}
	if w.writer != operator {
		return
	}
	w.checkTransientFailure(fc)
	if fc.Status.ObservedGeneration > fc.Generation {
		w.violation("S4 truth: observedGeneration is in the future")
	}
	if ready && !w.plan.hasOutdatedDecisions() {
		w.checkReady(fc)
	}
}

// maxUnreportedFailures is the number of consecutive reconciliations in which the same call may
// fail before a condition reports it.
const maxUnreportedFailures = 8

// checkFailureReported verifies L4: while a call keeps failing, Ready is not True and has the
// reason; if the call is forbidden, with the verb and the resource.
func (w oracle) checkFailureReported() {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	inAWS := ok && fc.Spec.Cache.Type == v1alpha1.CacheElastiCache
	for i, p := range w.plan.points {
		if s := w.injections[i]; s.times > 0 && !reportable(p.fault, s.call, inAWS) {
			return
		}
	}
	for i, p := range w.plan.points {
		s := w.injections[i]
		if !ok || s.lastReconcile != w.reconciles || s.consecutive < maxUnreportedFailures {
			continue
		}
		ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady)
		switch {
		case ready == nil || ready.Status == metav1.ConditionTrue:
			w.violation("L4 honest stall: %q has failed (%s) in %d reconciliations, and Ready is %s", s.call, p.fault, s.consecutive, status(ready))
		case p.fault == forbidden && (ready.Reason != v1alpha1.ReasonForbidden ||
			!strings.Contains(ready.Message, fmt.Sprintf("cannot %s resource %q", s.call.verb, s.call.kind.groupResource().Resource))):
			w.violation("L4 honest stall: %q is forbidden, and Ready has %s: %s", s.call, ready.Reason, ready.Message)
		}
	}
}

func status(c *metav1.Condition) metav1.ConditionStatus {
	if c == nil {
		return "missing"
	}
	return c.Status
}

// reportable reports whether the operator can report that a call keeps failing: it is running, has
// read the FlagCache, and can write its status. Failures of ACK's kinds are not reported if the
// cache is elsewhere.
func reportable(f fault, c call, inAWS bool) bool {
	switch {
	case f == crashBefore || f == crashAfter || f == cancelled:
		return false
	case c.kind == flagCaches:
		return c.live || c.isWrite() && c.subresource == ""
	case c.kind >= replicationGroups:
		return inAWS
	default:
		return true
	}
}

// checkTransientFailure verifies L4: a read that fails at most three times is not reported in a
// condition. A cache that stands still meanwhile may be.
func (w oracle) checkTransientFailure(fc *v1alpha1.FlagCache) {
	ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionUnknown || len(w.plan.points) != 1 || len(w.plan.staleViews) > 0 {
		return
	}
	troubled := ready.Reason == v1alpha1.ReasonRetrying || ready.Reason == v1alpha1.ReasonForbidden
	if p := w.plan.points[0]; troubled && p.times != untilLifted {
		w.violation("L4 honest stall: a transient error is reported as %s", ready.Reason)
	}
}

// checkReady compares Ready=True with the state of the World.
func (w oracle) checkReady(fc *v1alpha1.FlagCache) {
	if fc.Status.ObservedGeneration != fc.Generation {
		w.violation("S4 truth: Ready is True for an earlier spec")
		return
	}
	revision := w.canaryOracle().stable()
	serving, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
	image := fc.Spec.Service.Image
	switch {
	case revision == "" || !ok:
		w.violation("S4 truth: Ready is True without a stable revision")
	case fc.Status.Revisions == nil || fc.Status.Revisions.Stable != revision:
		w.violation("S4 truth: Ready is True and the stable revision in the status is wrong")
	case image != "" && serving.Spec.Template.Spec.Containers[0].Image != image:
		w.violation("S4 truth: Ready is True and the stable revision has another image")
	case serving.Status.AvailableReplicas < min(w.requiredReplicas(fc, serving), ptr.Deref(serving.Spec.Replicas, 1)):
		w.violation("S4 truth: Ready is True with %d replicas available", serving.Status.AvailableReplicas)
	case find(w.api.now(secrets), name+"-connection") == nil:
		w.violation("S4 truth: Ready is True and there is no connection Secret")
	}
}

// checkPatch verifies S5: a patch has the UID and resource version that were read as preconditions.
func (w oracle) checkPatch(k kind, format types.PatchType, data []byte) {
	bound := bytes.Contains(data, []byte(`"resourceVersion"`)) || bytes.Contains(data, []byte(`/metadata/resourceVersion`))
	if format == types.ApplyPatchType {
		bound = bound && bytes.Contains(data, []byte(`"uid"`))
		var applied struct{ Metadata metav1.ObjectMeta }
		if err := json.Unmarshal(data, &applied); err != nil || applied.Metadata.UID == "" {
			bound = false
		}
	}
	if !bound {
		w.violation("S5 preconditions: a patch of %s has no UID and resource version", k)
	}
}

// checkDelete verifies S5: a deletion has the UID and resource version that were read as
// preconditions.
func (w oracle) checkDelete(k kind, name string, p *metav1.Preconditions) {
	if p == nil || p.UID == nil || p.ResourceVersion == nil {
		w.violation("S5 preconditions: the deletion of %s %s has no UID and resource version", k, name)
	}
}

// leaks returns the encodings in which a credential may leak.
var leaks = sync.OnceValue(func() []string {
	forms := []string{secretMarker, strings.ToLower(secretMarker), hex.EncodeToString([]byte(secretMarker))}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secretMarker + "xx"))
		forms = append(forms, text[(shift*8+5)/6:(shift+len(secretMarker))*8/6])
	}
	return forms
})

func leak(text string) bool {
	for _, form := range leaks() {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// checkSecrecy verifies S6: the operator writes no credential into an object, except into the data
// of a Secret.
func (w oracle) checkSecrecy(k kind, before, after client.Object) {
	if after == nil {
		return
	}
	written := withoutServerFields(after)
	switch o := written.(type) {
	case *corev1.Secret:
		o.Data = nil
	case *appsv1.ControllerRevision:
		if old, ok := before.(*appsv1.ControllerRevision); !ok || !bytes.Equal(old.Data.Raw, o.Data.Raw) || old.Annotations[v1alpha1.AnnotationTemplate] != o.Annotations[v1alpha1.AnnotationTemplate] {
			w.checkText("the template in "+o.Name, observed.ToJSON(observed.TemplatesOf(o)))
		}
	case *v1alpha1.FlagCache: // its status is the operator's
	default:
		if status := reflect.ValueOf(o).Elem().FieldByName("Status"); status.IsValid() {
			status.SetZero()
		}
	}
	text, err := json.Marshal(written)
	if err == nil && leak(string(text)) {
		w.violation("S6 secrecy: %s %s contains a credential", k, after.GetName())
	}
}

// checkError checks the text of an error, which is logged.
func (w oracle) checkError(err error) {
	if err != nil {
		w.checkText("an error", err.Error())
	}
}

// checkText checks a text that users can read.
func (w oracle) checkText(where, text string) {
	if leak(text) {
		w.violation("S6 secrecy: %s contains a credential: %s", where, text)
	}
}

// checkAtRest verifies the invariants of a World at rest.
func (w oracle) checkAtRest() {
	w.checkNetworkPolicy()
	w.checkConsent()
	w.checkFlagsAtRest()
	w.checkKeysAtRest()
	w.checkProbedAtRest()
	w.cloudOracle().checkCloudAtRest()
	w.canaryOracle().checkPromotionRecorded()
}

// checkConsent verifies that no Secret of the FlagCache has the label that lets others use a
// Secret.
func (w oracle) checkConsent() {
	for _, o := range w.api.now(secrets) {
		if ownedByName(o) && o.GetLabels()[v1alpha1.LabelAllow] != "" {
			w.violation("S6 secrecy: Secret %s has the label by which owners let others use theirs", o.GetName())
		}
	}
}

// checkProbedAtRest verifies L6: a Redis that is ready and can be reached was probed, and found to be
// healthy. That is after the few steps in which a World comes to rest.
func (w oracle) checkProbedAtRest() {
	for _, key := range w.redis.keys() {
		set, ok := w.kube().redisPod(w.redis[key].target.Addr)
		if !ok || set.Status.ReadyReplicas == 0 {
			continue
		}
		if last, known := w.redis.Last(key); !known || last.Outcome != probe.Healthy {
			w.violation("L6 probe: StatefulSet %s has a ready pod, and the result of its probe is %q", set.Name, last.Reason)
		}
	}
}

// checkNetworkPolicy verifies that the pods can reach the port of the published connection.
func (w oracle) checkNetworkPolicy() {
	policy, guarded := live[*networkingv1.NetworkPolicy](&w.api.store, policies, name)
	connection, published := live[*corev1.Secret](&w.api.store, secrets, name+"-connection")
	if !guarded || !published {
		return
	}
	for _, rule := range policy.Spec.Egress {
		for _, port := range rule.Ports {
			if port.Port.String() == string(connection.Data["port"]) {
				return
			}
		}
	}
	w.violation("S2 capacity: the NetworkPolicy does not allow the cache's port %s", connection.Data["port"])
}

// Number of reconciliations after convergence. The operator has no memory, so they all behave like
// the first one that changed nothing; reference runs nevertheless make all of them.
const (
	steadyReconciles         = 4
	steadyReconcilesThorough = 100
)

// checkSteadyState verifies L2: further reconciliations, and a restart before one of them, make no
// writes.
func (w oracle) checkSteadyState(count, restart int) {
	revision, requests, slotWrites := w.api.revision, w.requests, w.slotWrites
	counted, called, start := w.reconciles, w.calls, w.time
	w.plan = plan{scenario: w.plan.scenario}
	w.injections = nil
	for i := range count {
		if i == restart {
			w.process().restart()
		}
		w.setTime(w.time.Add(resync))
		w.queue = queue{}
		w.kube().act()
		w.process().runReconcile()
		w.kube().broadcaster()
		w.kube().broadcaster()
		if w.api.revision != revision || w.requests != requests || w.slotWrites != slotWrites {
			w.violation("L2 steady state: reconciliation %d after convergence still writes", i+1)
			return
		}
	}
	w.reconciles, w.calls = counted, called
	w.setTime(start)
}
