// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"maps"
	"reflect"
	"strings"
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

// sampler simulates the operator's sampler of canaries. It has a sample one tick after Watch and
// another one after each interval, each of which triggers the operator.
type sampler struct {
	target *evidence.Target
	last   *canary.Evidence
	next   time.Time
}

// Watch starts or continues to sample a canary.
func (s *sampler) Watch(_ types.NamespacedName, t evidence.Target) {
	if s.target == nil || !reflect.DeepEqual(*s.target, t) {
		*s = sampler{target: &t}
	}
}

// Forget stops sampling.
func (s *sampler) Forget(types.NamespacedName) { *s = sampler{} }

// Last returns the latest sample.
func (s *sampler) Last(types.NamespacedName) (canary.Evidence, bool) {
	if s.last == nil {
		return canary.Evidence{}, false
	}
	return *s.last, true
}

// sampler reads the counters of the pods.
func (w canaryOracle) sampler() {
	s := &w.evidence
	switch {
	case s.target == nil:
		return
	case s.next.IsZero():
		s.next = w.time.Add(tick)
	case !w.time.Before(s.next):
		sample := w.sampled()
		s.last, s.next = &sample, w.time.Add(s.target.Interval)
		w.queue.enqueue(w.time)
	}
	w.kube().setAlarm(s.next)
}

