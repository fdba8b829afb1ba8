// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/controllers/plan/source"
)

// parts are what the status is made of.
type parts struct {
	cache      cache.Part
	connection connection.Published
	flags      source.Part
	service    servicePart
	// taken are the objects of somebody else that have the name of a child.
	taken []observed.Object
}

// verdict is the summary: what Ready says, and which of kstatus' two conditions
// goes with it.
type verdict struct {
	ready metav1.Condition
	// progressing: the operator works on it, or waits for something that comes.
	progressing bool
	// stalled: only a person can change it.
	stalled bool
}

// status is the whole status of a FlagCache that is worked on.
func status(s *observed.Index, p parts) v1alpha1.FlagCacheStatus {
	st := *s.FlagCache.Status.DeepCopy()
	st.ObservedGeneration = s.FlagCache.Generation
	st.LastHandledReconcileAt = s.FlagCache.Annotations[v1alpha1.AnnotationReconcileAt]
	fillFacts(&st, s, p)
	all := []metav1.Condition{
		p.cache.Provisioned,
		cacheHealthy(s, p),
		p.connection.Ready,
		p.flags.Valid,
		serviceAvailable(p.service),
		serving(p.service),
		rolloutHealthy(p.service),
	}
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionAlarmsConfigured)
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionWithinBudget)
	all = append(all, p.cache.Conditions...)
	if budget := p.cache.Cost.Budget; budget != nil {
		all = append(all, *budget)
	}
	setConditions(s, &st, summarize(p, all), all)
	if old := s.FlagCache.Status; saysTheSame(old, st) {
		return old
	}
	return st
}

// saysTheSame tells whether two statuses differ in nothing but the time that a
// probe took. That is information, not news: it goes along with what is. After a
// restart of the operator every cache is probed at once, and takes longer.
func saysTheSame(old, now v1alpha1.FlagCacheStatus) bool {
	if old.Probe != nil && now.Probe != nil {
		now.Probe = now.Probe.DeepCopy()
		now.Probe.Latency = old.Probe.Latency
	}
	return equality.Semantic.DeepEqual(old, now)
}

// fillFacts sets what is not a condition.
func fillFacts(st *v1alpha1.FlagCacheStatus, s *observed.Index, p parts) {
	r := p.service.rollout
	st.Revisions = revisionsStatus(r)
	st.Canary = canaryStatus(s, r)
	st.History = historyStatus(s, r)
	before := s.FlagCache.Status.Cache
	st.Cache = p.cache.Status.DeepCopy()
	st.Cache.Hint = sizeHint(s, p)
	st.Cost = p.cache.Cost.Status
	st.Binding, st.Probe = nil, nil
	if before != nil && st.Cache.CreatedAt == nil && st.Cache.ReplicationGroupID != "" && before.ReplicationGroupID == st.Cache.ReplicationGroupID {
		st.Cache.CreatedAt = before.CreatedAt // AWS has not reported when it was created again
	}
	if p.connection.InUse != nil {
		st.Cache.Endpoint = p.connection.InUse.Endpoint()
		st.Binding = &v1alpha1.BindingStatus{Name: observed.ConnectionName(s.FlagCache)}
		st.Probe = probeStatus(s)
	}
	st.Service = &v1alpha1.ServiceStatus{
		Replicas:      p.service.replicas,
		OFREPEndpoint: connection.OFREPEndpoint(s.FlagCache),
	}
	if d := r.observed[r.stable]; d != nil {
		st.Service.ReadyReplicas = d.Status.ReadyReplicas
		st.Service.Image = d.Spec.Template.Spec.Containers[0].Image
	}
}

