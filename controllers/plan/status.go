// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/controllers/policy"
)

// results are what the parts of the plan decided, for the status.
type results struct {
	cache      cache.Part
	connection connection.Published
	flags      source.Part
	service    servicePlan
	// conflicts are foreign objects with the name of a child.
	conflicts []observed.Object
}

// status returns the whole status of a FlagCache that is being reconciled.
func status(s *observed.Index, p results) v1alpha1.FlagCacheStatus {
	st := *s.FlagCache.Status.DeepCopy()
	st.ObservedGeneration = s.FlagCache.Generation
	st.LastHandledReconcileAt = s.FlagCache.Annotations[v1alpha1.AnnotationReconcileAt]
	setFacts(&st, s, p)
	all := []metav1.Condition{
		p.cache.Provisioned,
		cacheHealthy(s, p),
		p.connection.Ready,
		p.flags.Valid,
		serviceAvailable(s, p.service),
		serving(s, p.service),
		rolloutHealthy(s, p.service),
	}
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionAlarmsConfigured)
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionWithinBudget)
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionFlagsDelivered)
	if p.flags.Delivered != nil {
		all = append(all, *p.flags.Delivered)
	}
	all = append(all, p.cache.Conditions...)
	if budget := p.cache.Cost.Budget; budget != nil {
		all = append(all, *budget)
	}
	setConditions(s.FlagCache, s.Now, &st, summarize(p, all), all)
	if old := s.FlagCache.Status; equivalent(old, st) {
		return old
	}
	return st
}

// equivalent reports whether two statuses differ at most in the latency of the probe,
// which alone is not worth a write: after a restart of the operator all caches are
// probed at once, and every latency is higher.
func equivalent(old, now v1alpha1.FlagCacheStatus) bool {
	if old.Probe != nil && now.Probe != nil {
		now.Probe = now.Probe.DeepCopy()
		now.Probe.Latency = old.Probe.Latency
	}
	return equality.Semantic.DeepEqual(old, now)
}

// setFacts sets everything but the conditions.
func setFacts(st *v1alpha1.FlagCacheStatus, s *observed.Index, p results) {
	r := p.service.rollout
	st.Revisions = revisionsStatus(r)
	st.Canary = canaryStatus(s, r)
	st.History = historyStatus(s, r)
	before := s.FlagCache.Status.Cache
	st.Cache = p.cache.Status.DeepCopy()
	st.Cache.Hint = sizeHint(s, p)
	st.Cost = p.cache.Cost.Status
	st.Flags = p.flags.Status
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
	if d := r.observed[cmp.Or(answering(r), r.stable)]; d != nil {
		st.Service.ReadyReplicas = d.Status.ReadyReplicas
		if container := revision.Container(d.Spec.Template.Spec); container != nil {
			st.Service.Image = container.Image
		}
	}
}

// probeStatus returns the result of the probe. A lag of about the same size is not
// updated: a status that changed with every probe would be written with every probe.
func probeStatus(s *observed.Index) *v1alpha1.ProbeStatus {
	old := s.FlagCache.Status.Probe
	switch s.Probe.Health {
	case observed.Unhealthy:
		return &v1alpha1.ProbeStatus{Result: "Unhealthy"}
	case observed.HealthUnknown:
		return old
	}
	now := &v1alpha1.ProbeStatus{Result: "Healthy", Latency: s.Probe.Latency, Role: s.Probe.Role, ReplicationLag: s.Probe.ReplicationLag}
	if old != nil && sameMagnitude(old.ReplicationLag, now.ReplicationLag) {
		now.ReplicationLag = old.ReplicationLag
	}
	return now
}

// sameMagnitude reports whether two durations are within a factor of five.
func sameMagnitude(a, b string) bool {
	da, errA := time.ParseDuration(a)
	db, errB := time.ParseDuration(b)
	if errA != nil || errB != nil {
		return a == b
	}
	return da <= 5*db && db <= 5*da
}

// probed reports whether the status has a result of the probe about an endpoint.
func probed(s *observed.Index, c *connection.Connection) bool {
	last := meta.FindStatusCondition(s.FlagCache.Status.Conditions, v1alpha1.ConditionCacheHealthy)
	return last != nil && last.Status != metav1.ConditionUnknown && lastEndpoint(s) == c.Endpoint()
}