// sampled returns the counters of the pods of both revisions. The sample has the time of the
// operator's clock, because the operator takes it.
func (w canaryOracle) sampled() canary.Evidence {
	sample := canary.Evidence{At: w.Now()}
	for _, revision := range []string{w.evidence.target.Candidate, w.evidence.target.Stable} {
		if w.load().availableReplicas(revision) == 0 {
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

// recordOf returns the record of a revision.
func (w canaryOracle) recordOf(revision string) (canary.Record, bool) {
	o, ok := live[*appsv1.ControllerRevision](&w.api.store, controllerRevisions, name+"-"+revision)
	if !ok {
		return canary.Record{}, false
	}
	return readRecord(o)
}

func readRecord(o client.Object) (canary.Record, bool) {
	record, err := canary.Decode(o.GetAnnotations()[v1alpha1.AnnotationRecord])
	return record, err == nil
}

// canarySteps returns the steps in the current spec.
func (w canaryOracle) canarySteps() []v1alpha1.CanaryStep {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return nil
	}
	return fc.Spec.Canary.GetSteps()
}

// assignedShares returns the shares of candidates according to the operator's writes. Pods and
// gateways apply them later.
func (w canaryOracle) assignedShares() map[string]int32 {
	assigned := map[string]int32{}
	for _, s := range w.load().splitTraffic() {
		assigned[s.revision] = max(assigned[s.revision], s.weight)
	}
	if route, ok := live[*gatewayv1.HTTPRoute](&w.api.store, httpRoutes, routeName); ok {
		for _, s := range sharesOf(weightsOf(route)) {
			assigned[s.revision] = max(assigned[s.revision], s.weight)
		}
	}
	for _, s := range w.load().podTraffic(w.desiredReplicas) {
		assigned[s.revision] = max(assigned[s.revision], s.weight)
	}
	return assigned
}

// desiredReplicas returns the number of replicas in the spec of a revision's Deployment.
func (w canaryOracle) desiredReplicas(revision string) int32 {
	d, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
	if !ok {
		return 0
	}
	return ptr.Deref(d.Spec.Replicas, 1)
}

// checkCanary verifies the invariants of canaries after a change of the store.
func (w canaryOracle) checkCanary(k kind, before, after client.Object) {
	switch k {
	case flagCaches:
		if after == nil {
			w.clients, w.assigned = clientTraffic{}, nil
		}
	case controllerRevisions:
		w.checkRecord(before, after)
	case services, deployments, configMaps, httpRoutes:
		was := w.assigned
		w.assigned = w.assignedShares()
		if k == services && w.writer == operator {
			w.clients.selected = w.stable()
		}
		w.recordStable()
		if w.writer == operator {
			w.checkAssignedShares(was)
			w.checkScaleDown(k, before, after)
		}
	}
}

// recordStable records which revisions serve, by the selector that the operator wrote.
func (w canaryOracle) recordStable() {
	if w.clients.selected != "" {
		w.clients.served = withMember(w.clients.served, w.clients.selected)
	}
	for _, o := range w.api.now(deployments) {
		if revision := strings.TrimPrefix(o.GetName(), name+"-"); w.load().availableReplicas(revision) > 0 {
			w.clients.ready = withMember(w.clients.ready, revision)
		}
	}
	if w.load().availableReplicas(w.clients.selected) > 0 {
		w.clients.last = w.clients.selected
	}
}

// withMember returns a set with a member.
func withMember(set map[string]bool, member string) map[string]bool {
	if set[member] {
		return set
	}
	larger := map[string]bool{member: true}
	maps.Copy(larger, set)
	return larger
}

// checkAssignedShares verifies S3: a share increases only to what the recorded step allows, and
// only one candidate has one, unless the stable revision serves nothing; and a share ends only
// after the end of the canary was recorded.
func (w canaryOracle) checkAssignedShares(was map[string]int32) {
	protected := w.load().availableReplicas(w.canaryOracle().stable()) > 0
	for revision, weight := range w.assigned {
		if weight > was[revision] && protected {
			w.checkShare(revision, weight)
		}
	}
	if len(w.assigned) > 1 && protected {
		w.violation("S3 gate: two candidates have a share of the traffic: %v", w.assigned)
	}
	for revision, weight := range was {
		if w.assigned[revision] == 0 && weight > 0 && revision != w.stable() {
			w.checkOutcomeRecorded(revision)
		}
	}
}

// checkShare verifies S3: a candidate gets at most the share of the recorded step, and none after
// it was rejected.
func (w canaryOracle) checkShare(revision string, weight int32) {
	record, ok := w.recordOf(revision)
	steps := w.canarySteps()
	switch {
	case !ok || record.Canary == nil || record.Canary.Progress.Step == 0 || len(steps) == 0:
		w.violation("S3 gate: revision %s gets %d %% of the traffic without a recorded step", revision, weight)
	case record.Outcome == canary.RolledBack:
		w.violation("S3 gate: revision %s gets %d %% of the traffic after it was rejected", revision, weight)
	case record.Canary.Progress.Step <= len(steps) && weight > steps[record.Canary.Progress.Step-1].Weight:
		w.violation("S3 gate: revision %s gets %d %% of the traffic in step %d", revision, weight, record.Canary.Progress.Step)
	}
}

// checkOutcomeRecorded verifies S3: the end of a canary is recorded before the candidate is scaled
// down, because a crash in between would start it again. If it could not be recorded, the share
// ends nevertheless.
func (w canaryOracle) checkOutcomeRecorded(revision string) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	record, recorded := w.recordOf(revision)
	if !ok || fc.DeletionTimestamp != nil || !recorded || w.current.faulted || w.plan.hasOutdatedDecisions() {
		return
	}
	if c := record.Canary; record.Outcome == "" && c != nil && c.Progress.Step > 0 && c.Progress.Step <= len(w.canarySteps()) {
		w.violation("S3 gate: candidate %s is scaled down without a recorded outcome", revision)
	}
}

// checkScaleDown verifies S3: the pods and the Service of a candidate are not removed before its
// end was recorded, nor while a gateway sends requests to them.
func (w canaryOracle) checkScaleDown(k kind, before, after client.Object) {
	if before == nil || before.GetName() == name {
		return
	}
	revision := before.GetLabels()[v1alpha1.LabelRevision]
	removed := after == nil
	if d, ok := after.(*appsv1.Deployment); ok {
		removed = ptr.Deref(d.Spec.Replicas, 1) == 0
	}
	if !removed || revision == "" || k != deployments && k != services {
		return
	}
	w.checkOutcomeRecorded(revision)
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	for _, s := range w.load().gatewayTraffic() {
		if ok && fc.DeletionTimestamp == nil && s.revision == revision && !w.plan.hasOutdatedDecisions() {
			w.violation("S2 capacity: the gateway sends %d %% of the traffic to revision %s, whose %s was removed", s.weight, revision, k)
		}
	}
}

// checkRecord verifies S7: a record has only what has happened, and a rejection is withdrawn only
// on request.
func (w canaryOracle) checkRecord(before, after client.Object) {
	if w.writer != operator {
		return
	}
	w.checkInvalidRecordKept(before, after)
	if after == nil {
		return
	}
	record, ok := readRecord(after)
	if !ok {
		return
	}
	revision := record.Revision
	if c := record.Canary; c != nil && c.Ledger.Candidate[canary.ErrorRate].Total > w.clients.answered[revision].Total {
		w.violation("S7 evidence: the record of revision %[2]s has %[1]d requests, but it served %[3]d", c.Ledger.Candidate[canary.ErrorRate].Total, revision, w.clients.answered[revision].Total)
	}
	if (record.Passed || record.Outcome == canary.Promoted) && !w.clients.served[revision] {
		w.violation("S7 evidence: revision %s is recorded as promoted but was never stable", revision)
	}
	if record.Outcome == canary.Promoted && !w.clients.ready[revision] {
		w.violation("S7 evidence: revision %s is recorded as promoted but never had a ready pod", revision)
	}
	if record.Outcome == canary.RolledBack || record.Outcome == canary.Superseded {
		w.load().resetExposure(revision)
	}
	if before != nil {
		w.checkRetried(before, record)
		w.checkAlphaKept(before, record)
	}
}

// checkInvalidRecordKept verifies S3: a record that is not valid, which may be that of a rejection,
// is neither replaced nor deleted.
func (w canaryOracle) checkInvalidRecordKept(before, after client.Object) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if before == nil || !ok || fc.DeletionTimestamp != nil {
		return
	}
	if _, valid := readRecord(before); valid {
		return
	}
	if after == nil || after.GetAnnotations()[v1alpha1.AnnotationRecord] != before.GetAnnotations()[v1alpha1.AnnotationRecord] {
		w.violation("S3 gate: the invalid record of ControllerRevision %s was replaced or deleted", before.GetName())
	}
}

