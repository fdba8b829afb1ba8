// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// secretMarker begins every credential of the World: a word that nothing else has.
const secretMarker = "LINNET"

// violate notes that an invariant did not hold.
func (w *World) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.filmed("!!!! %s", text)
	w.broken = append(w.broken, fmt.Sprintf("%s (call %d, look %d, %v)", text, w.calls, w.looks, w.time.Sub(w.began)))
}

// checkWrite holds the invariants against a change of the store.
func (w *World) checkWrite(k kind, before, after client.Object) {
	if k == flagCaches && after != nil {
		w.checkStatus(before, after)
	}
	if k != secrets && after != nil {
		w.checkSecrecy(k, after)
	}
	if w.writer == operator {
		w.checkOwn(k, before, after) // before it is noted who serves by now
	}
	w.checkCanary(k, before, after)
	w.checkCloud(k, before, after)
}

// checkOwn holds the invariants that are about the operator's writes alone.
func (w *World) checkOwn(k kind, before, after client.Object) {
	w.checkOwnership(k, before, after)
	switch k {
	case deployments:
		w.checkCapacity(before, after)
	case services:
		w.checkGate(before, after)
	case statefulSets:
		w.checkCacheKept(after)
	case flagCaches:
		w.checkLast(after)
	}
}

// checkCacheKept: S2, a cache goes only after the revision that does without it
// has come to serve.
func (w *World) checkCacheKept(after client.Object) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	serving, serves := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+w.serving())
	if after != nil || !ok || fc.DeletionTimestamp != nil || !serves {
		return
	}
	for _, o := range w.api.now(deployments) {
		if serving.CreationTimestamp.Time.Before(o.GetCreationTimestamp().Time) {
			w.violate("S2 capacity: the cache was deleted before revision %s served", o.GetLabels()[v1alpha1.LabelRevision])
		}
	}
}

// checkLast: the FlagCache goes after all that traffic went through.
func (w *World) checkLast(after client.Object) {
	if after != nil || w.plan.changesView() {
		return
	}
	for _, k := range []kind{services, deployments, statefulSets, autoscalers, users, userGroups, securityGroups, metricAlarms} {
		for _, o := range w.api.now(k) {
			if ownedByName(o) {
				w.violate("S5 preconditions: the finalizer went before %s %s", k, o.GetName())
				return
			}
		}
	}
}

// checkOwnership: S1, the operator touches nothing that is not the FlagCache's.
func (w *World) checkOwnership(k kind, before, after client.Object) {
	switch {
	case k == flagCaches && after == nil && before.GetDeletionTimestamp() == nil:
		w.violate("S1 ownership: the operator deleted the FlagCache")
	case k == flagCaches:
		w.checkSpecUntouched(before, after)
	case k == httpRoutes:
		w.checkRoute(before, after)
	case before != nil && !metav1.IsControlledBy(before, w.current.read):
		w.violate("S1 ownership: %s %s is not the FlagCache's and was written", k, before.GetName())
	case after != nil && !metav1.IsControlledBy(after, w.current.read):
		w.violate("S1 ownership: %s %s was made without an owner", k, after.GetName())
	}
}

func (w *World) checkSpecUntouched(before, after client.Object) {
	if before != nil && after != nil && !sameSpec(before, after) {
		w.violate("S1 ownership: the operator wrote into the spec")
	}
}

// checkCapacity: S2, the revision that serves does not lose pods by the
// operator.
func (w *World) checkCapacity(before, after client.Object) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if before == nil || !ok || fc.DeletionTimestamp != nil || before.GetLabels()[v1alpha1.LabelRevision] != w.serving() {
		return
	}
	old := before.(*appsv1.Deployment)
	if after == nil {
		w.violate("S2 capacity: the revision that serves was deleted")
		return
	}
	updated := after.(*appsv1.Deployment)
	if wanted := w.wantedReplicas(fc, old); ptr.Deref(updated.Spec.Replicas, 1) < min(wanted, ptr.Deref(old.Spec.Replicas, 1)) {
		w.violate("S2 capacity: the revision that serves was scaled from %d to %d, %d are wanted", ptr.Deref(old.Spec.Replicas, 1), ptr.Deref(updated.Spec.Replicas, 1), wanted)
	}
	if hash(old.Spec.Template) != hash(updated.Spec.Template) && old.Annotations[noteTemplate] != hash(updated.Spec.Template) {
		w.violate("S2 capacity: the pods of the revision that serves are replaced in place")
	}
}

// wantedReplicas is what the revision that serves must have.
func (w *World) wantedReplicas(fc *v1alpha1.FlagCache, d *appsv1.Deployment) int32 {
	auto := fc.Spec.Service.Autoscaling
	if auto == nil {
		return ptr.Deref(fc.Spec.Service.Replicas, 2)
	}
	return min(ptr.Deref(d.Spec.Replicas, 1), auto.MaxReplicas)
}