func lastEndpoint(s *observed.Index) string {
	if s.FlagCache.Status.Cache == nil {
		return ""
	}
	return s.FlagCache.Status.Cache.Endpoint
}

// initialStatus is that of a FlagCache that was not reconciled before.
func initialStatus(s *observed.Index) v1alpha1.FlagCacheStatus {
	st := *s.FlagCache.Status.DeepCopy()
	st.ObservedGeneration = s.FlagCache.Generation
	setConditions(s.FlagCache, s.Now, &st, verdict{
		progressing: true,
		ready:       conditions.Unknown(v1alpha1.ConditionReady, v1alpha1.ReasonInitializing, "Starting"),
	}, nil)
	return st
}

// heldStatus is that of a FlagCache that is observed and not changed: what is planned
// does not happen, and what runs stays. Ready says why.
func heldStatus(s *observed.Index, st v1alpha1.FlagCacheStatus, held verdict) v1alpha1.FlagCacheStatus {
	var all []metav1.Condition
	if planned := st.Revisions; planned != nil && planned.Candidate != "" {
		all = append(all, conditions.Unknown(v1alpha1.ConditionRolloutHealthy, held.ready.Reason,
			"Revision %s is not rolled out: %s. %s", planned.Candidate, held.ready.Message, meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionServing).Message))
	}
	if c := source.HeldBack(s, held.ready.Message); c != nil {
		all = append(all, *c)
	}
	st.Canary, st.History, st.Revisions = s.FlagCache.Status.Canary, s.FlagCache.Status.History, s.FlagCache.Status.Revisions
	setConditions(s.FlagCache, s.Now, &st, held, all)
	return st
}

// suspension is the verdict while spec.suspend is true.
func suspension() verdict {
	return verdict{ready: conditions.Unknown(v1alpha1.ConditionReady, v1alpha1.ReasonSuspended,
		"spec.suspend is true: set it to false to resume reconciliation")}
}

// notPermitted is the verdict about a spec that the administrator's policy does not
// permit.
func notPermitted(violations []policy.Violation) verdict {
	first := violations[0]
	message := fmt.Sprintf("spec.%s: %s", first.Field, first.Problem)
	if more := len(violations) - 1; more > 0 {
		message += fmt.Sprintf(" (and %d more)", more)
	}
	return verdict{stalled: true, ready: conditions.False(v1alpha1.ConditionReady, v1alpha1.ReasonNotPermitted,
		"%s. Nothing but the flags is changed: change the field, or ask the administrator of the operator to permit it in the policy", message)}
}

// deletingStatus is that of a FlagCache that is being deleted; what is what the
// deletion waits for.
func deletingStatus(s *observed.Index, what string) v1alpha1.FlagCacheStatus {
	st := *s.FlagCache.Status.DeepCopy()
	st.ObservedGeneration = s.FlagCache.Generation
	setConditions(s.FlagCache, s.Now, &st, verdict{progressing: true, ready: conditions.False(v1alpha1.ConditionReady, v1alpha1.ReasonDeleting,
		"Waiting for %s", what)}, nil)
	return st
}

// sizeHint is what to do about the size of the cache, "" for nothing. While the probe
// does not know, as for a day after a restart of the operator, the previous hint about
// the same cache remains.
func sizeHint(s *observed.Index, p results) string {
	hints := caches.Of(s.FlagCache).Hints()
	old := s.FlagCache.Status.Cache
	switch s.Probe.Load {
	case observed.LoadHighMemory:
		return "Memory stays over 80 %: " + hints.HighMemory
	case observed.LoadHighCPU:
		return "CPU stays over 75 % of a core: " + hints.HighCPU
	case observed.LoadLow:
		if p.cache.Cost.SmallerNodeExists && hints.Low != "" {
			return "Memory stays under 20 %, CPU under 10 % of a core: " + hints.Low
		}
	case observed.LoadUnknown:
		if old != nil && p.connection.InUse != nil && old.Endpoint == p.connection.InUse.Endpoint() {
			return old.Hint
		}
	}
	return ""
}
