// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"reflect"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/evidence"
)

// sampler is the operator's sampler of canaries: it has a sample one tick after
// it was asked to watch, and another at each interval, each of which wakes the
// operator.
type sampler struct {
	target *evidence.Target
	last   *canary.Evidence
	next   time.Time
}

// Watch starts, or goes on, sampling a canary.
func (s *sampler) Watch(_ types.NamespacedName, t evidence.Target) {
	if s.target == nil || !reflect.DeepEqual(*s.target, t) {
		*s = sampler{target: &t}
	}
}

// Forget stops sampling.
func (s *sampler) Forget(types.NamespacedName) { *s = sampler{} }

// Last is the last sample.
func (s *sampler) Last(types.NamespacedName) (canary.Evidence, bool) {
	if s.last == nil {
		return canary.Evidence{}, false
	}
	return *s.last, true
}

// sampler reads what the pods counted.
func (w *World) sampler() {
	s := &w.metrics
	switch {
	case s.target == nil:
		return
	case s.next.IsZero():
		s.next = w.time.Add(tick)
	case !w.time.Before(s.next):
		sample := w.sampled()
		s.last, s.next = &sample, w.time.Add(s.target.Interval)
		w.queue.wake(w.time)
	}
	w.alarmAt(s.next)
}

// sampled is what the pods of both revisions counted until now. The sample has the
// time of the operator's clock: it is the operator that takes it.
func (w *World) sampled() canary.Evidence {
	sample := canary.Evidence{At: w.Now()}
	for _, revision := range []string{w.metrics.target.Candidate, w.metrics.target.Stable} {
		if w.upReplicas(revision) == 0 {
			continue
		}
		counts := w.clients.answered[revision]
		fast := analysis.Counts{Total: counts.Total}
		sample.Streams = append(sample.Streams, canary.Stream{ID: revision, Revision: revision, Counts: map[canary.Check]analysis.Counts{
			canary.ErrorRate: counts, canary.LatencyP95: fast, canary.LatencyP99: fast, canary.CacheHitRate: fast, canary.MissLatencyP95: fast,
		}})
	}
	return sample
}

// recordOf is what is on record of a revision.
func (w *World) recordOf(revision string) (canary.Record, bool) {
	kept, ok := live[*appsv1.ControllerRevision](&w.api.store, controllerRevisions, name+"-"+revision)
	if !ok {
		return canary.Record{}, false
	}
	return readRecord(kept)
}

func readRecord(kept client.Object) (canary.Record, bool) {
	record, err := canary.Decode(kept.GetAnnotations()[v1alpha1.AnnotationRecord])
	return record, err == nil
}

// canarySteps are those of the FlagCache as it is.
func (w *World) canarySteps() []v1alpha1.CanaryStep {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return nil
	}
	return fc.Spec.Canary.GetSteps()
}

// promises are the shares that candidates are to get, by what the operator wrote.
// Pods and gateways follow.
func (w *World) promises() map[string]int32 {
	promised := map[string]int32{}
	for _, s := range w.splitShares() {
		promised[s.revision] = max(promised[s.revision], s.weight)
	}
	if route, ok := live[*gatewayv1.HTTPRoute](&w.api.store, httpRoutes, routeName); ok {
		for _, s := range sharesOf(weightsOf(route)) {
			promised[s.revision] = max(promised[s.revision], s.weight)
		}
	}
	for _, s := range w.podShares(w.askedReplicas) {
		promised[s.revision] = max(promised[s.revision], s.weight)
	}
	return promised
}

// askedReplicas are the pods that a revision is to have.
func (w *World) askedReplicas(revision string) int32 {
	d, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
	if !ok {
		return 0
	}
	return ptr.Deref(d.Spec.Replicas, 1)
}

// checkCanary holds the invariants of canaries against a change of the store.
func (w *World) checkCanary(k kind, before, after client.Object) {
	switch k {
	case flagCaches:
		if after == nil {
			w.clients, w.promised = clients{}, nil
		}
	case controllerRevisions:
		w.checkRecord(before, after)
	case services, deployments, configMaps, httpRoutes:
		was := w.promised
		w.promised = w.promises()
		w.noteServing()
		if w.writer == operator {
			w.checkPromises(was)
			w.checkTaken(k, before, after)
		}
	}
}