// probeStatus is the probe's answer. A lag that is about what it was before stays
// as it is: a status that follows every probe would never be at rest.
func probeStatus(s *observed.Index) *v1alpha1.ProbeStatus {
	old := s.FlagCache.Status.Probe
	switch s.Probe.Health {
	case observed.Unhealthy:
		return &v1alpha1.ProbeStatus{Result: "Unhealthy"}
	case observed.HealthUnknown:
		return old
	}
	now := &v1alpha1.ProbeStatus{Result: "Healthy", Latency: s.Probe.Latency, Role: s.Probe.Role, ReplicationLag: s.Probe.ReplicationLag}
	if old != nil && about(old.ReplicationLag, now.ReplicationLag) {
		now.ReplicationLag = old.ReplicationLag
	}
	return now
}

// about tells whether two durations are within a factor of five.
func about(a, b string) bool {
	da, errA := time.ParseDuration(a)
	db, errB := time.ParseDuration(b)
	if errA != nil || errB != nil {
		return a == b
	}
	return da <= 5*db && db <= 5*da
}

// cacheHealthy is the probe's answer. Until a new probe has one, as after a
// restart of the operator, the last answer about the same endpoint stands.
func cacheHealthy(s *observed.Index, p parts) metav1.Condition {
	const kind = v1alpha1.ConditionCacheHealthy
	if p.connection.InUse == nil {
		return conditions.Unknown(kind, v1alpha1.ReasonNoEndpoint, "There is no endpoint to probe yet")
	}
	switch s.Probe.Health {
	case observed.Healthy:
		return conditions.True(kind, v1alpha1.ReasonHealthy, "Connecting, authenticating, writing and reading back work")
	case observed.Unhealthy:
		return conditions.False(kind, s.Probe.Reason, "%s", s.Probe.Message)
	}
	if answered(s, p.connection.InUse) {
		return *meta.FindStatusCondition(s.FlagCache.Status.Conditions, kind)
	}
	if s.Probe.Message != "" {
		return conditions.Unknown(kind, v1alpha1.ReasonProbing, "No probe has succeeded yet: %s", s.Probe.Message)
	}
	return conditions.Unknown(kind, v1alpha1.ReasonProbing, "The first probe has not answered yet")
}

// answered tells whether the status has an answer of the probe about an endpoint.
func answered(s *observed.Index, c *connection.Connection) bool {
	last := meta.FindStatusCondition(s.FlagCache.Status.Conditions, v1alpha1.ConditionCacheHealthy)
	return last != nil && last.Status != metav1.ConditionUnknown && lastEndpoint(s) == c.Endpoint()
}

func lastEndpoint(s *observed.Index) string {
	if s.FlagCache.Status.Cache == nil {
		return ""
	}
	return s.FlagCache.Status.Cache.Endpoint
}

// serviceAvailable is about the revision of the spec or, while that is on trial
// or was rejected, about the one that serves.
func serviceAvailable(p servicePart) metav1.Condition {
	const kind = v1alpha1.ConditionServiceAvailable
	r := p.rollout
	name := r.target
	if r.rejected || r.unreadable || r.canary != nil {
		name = r.stable
	}
	d := r.observed[name]
	switch {
	case p.blocked == v1alpha1.ReasonWaitingForConnection:
		return conditions.False(kind, p.blocked, "Waiting for a connection to the cache before starting pods of this spec")
	case p.blocked == v1alpha1.ReasonWaitingForFlags:
		return conditions.False(kind, p.blocked, "Waiting for a usable source of flags before starting pods of this spec")
	case revision.Available(d, p.replicas):
		return conditions.True(kind, v1alpha1.ReasonAvailable, "Every replica is available")
	case revision.DeadlineExceeded(d):
		return conditions.False(kind, v1alpha1.ReasonProgressDeadlineExceeded, "Deployment %s did not become available in %d seconds: see its pods and events",
			d.Name, revision.ProgressDeadline)
	default:
		return conditions.False(kind, v1alpha1.ReasonProgressing, "Waiting for the replicas of revision %s", name)
	}
}