// checkGate: S3, the Service moves to no revision that is not there while
// another one serves.
func (w *World) checkGate(before, after client.Object) {
	if before == nil || after == nil || before.GetName() != name {
		return
	}
	from, to := servingBy(before), servingBy(after)
	if from == to {
		return
	}
	old, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+from)
	if !ok || old.Status.AvailableReplicas == 0 {
		return
	}
	w.checkPromotion(to)
	next, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+to)
	if !ok || next.Status.AvailableReplicas < w.enough(old, next) {
		w.violate("S3 gate: the Service moved from revision %s to %s, which is not available", from, to)
	}
}

// enough is how many replicas a revision needs to take the place of another.
func (w *World) enough(old, next *appsv1.Deployment) int32 {
	return max(1, min(old.Status.AvailableReplicas, ptr.Deref(next.Spec.Replicas, 1), ptr.Deref(w.current.read.Spec.Service.Replicas, 1)))
}

func revisionOf(service client.Object) string {
	return service.(*corev1.Service).Spec.Selector[v1alpha1.LabelRevision]
}

// checkStatus: S4, the status claims no more than is so, and S8, it never goes
// back.
func (w *World) checkStatus(before, after client.Object) {
	fc := after.(*v1alpha1.FlagCache)
	if before != nil && before.GetUID() == after.GetUID() && fc.Status.ObservedGeneration < before.(*v1alpha1.FlagCache).Status.ObservedGeneration {
		w.violate("S8 monotone: observedGeneration went back")
	}
	ready := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionReady)
	reconciling := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionReconciling)
	if c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReconciling); c != nil && c.Reason == v1alpha1.ReasonModifying {
		reconciling = false // the cache serves while AWS changes it
	}
	stalled := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionStalled)
	if reconciling && stalled || ready && (reconciling || stalled) {
		w.violate("S4 truth: Ready %t, Reconciling %t and Stalled %t contradict each other", ready, reconciling, stalled)
	}
	if w.writer != operator {
		return
	}
	w.checkCalm(fc)
	if fc.Status.ObservedGeneration > fc.Generation {
		w.violate("S4 truth: the status is about a spec that is yet to come")
	}
	if ready && !w.plan.changesView() {
		w.checkReady(fc)
	}
}

// honestLooks is how many looks in a row may fail at the same call until a
// condition says so.
const honestLooks = 8

// checkHonest: L4, while a call keeps failing Ready is not True and says why; of
// one that is forbidden, with the verb and the resource.
func (w *World) checkHonest() {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	inAWS := ok && fc.Spec.Cache.Type == v1alpha1.CacheElastiCache
	for i, p := range w.plan.points {
		if s := w.struck[i]; s.times > 0 && !tellable(p.fault, s.call, inAWS) {
			return
		}
	}
	for i, p := range w.plan.points {
		s := w.struck[i]
		if !ok || s.look != w.looks || s.row < honestLooks {
			continue
		}
		ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady)
		switch {
		case ready == nil || ready.Status == metav1.ConditionTrue:
			w.violate("L4 honest stall: %q has failed (%s) in %d looks, and Ready is %s", s.call, p.fault, s.row, status(ready))
		case p.fault == forbidden && (ready.Reason != v1alpha1.ReasonForbidden ||
			!strings.Contains(ready.Message, fmt.Sprintf("cannot %s resource %q", s.call.verb, s.call.kind.groupResource().Resource))):
			w.violate("L4 honest stall: %q is forbidden, and Ready says %s: %s", s.call, ready.Reason, ready.Message)
		}
	}
}

func status(c *metav1.Condition) metav1.ConditionStatus {
	if c == nil {
		return "not there"
	}
	return c.Status
}