// noteServing remembers who served.
func (w *World) noteServing() {
	if serving := w.serving(); serving != "" && !w.clients.served[serving] {
		served := map[string]bool{serving: true}
		for revision := range w.clients.served {
			served[revision] = true
		}
		w.clients.served = served
	}
}

// checkPromises: S3, a share that grows is one that the step on record allows, and
// one that ends is that of a candidate whose end is on record.
func (w *World) checkPromises(was map[string]int32) {
	for revision, weight := range w.promised {
		if weight > was[revision] {
			w.checkShare(revision, weight)
		}
	}
	if len(w.promised) > 1 {
		w.violate("S3 gate: two candidates have a share of the traffic: %v", w.promised)
	}
	for revision, weight := range was {
		if w.promised[revision] == 0 && weight > 0 {
			w.checkEnded(revision)
		}
	}
}

// checkShare: S3, a candidate gets no more than the step on record gives it, and
// nothing once it is rejected.
func (w *World) checkShare(revision string, weight int32) {
	record, ok := w.recordOf(revision)
	steps := w.canarySteps()
	switch {
	case !ok || record.Canary == nil || record.Canary.Progress.Step == 0 || len(steps) == 0:
		w.violate("S3 gate: revision %s gets %d %% of the traffic and no step is on record", revision, weight)
	case record.Outcome == canary.RolledBack:
		w.violate("S3 gate: revision %s gets %d %% of the traffic after it was rejected", revision, weight)
	case record.Canary.Progress.Step <= len(steps) && weight > steps[record.Canary.Progress.Step-1].Weight:
		w.violate("S3 gate: revision %s gets %d %% of the traffic in step %d", revision, weight, record.Canary.Progress.Step)
	}
}

// checkEnded: what ends a trial is on record before the candidate is taken down, or
// a crash in between would start it again. One that could not be recorded ends the
// share all the same.
func (w *World) checkEnded(revision string) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	record, recorded := w.recordOf(revision)
	if !ok || fc.DeletionTimestamp != nil || !recorded || w.current.faulted || w.plan.changesView() {
		return
	}
	if c := record.Canary; record.Outcome == "" && c != nil && c.Progress.Step > 0 && c.Progress.Step <= len(w.canarySteps()) {
		w.violate("S3 gate: candidate %s is taken down and nothing on record says why", revision)
	}
}

// checkTaken: a candidate's pods and its Service are not taken away before its end
// is on record, nor while a gateway sends requests to them.
func (w *World) checkTaken(k kind, before, after client.Object) {
	if before == nil || before.GetName() == name {
		return
	}
	revision := before.GetLabels()[v1alpha1.LabelRevision]
	gone := after == nil
	if d, ok := after.(*appsv1.Deployment); ok {
		gone = ptr.Deref(d.Spec.Replicas, 1) == 0
	}
	if !gone || revision == "" || k != deployments && k != services {
		return
	}
	w.checkEnded(revision)
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	for _, s := range w.gatewayShares() {
		if ok && fc.DeletionTimestamp == nil && s.revision == revision && !w.plan.changesView() {
			w.violate("S2 capacity: the gateway sends %d %% of the traffic to revision %s, whose %s is taken away", s.weight, revision, k)
		}
	}
}

// checkRecord: S7, a record says no more than what was so, and a rejection is
// taken back only by who asked for it.
func (w *World) checkRecord(before, after client.Object) {
	if after == nil || w.writer != operator {
		return
	}
	record, ok := readRecord(after)
	if !ok {
		return
	}
	revision := record.Revision
	if c := record.Canary; c != nil && c.Ledger.Candidate[canary.ErrorRate].Total > w.clients.answered[revision].Total {
		w.violate("S7 evidence: %d requests are on record of revision %s, which answered %d", c.Ledger.Candidate[canary.ErrorRate].Total, revision, w.clients.answered[revision].Total)
	}
	if (record.Passed || record.Outcome == canary.Promoted) && !w.clients.served[revision] {
		w.violate("S7 evidence: revision %s is on record as promoted and never served", revision)
	}
	if record.Outcome == canary.RolledBack || record.Outcome == canary.Superseded {
		w.endTrial(revision)
	}
	if before != nil {
		w.checkRetried(before, record)
	}
}