// serving is about whichever revision the Service selects.
func serving(p servicePart) metav1.Condition {
	if d := p.rollout.observed[p.rollout.stable]; d != nil && d.Status.ReadyReplicas > 0 {
		return conditions.True(v1alpha1.ConditionServing, v1alpha1.ReasonServing, "Revision %s answers", p.rollout.stable)
	}
	return conditions.False(v1alpha1.ConditionServing, v1alpha1.ReasonNoReadyReplicas, "No replica behind the Service is ready")
}

func rolloutHealthy(p servicePart) metav1.Condition {
	const kind = v1alpha1.ConditionRolloutHealthy
	r := p.rollout
	candidate := r.candidate()
	switch {
	case r.stable == "":
		return conditions.Unknown(kind, v1alpha1.ReasonNotStarted, "No revision serves yet")
	case r.rejected:
		return rolledBack(r.stable, r.record())
	case r.unreadable:
		return recordUnreadable(r)
	case r.canary != nil:
		return canaryHealthy(r)
	case candidate == "" && len(r.history.unreadable) > 0:
		return recordUnreadable(r)
	case candidate == "":
		return conditions.True(kind, v1alpha1.ReasonStable, "Revision %s serves", r.stable)
	case revision.DeadlineExceeded(r.observed[candidate]):
		return conditions.False(kind, v1alpha1.ReasonRolloutStuck, "Revision %s does not become available, revision %s goes on serving: see the pods of Deployment %s",
			candidate, r.stable, r.observed[candidate].Name)
	default:
		return conditions.True(kind, v1alpha1.ReasonRollingOut, "Revision %s is starting, revision %s serves", candidate, r.stable)
	}
}

// terminalReasons are those that no waiting will change.
var terminalReasons = []string{
	v1alpha1.ReasonNameConflict,
	v1alpha1.ReasonInvalidChild,
	v1alpha1.ReasonSecretNotPermitted,
	v1alpha1.ReasonSecretInvalid,
	v1alpha1.ReasonAWSRejected,
	v1alpha1.ReasonAlreadyExists,
	v1alpha1.ReasonCreateRetriesExhausted,
	v1alpha1.ReasonInvalidRecord,
	v1alpha1.ReasonUnparseable,
	v1alpha1.ReasonFlagsRejected,
	v1alpha1.ReasonProgressDeadlineExceeded,
	v1alpha1.ReasonRolledBack,
	v1alpha1.ReasonCanaryInconclusive,
	v1alpha1.ReasonBudgetExceeded,
	v1alpha1.ReasonRegionUnknown,
}

// summarize finds the first thing in the way of Ready. What has to be there
// comes before what depends on it.
func summarize(p parts, all []metav1.Condition) verdict {
	if len(p.taken) > 0 {
		return nameConflict(p.taken[0])
	}
	if p.cache.Cost.Held {
		return inTheWay(*p.cache.Cost.Budget)
	}
	order := []string{
		v1alpha1.ConditionFlagsValid,
		v1alpha1.ConditionCacheProvisioned,
		v1alpha1.ConditionConnectionReady,
		v1alpha1.ConditionServiceAvailable,
		v1alpha1.ConditionServing,
		v1alpha1.ConditionRolloutHealthy,
		v1alpha1.ConditionCacheHealthy,
	}
	for _, kind := range order {
		if c := meta.FindStatusCondition(all, kind); c.Status != metav1.ConditionTrue {
			return inTheWay(*c)
		}
	}
	if candidate := p.service.rollout.candidate(); candidate != "" {
		return verdict{progressing: true, ready: rollingOut(p.service.rollout)}
	}
	return verdict{progressing: p.cache.Changing, ready: conditions.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "Flags are served by revision %s with a healthy cache", p.service.rollout.stable)}
}