// checkAlphaKept verifies S7: a canary is evaluated with the alpha with which it began.
func (w canaryOracle) checkAlphaKept(before client.Object, record canary.Record) {
	was, ok := readRecord(before)
	if !ok || was.Canary == nil || was.Canary.Policy.Alpha == 0 || record.Canary == nil || !was.StartedAt.Equal(record.StartedAt) {
		return
	}
	if from, to := was.Canary.Policy.Alpha, record.Canary.Policy.Alpha; from != to {
		w.violation("S7 evidence: alpha of the canary of revision %s was changed from %v to %v", record.Revision, from, to)
	}
}

// checkRetried verifies S3: a rejection is withdrawn once per request of a user.
func (w canaryOracle) checkRetried(before client.Object, record canary.Record) {
	was, ok := readRecord(before)
	if !ok || was.Outcome != canary.RolledBack || was.Lifted || record.Outcome == canary.RolledBack {
		return
	}
	switch requested := w.current.flagCache.Annotations[v1alpha1.AnnotationRetry] == record.Revision; {
	case !requested:
		w.violation("S3 gate: the rejected revision %s is retried without a request", record.Revision)
	case was.Retried:
		w.violation("S3 gate: revision %s is retried repeatedly after one request", record.Revision)
	}
}

// lastPromoted returns the revision that was promoted last according to the records.
func (w canaryOracle) lastPromoted() string {
	var last canary.Record
	for _, o := range w.api.now(controllerRevisions) {
		if record, ok := readRecord(o); ok && record.Outcome == canary.Promoted && record.FinishedAt.After(last.FinishedAt) {
			last = record
		}
	}
	return last.Revision
}

// wasSuperseded reports whether it is on record that a revision gave way to a newer one before it
// was promoted. If it serves, it stands in for a stable revision that does not.
func (w canaryOracle) wasSuperseded(revision string) bool {
	record, ok := w.recordOf(revision)
	return ok && record.Outcome == canary.Superseded
}

// protects reports whether there is a revision to protect from another one: one that was promoted
// and has pods that serve.
func (w canaryOracle) protects(from string) bool {
	for _, o := range w.api.now(controllerRevisions) {
		record, ok := readRecord(o)
		if ok && record.Outcome == canary.Promoted && record.Revision != from && w.load().availableReplicas(record.Revision) > 0 {
			return true
		}
	}
	return false
}

