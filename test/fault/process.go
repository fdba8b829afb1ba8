// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/service/flags"
)

// Back-off of the operator's queue, as configured by SetupWithManager.
const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 2 * time.Minute
)

// queue simulates the operator's workqueue with its only key.
type queue struct {
	// dirty reports an event since the last reconciliation began, missed one that was lost.
	dirty, missed bool
	// later is the earliest scheduled reconciliation.
	later time.Time
	// ready is when a starting operator begins to reconcile.
	ready time.Time
	// failed is the back-off after failed reconciliations.
	failed backoff
	// stale is the back-off after reconciliations with stale state.
	stale backoff
	// loseNext is the number of events to lose, addNext the number of additional reconciliations.
	loseNext, addNext int
}

// backoff doubles with each failure.
type backoff struct{ failures int }

// When counts a failure and returns the delay after it.
func (b *backoff) When(ctrl.Request) time.Duration {
	b.failures++
	return min(firstBackoff<<min(b.failures-1, 20), lastBackoff)
}

// NumRequeues returns the number of consecutive failures.
func (b *backoff) NumRequeues(ctrl.Request) int { return b.failures }

// Forget resets the back-off.
func (b *backoff) Forget(ctrl.Request) { b.failures = 0 }

// enqueue requests a reconciliation.
func (q *queue) enqueue(now time.Time) {
	if q.loseNext > 0 {
		q.loseNext--
		q.missed = true
		q.enqueueAfter(now, resync)
		return
	}
	q.dirty = true
}

func (q *queue) enqueueAfter(now time.Time, d time.Duration) {
	if at := now.Add(d); q.later.IsZero() || at.Before(q.later) {
		q.later = at
	}
}

// next returns the time of the next reconciliation.
func (q *queue) next(now time.Time) time.Time {
	at := q.later
	if q.dirty {
		at = now
	}
	if !at.IsZero() && at.Before(q.ready) {
		return q.ready
	}
	return at
}

func (q *queue) due(now time.Time) bool {
	at := q.next(now)
	return !at.IsZero() && !now.Before(at)
}

// pop removes the key for a reconciliation.
func (q *queue) pop(now time.Time) {
	q.dirty, q.missed = false, false
	if !q.later.After(now) {
		q.later = time.Time{}
	}
}

// done processes the result of a reconciliation like controller-runtime.
func (q *queue) done(now time.Time, result ctrl.Result, err error) {
	if err != nil {
		q.enqueueAfter(now, q.failed.When(request))
		return
	}
	q.failed.Forget(request)
	if result.RequeueAfter > 0 {
		q.enqueueAfter(now, result.RequeueAfter)
	}
	if q.addNext > 0 {
		q.addNext--
		q.dirty = true
	}
}

// triggers reports whether the operator watches a change.
func (w *World) triggers(k kind, before, after client.Object) bool {
	if w.cache.isOld() && w.cache.covers(k) {
		return false
	}
	for _, o := range []client.Object{before, after} {
		if o == nil {
			continue
		}
		_, isFlagCache := o.(*v1alpha1.FlagCache)
		switch {
		case isFlagCache:
			return true
		case ownedByName(o) && cacheHolds(k, o), w.refersTo(k, o):
			return true
		}
	}
	return false
}

func cacheHolds(k kind, o client.Object) bool {
	return cacheSelectors[k] == nil || cacheSelectors[k].Matches(labelSet(o))
}

// ownedByName reports whether the watch maps an object to the FlagCache, by the kind and name of
// its owner, not the UID.
func ownedByName(o client.Object) bool {
	owner := metav1.GetControllerOf(o)
	return owner != nil && owner.Kind == "FlagCache" && owner.Name == name
}

// refersTo reports whether the FlagCache refers to the object in its spec.
func (w *World) refersTo(k kind, o client.Object) bool {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return false
	}
	switch k {
	case secrets:
		return fc.Spec.Cache.External != nil && fc.Spec.Cache.External.SecretRef.Name == o.GetName() && allowedSelectors[k].Matches(labelSet(o))
	case configMaps:
		return fc.Spec.Flags.ConfigMap != nil && fc.Spec.Flags.ConfigMap.Name == o.GetName()
	}
	return false
}