// inTheWay makes Ready of the condition that is in its way. An unhealthy cache
// is neither worked on nor stalled: whoever runs it works on it.
func inTheWay(c metav1.Condition) verdict {
	stalled := slices.Contains(terminalReasons, c.Reason)
	return verdict{
		ready:       conditions.New(v1alpha1.ConditionReady, c.Status, c.Reason, "%s", c.Message),
		stalled:     stalled,
		progressing: !stalled && (c.Type != v1alpha1.ConditionCacheHealthy || c.Status == metav1.ConditionUnknown),
	}
}

func nameConflict(other observed.Object) verdict {
	return verdict{stalled: true, ready: conditions.False(v1alpha1.ConditionReady, v1alpha1.ReasonNameConflict,
		"%s %s exists and is not this FlagCache's: delete or rename it, or choose another name for the FlagCache", observed.KindOf(other), other.GetName())}
}

// setConditions writes the verdict and the conditions. Reconciling and Stalled
// are present only while true (kstatus).
func setConditions(s *observed.Index, st *v1alpha1.FlagCacheStatus, v verdict, all []metav1.Condition) {
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionReconciling)
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionStalled)
	switch {
	case v.progressing && v.ready.Status == metav1.ConditionTrue:
		all = append(all, conditions.True(v1alpha1.ConditionReconciling, v1alpha1.ReasonModifying, "A change of the cache is being carried out, which serves meanwhile"))
	case v.progressing:
		all = append(all, conditions.True(v1alpha1.ConditionReconciling, v.ready.Reason, "%s", v.ready.Message))
	}
	if v.stalled {
		all = append(all, conditions.True(v1alpha1.ConditionStalled, v.ready.Reason, "%s", v.ready.Message))
	}
	for _, c := range append([]metav1.Condition{v.ready}, all...) {
		c.ObservedGeneration = s.FlagCache.Generation
		c.LastTransitionTime = transitionTime(s, c)
		meta.SetStatusCondition(&st.Conditions, c)
	}
}

// transitionTime keeps the time of a condition whose status did not change,
// also of one that was taken out to be put in again.
func transitionTime(s *observed.Index, c metav1.Condition) metav1.Time {
	if old := meta.FindStatusCondition(s.FlagCache.Status.Conditions, c.Type); old != nil && old.Status == c.Status {
		return old.LastTransitionTime
	}
	return metav1.NewTime(s.Now).Rfc3339Copy()
}

// initialStatus says that the FlagCache has been seen.
func initialStatus(s *observed.Index) v1alpha1.FlagCacheStatus {
	st := *s.FlagCache.Status.DeepCopy()
	st.ObservedGeneration = s.FlagCache.Generation
	setConditions(s, &st, verdict{
		progressing: true,
		ready:       conditions.Unknown(v1alpha1.ConditionReady, v1alpha1.ReasonInitializing, "Starting"),
	}, nil)
	return st
}

// suspendedStatus says that nothing is being done. What would become of revisions
// is not recorded, so it is not shown either.
func suspendedStatus(s *observed.Index, st v1alpha1.FlagCacheStatus) v1alpha1.FlagCacheStatus {
	st.Canary, st.History = s.FlagCache.Status.Canary, s.FlagCache.Status.History
	setConditions(s, &st, verdict{ready: conditions.Unknown(v1alpha1.ConditionReady, v1alpha1.ReasonSuspended,
		"spec.suspend is true: nothing is changed until it is false")}, nil)
	return st
}

// deletingStatus says what a deletion waits for.
func deletingStatus(s *observed.Index, what string) v1alpha1.FlagCacheStatus {
	st := *s.FlagCache.Status.DeepCopy()
	st.ObservedGeneration = s.FlagCache.Generation
	setConditions(s, &st, verdict{progressing: true, ready: conditions.False(v1alpha1.ConditionReady, v1alpha1.ReasonDeleting,
		"Waiting for %s", what)}, nil)
	return st
}