// checkPromotion verifies S7: the Service selects only a revision whose steps are all recorded as
// passed, and which had the share of each step for long enough, as counted by the World; or one
// that was stable before, or that a user promoted. The duration of a step is accurate to two
// intervals, and one more per clock jump. While no revision that was promoted has a ready pod, it
// does not apply.
func (w canaryOracle) checkPromotion(revision string) {
	fc := w.current.flagCache
	steps := fc.Spec.Canary.GetSteps()
	if len(steps) == 0 || fc.Annotations[v1alpha1.AnnotationPromote] == revision || w.clients.served[revision] {
		return
	}
	record, ok := w.recordOf(revision)
	if !ok || record.Canary == nil || record.Canary.Progress.Step <= len(steps) || record.Outcome == canary.RolledBack {
		w.violation("S3 gate: the Service selects revision %s, whose steps are not recorded as passed", revision)
	}
	slack := time.Duration(2+len(w.plan.clockJumps)) * fc.Spec.Canary.Metrics.Interval.Duration
	for i, step := range steps {
		had := w.clients.exposures[share{revision, step.Weight}]
		if had.duration < step.Duration.Duration-slack || had.requests < fc.Spec.Canary.MinimumRequests {
			w.violation("S7 evidence: the Service selects revision %s, which had the share of step %d for %v and served %d requests", revision, i+1, had.duration, had.requests)
		}
	}
}

// checkPromotionRecorded verifies S7: at rest it is on record that the stable revision, which serves,
// was promoted, whatever the spec requests.
func (w canaryOracle) checkPromotionRecorded() {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	stable := w.stable()
	if !ok || fc.DeletionTimestamp != nil || fc.Status.Revisions == nil || fc.Status.Revisions.Stable != stable || w.load().availableReplicas(stable) == 0 {
		return
	}
	if record, ok := w.recordOf(stable); ok && record.Outcome != canary.Promoted {
		w.violation("S7 evidence: at rest the stable revision %s serves, and the outcome on record is %q", stable, record.Outcome)
	}
}

// checkRejected verifies S3: after a reconciliation without changes, a revision that was rejected,
// or whose record is not valid, has no share.
func (w canaryOracle) checkRejected() {
	fc, exists := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !w.lastResult.unchanged || w.cache.isOld() {
		return
	}
	for revision := range w.assigned {
		record, ok := w.recordOf(revision)
		switch {
		case ok && record.Outcome == canary.RolledBack && !record.Lifted:
			w.violation("S3 gate: the rejected revision %s keeps its share of the traffic", revision)
		case !ok && exists && fc.DeletionTimestamp == nil && find(w.api.now(controllerRevisions), name+"-"+revision) != nil:
			w.violation("S3 gate: revision %s, whose record is invalid, keeps its share of the traffic", revision)
		}
	}
}

// maxReconcilesAtOnce is the number of reconciliations at the same time that a decision may take:
// the record, its consequences, and the status.
const maxReconcilesAtOnce = 4

// checkIdempotent verifies S9: reconciliations at the same time reach a fixed point, and do not
// change the record of a canary. The deletion of a FlagCache takes many and is excluded.
func (w canaryOracle) checkIdempotent() {
	if fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name); !ok || fc.DeletionTimestamp != nil {
		return
	}
	f := w.fork(noFaults)
	for range maxReconcilesAtOnce {
		f.queue.later, f.queue.dirty = time.Time{}, false
		f.process().runReconcile()
		if f.lastResult.unchanged {
			w.violations = append(w.violations, f.violations[len(w.violations):]...)
			return
		}
	}
	w.violation("S9 convergence: after %d reconciliations at the same time there are still writes", maxReconcilesAtOnce)
}

// annotationTarget returns the revision to which a user's annotation refers.
func (w canaryOracle) annotationTarget() string {
	for revision := range w.assigned {
		return revision
	}
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if ok && fc.Status.Revisions != nil {
		if revision := cmp.Or(fc.Status.Revisions.Candidate, fc.Status.Revisions.Rejected); revision != "" {
			return revision
		}
	}
	return w.stable()
}

// allConcluded reports whether every revision has its outcome.
func (w canaryOracle) allConcluded() bool {
	for _, o := range w.api.now(controllerRevisions) {
		if record, ok := readRecord(o); !ok || record.Outcome == "" {
			return false
		}
	}
	return true
}

// stable returns the revision that the Service selects, or that it names as stable if it also
// selects a candidate's pods.
func (w canaryOracle) stable() string {
	service, ok := live[*corev1.Service](&w.api.store, services, name)
	if !ok {
		return ""
	}
	return stableOf(service)
}

func stableOf(service client.Object) string {
	if revision := revisionOf(service); revision != "" {
		return revision
	}
	return service.GetAnnotations()[v1alpha1.AnnotationStable]
}