// runReconcile runs one reconciliation with a new Reconciler, which has no state other than what a
// restart would lose.
func (w process) runReconcile() {
	if w.forks != nil {
		*w.forks = append(*w.forks, w.fork(noFaults))
	}
	w.reconciles++
	w.injector().injectBeforeReconcile()
	w.queue.pop(w.time)
	w.logf("== reconciliation %d at %v", w.reconciles, w.time.Sub(w.start))
	outer := w.current
	mine := &reconciliation{}
	w.current = mine
	began := w.api.revision
	result, err, crashed := w.callReconciler()
	w.current = outer
	unchanged := err == nil && !crashed && !mine.faulted && mine.writes == 0 && w.api.revision == began
	w.lastResult = reconcileResult{err: err, requeueAfter: result.RequeueAfter, unchanged: unchanged, revision: w.api.revision}
	w.oracle().checkError(err)
	w.oracle().checkFailureReported()
	if t := w.broadcasts.target; t != nil {
		last := w.redis[request.NamespacedName].last
		w.broadcasts.accepted = last != nil && last.ID == t.Redis.ID && last.Outcome == probe.Healthy
		if w.broadcasts.fresh { // a real one may write before the operator changes its mind
			w.oracle().checkBroadcast(*t)
		}
	}
	w.canaryOracle().checkRejected()
	w.canaryOracle().checkServed()
	if w.nextTick.IsZero() && (w.redis.pending() || w.broadcasts.fresh || w.evidence.target != nil && w.evidence.next.IsZero()) {
		w.nextTick = w.time.Add(tick)
	}
	switch {
	case mine.replaced:
		w.logf("     the previous leader ends")
	case crashed || mine.cancelled:
		w.restart()
	default:
		w.queue.done(w.time, result, err)
		w.logf("     requeue after %v, error %v", result.RequeueAfter, err)
	}
	if w.forks != nil {
		w.canaryOracle().checkIdempotent()
	}
}

// callReconciler calls Reconcile. A crash ends it like the end of its process.
func (w process) callReconciler() (result ctrl.Result, err error, crashed bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			crashed = true
		}
	}()
	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), w.logger()))
	defer cancel()
	w.current.cancel = cancel
	previous := w.writer
	w.writer = operator
	defer func() { w.writer = previous }()
	result, err = w.operator().Reconcile(ctx, request)
	return result, err, false
}

func (w process) operator() *controllers.Reconciler {
	c := bodies.New(operatorClient{w: w.World}, operatorClient{w: w.World, live: true})
	r := &controllers.Reconciler{
		Client:     c,
		Allowed:    c.Beside(operatorClient{w: w.World, allowed: true}),
		Live:       operatorClient{w: w.World, live: true},
		FlagFiles:  w.files(),
		Prober:     w.redis,
		Sampler:    &w.evidence,
		Broadcasts: &w.broadcasts,
		ACK:        w.World,
		Events:     recorder{w.World},
		Clock:      w.World,
		Operator:   observed.Operator{Namespace: operatorNamespace, ClusterID: "cluster-1", FlagServiceImage: "flag-service:v1", KeyPeriod: w.scenario.keyPeriod},
		Random:     w.random,
		Backoff:    &w.queue.stale,
	}
	r.Policy.Store(w.policy)
	return r
}

func (w process) files() *controllers.FlagFiles {
	if w.plan.keepMemory && w.flagFiles != nil {
		return w.flagFiles
	}
	w.flagFiles = &controllers.FlagFiles{Metadata: operatorClient{w: w.World}, Validate: flags.Validate}
	return w.flagFiles
}

// random generates a credential that is recognized wherever it leaks.
func (w process) random() string {
	w.generated++
	return fmt.Sprintf("%s%04d", secretMarker, w.generated)
}

// applyAsEarlierRelease makes the children those of an earlier release: its Secrets have the
// label by which owners let FlagCaches use theirs, and Redis has one user for everybody.
func (w process) applyAsEarlierRelease() {
	for _, o := range w.api.now(secrets) {
		if secret := o.DeepCopyObject().(*corev1.Secret); ownedByName(o) {
			secret.Labels[v1alpha1.LabelAllow] = v1alpha1.AllowTrue
			delete(secret.Data, "probe-password")
			withoutProbeUser(secret)
			w.applyAgain(secrets, secret)
			if applied, _ := live[*corev1.Secret](&w.api.store, secrets, secret.Name); applied.Data["probe-password"] != nil {
				panic("the Secret of Redis still has the password of the probe")
			}
		}
	}
	for _, o := range w.api.now(statefulSets) {
		set := o.DeepCopyObject().(*appsv1.StatefulSet)
		set.Spec.Template.Annotations = map[string]string{v1alpha1.AnnotationConfig: "of an earlier release"}
		w.applyAgain(statefulSets, set)
		if applied, _ := live[*appsv1.StatefulSet](&w.api.store, statefulSets, set.Name); applied.Spec.Template.Annotations[v1alpha1.AnnotationProbeUser] != "" {
			panic("the StatefulSet of Redis still has the user of the probe")
		}
	}
}