// tellable says that a call that keeps failing leaves the operator a way to say
// so: it lives, it has read the FlagCache, and can write its status. Trouble with ACK is
// not worth a word where the cache is elsewhere.
func tellable(f fault, c call, inAWS bool) bool {
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

// checkCalm: L4, a read that fails no more than three times is not worth a
// condition.
func (w *World) checkCalm(fc *v1alpha1.FlagCache) {
	ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionUnknown || len(w.plan.points) != 1 {
		return
	}
	troubled := ready.Reason == v1alpha1.ReasonRetrying || ready.Reason == v1alpha1.ReasonForbidden
	if p := w.plan.points[0]; troubled && p.times != untilLifted {
		w.violate("L4 honest stall: a hiccup is reported as %s", ready.Reason)
	}
}

// checkReady compares Ready=True with the World.
func (w *World) checkReady(fc *v1alpha1.FlagCache) {
	if fc.Status.ObservedGeneration != fc.Generation {
		w.violate("S4 truth: Ready is True for another spec than the present one")
		return
	}
	revision := w.serving()
	serving, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
	image := fc.Spec.Service.Image
	switch {
	case revision == "" || !ok:
		w.violate("S4 truth: Ready is True and nothing serves")
	case fc.Status.Revisions == nil || fc.Status.Revisions.Stable != revision:
		w.violate("S4 truth: Ready is True and the status names another revision than the one that serves")
	case image != "" && serving.Spec.Template.Spec.Containers[0].Image != image:
		w.violate("S4 truth: Ready is True and another image serves")
	case serving.Status.AvailableReplicas < min(w.wantedReplicas(fc, serving), ptr.Deref(serving.Spec.Replicas, 1)):
		w.violate("S4 truth: Ready is True with %d replicas available", serving.Status.AvailableReplicas)
	case find(w.api.now(secrets), name+"-connection") == nil:
		w.violate("S4 truth: Ready is True and there is no connection Secret")
	}
}

// checkPatch: S5, a patch is bound to the object and the version that was read.
func (w *World) checkPatch(k kind, format types.PatchType, data []byte) {
	bound := bytes.Contains(data, []byte(`"resourceVersion"`)) || bytes.Contains(data, []byte(`/metadata/resourceVersion`))
	if format == types.ApplyPatchType {
		bound = bound && bytes.Contains(data, []byte(`"uid"`))
		var applied struct{ Metadata metav1.ObjectMeta }
		if err := json.Unmarshal(data, &applied); err != nil || applied.Metadata.UID == "" {
			bound = false
		}
	}
	if !bound {
		w.violate("S5 preconditions: a patch of %s is not bound to what was read", k)
	}
}

// checkDelete: S5, a deletion is bound to the object and the version that was
// read.
func (w *World) checkDelete(k kind, name string, p *metav1.Preconditions) {
	if p == nil || p.UID == nil || p.ResourceVersion == nil {
		w.violate("S5 preconditions: the deletion of %s %s is not bound to what was read", k, name)
	}
}

// leaks are the forms in which a credential may leak.
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

// checkSecrecy: S6, no credential is in an object that is not a Secret, nor in
// anybody's metadata.
func (w *World) checkSecrecy(k kind, o client.Object) {
	text, err := json.Marshal(bare(o))
	if err == nil && leak(string(text)) {
		w.violate("S6 secrecy: %s %s holds a credential", k, o.GetName())
	}
}

// tell notes what a log shows of an error.
func (w *World) tell(err error) {
	if err != nil {
		w.say("an error", err.Error())
	}
}

// say checks a text that somebody gets to see.
func (w *World) say(where, text string) {
	if leak(text) {
		w.violate("S6 secrecy: %s shows a credential: %s", where, text)
	}
}

// recorder takes the operator's events.
type recorder struct{ w *World }

// Eventf notes an event.
func (r recorder) Eventf(_ runtime.Object, _ runtime.Object, eventType, reason, action, note string, args ...any) {
	text := fmt.Sprintf("%s %s %s: %s", eventType, action, reason, fmt.Sprintf(note, args...))
	r.w.filmed("     event %s", text)
	r.w.events = append(r.w.events, text)
	r.w.say("an event", text)
}

// logger checks what the operator logs.
func (w *World) logger() logr.Logger { return logr.New(sink{w}) }

type sink struct{ w *World }

func (s sink) Init(logr.RuntimeInfo)          {}
func (s sink) Enabled(int) bool               { return true }
func (s sink) WithValues(...any) logr.LogSink { return s }
func (s sink) WithName(string) logr.LogSink   { return s }
func (s sink) Info(_ int, text string, kv ...any) {
	s.w.say("the log", fmt.Sprint(text, kv))
}
func (s sink) Error(err error, text string, kv ...any) {
	s.w.say("the log", fmt.Sprint(err, text, kv))
}

// checkRest holds the invariants of a World at rest.
func (w *World) checkRest() {
	w.checkReach()
	w.checkCloudRest()
}

// checkReach: what serves can reach what it was told of.
func (w *World) checkReach() {
	policy, guarded := live[*networkingv1.NetworkPolicy](&w.api.store, policies, name)
	connection, told := live[*corev1.Secret](&w.api.store, secrets, name+"-connection")
	if !guarded || !told {
		return
	}
	for _, rule := range policy.Spec.Egress {
		for _, port := range rule.Ports {
			if port.Port.String() == string(connection.Data["port"]) {
				return
			}
		}
	}
	w.violate("S2 capacity: the NetworkPolicy keeps the pods from the cache's port %s", connection.Data["port"])
}

// Looks after convergence. The operator keeps nothing in memory, so a look that
// changed nothing says the same as the ninety-nine that follow; the reference
// runs make them all the same.
const (
	silentLooks         = 4
	silentLooksThorough = 100
)

// checkSilence: L2, further looks and a restart write nothing.
func (w *World) checkSilence(looks int) {
	revision, requests := w.api.revision, w.requests
	counted, called, began := w.looks, w.calls, w.time
	w.plan = plan{scenario: w.plan.scenario}
	w.struck = nil
	for i := range looks {
		if i == looks/2 {
			w.restart()
		}
		w.setTime(w.time.Add(resync))
		w.queue = queue{}
		w.act()
		w.look()
		if w.api.revision != revision || w.requests != requests {
			w.violate("L2 silence: look %d after convergence still writes", i+1)
			return
		}
	}
	w.looks, w.calls = counted, called
	w.setTime(began)
}