// checkRetried: a rejection is taken back once for each time that a person asks.
func (w *World) checkRetried(before client.Object, record canary.Record) {
	was, ok := readRecord(before)
	if !ok || was.Outcome != canary.RolledBack || was.Lifted || record.Outcome == canary.RolledBack {
		return
	}
	switch asked := w.current.read.Annotations[v1alpha1.AnnotationRetry] == record.Revision; {
	case !asked:
		w.violate("S3 gate: revision %s was rejected and is tried again, which nobody asked for", record.Revision)
	case was.Retried:
		w.violate("S3 gate: revision %s is tried again and again, and was asked for once", record.Revision)
	}
}

// checkPromotion: S7, the Service moves only to a revision of which every step is
// on record as passed, and that had each step's share of the traffic for long
// enough, by the World's own count; or to one that served before, or that a person
// promoted. How long a step is counted is right to two intervals, and to another
// one where the clock jumps.
func (w *World) checkPromotion(revision string) {
	fc := w.current.read
	steps := fc.Spec.Canary.GetSteps()
	if len(steps) == 0 || fc.Annotations[v1alpha1.AnnotationPromote] == revision || w.clients.served[revision] {
		return
	}
	record, ok := w.recordOf(revision)
	if !ok || record.Canary == nil || record.Canary.Progress.Step <= len(steps) || record.Outcome == canary.RolledBack {
		w.violate("S3 gate: the Service moved to revision %s, whose steps are not on record as passed", revision)
	}
	slack := time.Duration(2+len(w.plan.jumps)) * fc.Spec.Canary.Metrics.Interval.Duration
	for i, step := range steps {
		had := w.clients.trials[share{revision, step.Weight}]
		if had.lasted < step.Duration.Duration-slack || had.requests < fc.Spec.Canary.MinimumRequests {
			w.violate("S7 evidence: the Service moved to revision %s, which had the share of step %d for %v and answered %d requests", revision, i+1, had.lasted, had.requests)
		}
	}
}

// checkRejected: after a look at which nothing was left to do, what is rejected has
// no share.
func (w *World) checkRejected() {
	if !w.last.clean || w.cache.isOld() {
		return
	}
	for revision := range w.promised {
		if record, ok := w.recordOf(revision); ok && record.Outcome == canary.RolledBack && !record.Lifted {
			w.violate("S3 gate: revision %s is rejected and keeps its share of the traffic", revision)
		}
	}
}

// most looks at one time until a decision is made so: what is recorded, what
// follows from that, and the status.
const looksAtOnce = 4

// checkSettles: S9, a decision is one: looks at the same time come to an end, and
// what is on record of a trial does not change by looking. To take a FlagCache down
// takes many.
func (w *World) checkSettles() {
	if fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name); !ok || fc.DeletionTimestamp != nil {
		return
	}
	f := w.fork(plan0)
	for range looksAtOnce {
		f.queue.later, f.queue.dirty = time.Time{}, false
		f.look()
		if f.last.clean {
			w.broken = append(w.broken, f.broken[len(w.broken):]...)
			return
		}
	}
	w.violate("S9 one decision: after %d looks at the same time there is still something to write", looksAtOnce)
}

// candidate is who a person means that says something about the canary.
func (w *World) candidate() string {
	for revision := range w.promised {
		return revision
	}
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if ok && fc.Status.Revisions != nil {
		if told := cmp.Or(fc.Status.Revisions.Candidate, fc.Status.Revisions.Rejected); told != "" {
			return told
		}
	}
	return w.serving()
}

// trialsEnded says that every revision has its outcome.
func (w *World) trialsEnded() bool {
	for _, o := range w.api.now(controllerRevisions) {
		if record, ok := readRecord(o); !ok || record.Outcome == "" {
			return false
		}
	}
	return true
}

// serving is the revision that the Service selects, or names as the stable one
// where it selects a candidate's pods too.
func (w *World) serving() string {
	service, ok := live[*corev1.Service](&w.api.store, services, name)
	if !ok {
		return ""
	}
	return servingBy(service)
}

func servingBy(service client.Object) string {
	if revision := revisionOf(service); revision != "" {
		return revision
	}
	return service.GetAnnotations()[v1alpha1.AnnotationStable]
}