// Failure is a call that did not succeed, in the words of a condition.
type Failure struct {
	// Reason is one of the reasons of Reconciling and Stalled.
	Reason string
	// Message says what was attempted and why it failed; it holds no generated
	// names, times or counters.
	Message string
}

// Conclude is the status after some of the plan's calls failed: the first
// failure is then what is in the way, and the spec is not yet observed.
func Conclude(snapshot observed.Snapshot, p Plan, failures []Failure) v1alpha1.FlagCacheStatus {
	if len(failures) == 0 {
		return p.Status
	}
	first := failures[0]
	stalled := slices.Contains(terminalReasons, first.Reason)
	st := *p.Status.DeepCopy()
	setConditions(observed.NewIndex(snapshot), &st, verdict{
		ready:       conditions.False(v1alpha1.ConditionReady, first.Reason, "%s", first.Message),
		stalled:     stalled,
		progressing: !stalled,
	}, nil)
	return st
}

// Unseen is the status while the world cannot be seen: Ready says that nobody
// knows and why, and all else is what was seen last.
func Unseen(fc *v1alpha1.FlagCache, now time.Time, why Failure) v1alpha1.FlagCacheStatus {
	st := *fc.Status.DeepCopy()
	setConditions(observed.NewIndex(observed.Snapshot{FlagCache: fc, Now: now}), &st, verdict{
		progressing: true,
		ready:       conditions.Unknown(v1alpha1.ConditionReady, why.Reason, "%s", why.Message),
	}, nil)
	return st
}

// Event tells of a transition.
type Event struct {
	// Type is Normal or Warning.
	Type string
	// Reason is the condition's.
	Reason string
	// Action is the type of the condition that changed.
	Action  string
	Message string
}

// Transitions are the events that lead from one status to the next: one for
// each condition whose status or reason changed. Reconciling and Stalled are
// left out because Ready says the same.
func Transitions(from, to v1alpha1.FlagCacheStatus) []Event {
	var events []Event
	for _, c := range to.Conditions {
		old := meta.FindStatusCondition(from.Conditions, c.Type)
		changed := old == nil || old.Status != c.Status || old.Reason != c.Reason
		if !changed || c.Type == v1alpha1.ConditionReconciling || c.Type == v1alpha1.ConditionStalled || (old == nil && c.Status == metav1.ConditionUnknown) {
			continue
		}
		events = append(events, Event{Type: eventType(from, to, c), Reason: c.Reason, Action: c.Type, Message: c.Message})
	}
	if recreated(from.Cache, to.Cache) {
		events = append(events, Event{Type: "Warning", Reason: v1alpha1.ReasonRecreated, Action: v1alpha1.ConditionCacheProvisioned,
			Message: "AWS made the replication group " + to.Cache.ReplicationGroupID + " anew, empty, without having been asked by FlagCache"})
	}
	return events
}

// recreated tells whether a cache went and came again under the same ID: ACK makes
// a group that it does not find anew, and says nothing.
func recreated(from, to *v1alpha1.CacheStatus) bool {
	return from != nil && to != nil && from.ReplicationGroupID != "" && from.ReplicationGroupID == to.ReplicationGroupID &&
		from.CreatedAt != nil && to.CreatedAt != nil && !from.CreatedAt.Equal(to.CreatedAt)
}

// eventType is Warning for what needs a person's attention: something that
// worked and does not any more, or that only a person can mend.
func eventType(from, to v1alpha1.FlagCacheStatus, c metav1.Condition) string {
	worked := meta.IsStatusConditionTrue(from.Conditions, c.Type)
	stalled := meta.FindStatusCondition(to.Conditions, v1alpha1.ConditionStalled)
	if c.Status == metav1.ConditionFalse && c.Reason != v1alpha1.ReasonDeleting &&
		(worked || c.Reason == v1alpha1.ReasonBudgetExceeded || (stalled != nil && stalled.Reason == c.Reason)) {
		return "Warning"
	}
	return "Normal"
}