// withoutProbeUser removes the user of the probe from the configuration of Redis.
func withoutProbeUser(secret *corev1.Secret) {
	if file := string(secret.Data["redis.conf"]); file != "" {
		file = probeUserPattern.ReplaceAllString(file, "")
		secret.Data["redis.conf"] = []byte(strings.ReplaceAll(file, "resetchannels", probeKeyPattern+"* resetchannels"))
	}
}

// reconfigureRedis makes the configuration of Redis that of another release with the same
// passwords.
func (w process) reconfigureRedis() {
	secret, _ := live[*corev1.Secret](&w.api.store, secrets, name+"-redis")
	secret = secret.DeepCopy()
	withoutProbeUser(secret)
	w.applyAgain(secrets, secret)
	set, _ := live[*appsv1.StatefulSet](&w.api.store, statefulSets, name+"-redis")
	set = set.DeepCopy()
	set.Spec.Template.Annotations = map[string]string{v1alpha1.AnnotationConfig: "of an earlier release"}
	w.applyAgain(statefulSets, set)
}

// applyAgain applies an object as another release would, which removes the fields that it lacks.
func (w process) applyAgain(k kind, o client.Object) {
	owners, err := csaupgrade.UpgradeManagedFieldsPatch(o, sets.New(v1alpha1.FieldManager), v1alpha1.FieldManager)
	if err != nil {
		panic(fmt.Sprintf("computing the managed fields of %s %s: %v", k, o.GetName(), err))
	}
	if owners != nil {
		w.mustPatch(patch{kind: k, name: o.GetName(), format: types.JSONPatchType, data: owners, manager: v1alpha1.FieldManager})
	}
	o.SetResourceVersion("")
	o.SetManagedFields(nil)
	setAnnotation(o, v1alpha1.AnnotationApplied, "by an earlier release")
	w.mustPatch(patch{kind: k, name: o.GetName(), format: types.ApplyPatchType, data: []byte(observed.ToJSON(o)), manager: v1alpha1.FieldManager})
}

// mustPatch changes an object, which must exist.
func (w process) mustPatch(p patch) {
	if _, err := w.api.patch(p); err != nil {
		panic(fmt.Sprintf("changing %s %s: %v", p.kind, p.name, err))
	}
}

// restart ends the operator's process and starts another one.
func (w process) restart() {
	w.logf("     the operator restarts")
	w.redis, w.evidence, w.broadcasts = prober{}, sampler{}, broadcaster{}
	w.queue = queue{ready: w.time.Add(restartTime)}
	w.flagFiles = nil
	w.queue.enqueue(w.time)
}

func (w process) cancel() {
	w.current.cancelled = true
	w.current.cancel()
}

// recordFlagCache remembers the FlagCache that the current reconciliation has read.
func (w process) recordFlagCache(o client.Object) {
	if fc, ok := o.(*v1alpha1.FlagCache); ok && w.current != nil {
		w.current.flagCache = fc
	}
}

// cached returns the objects of a kind in the operator's informer cache.
func (w process) cached(k kind) []client.Object {
	if w.cache.isOld() && w.cache.covers(k) {
		return w.api.at(k, w.cache.states[k])
	}
	return w.api.now(k)
}

// recorder records the operator's events.
type recorder struct{ w *World }

// Eventf records an event.
func (r recorder) Eventf(_ runtime.Object, _ runtime.Object, eventType, reason, action, note string, args ...any) {
	text := fmt.Sprintf("%s %s %s: %s", eventType, action, reason, fmt.Sprintf(note, args...))
	r.w.logf("     event %s", text)
	r.w.events = append(r.w.events, text)
	r.w.oracle().checkText("an event", text)
}

// logger returns a logger that checks the operator's log.
func (w *World) logger() logr.Logger { return logr.New(sink{w}) }

type sink struct{ w *World }

func (s sink) Init(logr.RuntimeInfo)                   {}
func (s sink) Enabled(int) bool                        { return true }
func (s sink) WithName(string) logr.LogSink            { return s }
func (s sink) Info(_ int, text string, kv ...any)      { s.check(append(slices.Clone(kv), text)) }
func (s sink) WithValues(kv ...any) logr.LogSink       { s.check(kv); return s }
func (s sink) Error(err error, text string, kv ...any) { s.check(append(slices.Clone(kv), err, text)) }

// check checks values as they are printed, and as they are encoded: the operator's log is JSON.
func (s sink) check(values []any) {
	text := fmt.Sprint(values...)
	for _, value := range values {
		if encoded, err := json.Marshal(value); err == nil {
			text += string(encoded)
		}
	}
	s.w.oracle().checkText("the log", text)
}
