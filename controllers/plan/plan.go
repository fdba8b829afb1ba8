// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
	"github.com/flagcache/flagcache/controllers/policy"
)

// Plan is what is to be done, in this order: the finalizer, the flags, the objects to
// apply, the routes, the objects to delete, the status.
type Plan struct {
	// Finalizer is whether to add, remove or keep the finalizer.
	Finalizer FinalizerChange
	// Publish is the document of flags to publish; nil if there is none.
	Publish *Publication
	// Apply are the desired objects, in order.
	Apply []observed.Object
	// Routes are the desired HTTPRoutes of users, each with the resource version that was
	// observed.
	Routes []*unstructured.Unstructured
	// Delete are the objects to delete, in order, as they were observed.
	Delete []observed.Object
	// Probe is the data path in use; nil stops its probe.
	Probe *ProbeTarget
	// ProbeNext is a data path to verify before it is used; nil if there is none.
	ProbeNext *ProbeTarget
	// Evidence is what to sample about a canary; nil if there is none.
	Evidence *EvidenceTarget
	// Delivery is which pods are to serve the flags; nil if there are none.
	Delivery *DeliveryTarget
	// Broadcast is what Redis is to have; nil for nothing.
	Broadcast *BroadcastTarget
	// Warnings are mistakes in requests by annotation.
	Warnings []Event
	// Status is the whole status if all of the above succeeds.
	Status v1alpha1.FlagCacheStatus
	// RequeueAfter is when to reconcile again if no watch triggers it before; 0 is never.
	RequeueAfter time.Duration
}

// FinalizerChange is what to do about the finalizer.
type FinalizerChange int

// Changes of the finalizer.
const (
	KeepFinalizer FinalizerChange = iota
	AddFinalizer
	RemoveFinalizer
)

// Publication is a document of flags to publish.
type Publication = source.Publication

// DeliveryTarget is a document of flags and the pods that are to serve it.
type DeliveryTarget = source.Target

// BroadcastTarget is a published document, and the Redis that is to have it.
type BroadcastTarget struct {
	source.Broadcast
	// Redis is the connection that is probed.
	Redis ProbeTarget
}

// ProbeTarget is a cache and how its clients connect to it.
type ProbeTarget struct {
	// ID distinguishes this connection from others, by every byte.
	ID         string
	Connection connection.Connection
	// Key that is written and read back. It is unique to the FlagCache, even on a Redis
	// that several clusters share.
	Key string
	// Spec of the probe.
	Spec v1alpha1.ProbeSpec
}

// EvidenceTarget is what to sample about a canary.
type EvidenceTarget struct {
	Candidate, Stable string
	// Since is when the canary began: the candidate had no requests before.
	Since time.Time
	// Canary names the source of the metrics and the latencies that count as slow.
	Canary v1alpha1.CanarySpec
}

// evidenceTarget is what to sample from when the beginning of a canary is recorded until
// its end is: without a recorded beginning each reconcile would start counting again, and
// without evidence a reconcile after an end that could not be recorded would continue
// the canary.
func evidenceTarget(s *observed.Index, r rollout) *EvidenceTarget {
	if r.canary == nil || !r.begun {
		return nil
	}
	return &EvidenceTarget{Candidate: r.target, Stable: r.baseline, Since: r.record().StartedAt, Canary: *s.FlagCache.Spec.Canary}
}

// conflictInterval is how soon a name conflict is checked again: foreign objects are not
// watched.
const conflictInterval = time.Minute

// canaryInterval is how soon a canary is decided on again without a new sample, which is
// reported: each time costs requests to the API server.
const canaryInterval = 5 * time.Second

// routeInterval is how soon a route is checked again that refers to a former candidate, or
// whose gateway is behind: routes are not watched.
const routeInterval = 5 * time.Second

// neighborInterval is how soon a limit on the cost of a namespace is checked again.
const neighborInterval = time.Minute

// Make plans what to do about one FlagCache.
func Make(snapshot observed.Snapshot) Plan {
	s := observed.NewIndex(snapshot)
	switch {
	case !s.FlagCache.DeletionTimestamp.IsZero() && !slices.Contains(s.FlagCache.Finalizers, v1alpha1.Finalizer):
		return Plan{Status: s.FlagCache.Status}
	case !claimed(s), !slices.Contains(s.FlagCache.Finalizers, v1alpha1.Finalizer):
		return claim(s)
	case !s.FlagCache.DeletionTimestamp.IsZero():
		return tearDown(s)
	case s.FlagCache.Spec.Suspend:
		return held(s, suspension())
	}
	if violations := slices.Concat(s.Violations, caches.Overspending(s)); len(violations) > 0 {
		return refused(s, violations)
	}
	return progress(s)
}

// held changes nothing but the flags that pods serve already, and continues to report the
// state of what runs.
func held(s *observed.Index, why verdict) Plan {
	s.Held = true
	p := progress(s)
	if p.Publish != nil && p.Publish.Observed == nil {
		p.Publish = nil
	}
	p.Apply, p.Routes, p.Delete, p.RequeueAfter = nil, nil, nil, 0
	p.Status = heldStatus(s, p.Status, why)
	return p
}

// refused changes nothing because of what the administrator's policy does not permit, and
// connects to nothing that only the refused spec names. The connection in use is probed.
// Whether it exceeds a limit depends on other FlagCaches, which are not watched for it.
func refused(s *observed.Index, violations []policy.Violation) Plan {
	p := held(s, notPermitted(violations))
	p.ProbeNext, p.Evidence = nil, nil
	if s.SpendingLimits.Namespace != nil {
		p.RequeueAfter = neighborInterval
	}
	return p
}

// progress reconciles the children with the spec.
func progress(s *observed.Index) Plan {
	history := readHistory(s)
	requested := readRequest(s, history)
	cached := caches.Of(s.FlagCache).Plan(cache.Input{
		Index: s, Rejected: requested.rejected != nil, MayBeRejected: requested.unreadable != "", Bill: caches.Bill(s),
	})
	desired := connection.Desire(s, cached.Connection)
	flags := source.Check(s)
	service := planService(s, history, requested, desired, flags)
	published := connection.Publish(s, desired, connection.Serving{Stable: service.rollout.stable, Target: service.rollout.target},
		cached.KeepsConnection, cached.Provisioned.Message)

	p := Plan{Probe: probeTarget(s, cached, published.InUse), ProbeNext: nextTarget(s, cached), Evidence: evidenceTarget(s, service.rollout), Delivery: flags.Delivery}
	p.Broadcast = broadcastTarget(s, flags, p.Probe, published.InUse)
	write := slices.Concat(cached.Apply, desired.Apply, published.Apply, service.apply)
	desiredObjects := slices.Concat(write, cached.Keep, published.Keep, service.keep, flags.Keep)
	conflicts := s.Conflicts(desiredObjects)
	if flags.Publish != nil && !observed.Contains(conflicts, flags.Publish.Bare()) {
		p.Publish = flags.Publish
	}
	for _, o := range write {
		if !observed.Contains(conflicts, o) {
			p.Apply = append(p.Apply, o)
		}
	}
	p.Warnings = slices.Concat(unknownRevisions(s, history, service.rollout.target), usedCommands(s.FlagCache, service.rollout), ignoredRequests(s.FlagCache, cached.AdoptableID), foreignAutoscalers(s))
	p.Routes = traffic.RouteChanges(s, service.rollout.routeShare(s.FlagCache))
	p.Delete = append(obsolete(s, slices.Concat(desiredObjects, flags.Delete), service.rollout), flags.Delete...)
	retired := caches.Retire(s, cached)
	p.Apply, p.Delete = append(p.Apply, retired.Apply...), append(p.Delete, retired.Delete...)
	p.Status = status(s, results{cache: cached, connection: published, flags: flags, service: service, conflicts: conflicts})
	p.RequeueAfter = cache.Sooner(requeueAfter(s, service.rollout, conflicts), cached.RequeueAfter)
	p.RequeueAfter = cache.Sooner(p.RequeueAfter, flags.RequeueAfter)
	p.RequeueAfter = cache.Sooner(p.RequeueAfter, desired.RequeueAfter)
	if s.WaitsForPods() {
		p.RequeueAfter = cache.Sooner(p.RequeueAfter, podInterval(p.Status))
	}
	if retired.WaitsFor != "" {
		p.RequeueAfter = cache.Sooner(p.RequeueAfter, teardownInterval)
	}
	return p
}

// podInterval is how soon pods that do not run are read again, because they are not
// watched: less often once they did not come in time.
func podInterval(st v1alpha1.FlagCacheStatus) time.Duration {
	if meta.IsStatusConditionTrue(st.Conditions, v1alpha1.ConditionStalled) {
		return time.Minute
	}
	return 30 * time.Second
}

// requeueAfter is when something is due that no watch reports.
func requeueAfter(s *observed.Index, r rollout, conflicts []observed.Object) time.Duration {
	switch {
	case r.canary != nil:
		return max(s.FlagCache.Spec.Canary.Metrics.Interval.Duration, canaryInterval)
	case len(s.Routes) > 0:
		return routeInterval
	case len(conflicts) > 0:
		return conflictInterval
	default:
		return r.previousFor
	}
}

// obsolete returns the children that no part desires and that may be deleted now.
func obsolete(s *observed.Index, desired []observed.Object, r rollout) []observed.Object {
	var deletable []observed.Object
	for _, child := range s.Owned {
		unwanted := !observed.Contains(desired, child) && child.GetDeletionTimestamp() == nil && child.GetLabels()[v1alpha1.LabelCache] == ""
		if unwanted && mayDelete(s, child, r) {
			deletable = append(deletable, child)
		}
	}
	return deletable
}

// mayDelete reports whether an undesired child may be deleted now. During a rollout, and
// for the scale-down delay after it, what the previous spec requested is kept; but not
// what belongs to a candidate alone, once no gateway sends it requests, nor an
// autoscaler, which would change the size of the stable revision, nor the disruption
// budget of a revision that does not serve, which would block drains.
func mayDelete(s *observed.Index, child observed.Object, r rollout) bool {
	switch child := child.(type) {
	case *autoscalingv2.HorizontalPodAutoscaler, *appsv1.ControllerRevision, *batchv1.Job, *policyv1.PodDisruptionBudget:
		return true
	case *appsv1.Deployment:
		revision, _ := observed.RevisionOf(s.FlagCache, child.Name)
		return !r.keeps(revision) && !traffic.Routed(s, revision)
	case *corev1.Service:
		if revision, ok := observed.RevisionOf(s.FlagCache, child.Name); ok {
			return !traffic.Routed(s, revision)
		}
		return r.atRest()
	case *corev1.Secret:
		hash, private := strings.CutPrefix(child.Name, observed.PrivateConnectionName(s.FlagCache, ""))
		return private && !r.observed.use(hash) || r.atRest()
	case *networkingv1.NetworkPolicy:
		return child.Labels[v1alpha1.LabelComponent] == v1alpha1.ComponentLoadTest || r.atRest()
	default:
		return r.atRest()
	}
}

// probeTarget is the data path of a known connection, from when a probe of it may
// succeed. A Redis that is being created is not probed before its pod is ready for the
// first time: a probe that fails too early delays Ready by an interval.
func probeTarget(s *observed.Index, cached cache.Part, used *connection.Connection) *ProbeTarget {
	if used == nil || (cached.Status.State == cache.StateProvisioning && !probed(s, used)) {
		return nil
	}
	return targetOf(s, caches.ProbeConnection(s, *used))
}

// broadcastTarget is the published document for the Redis in use. Nothing is sent to a server
// before probes of exactly this connection, with its credentials, succeeded.
func broadcastTarget(s *observed.Index, flags source.Part, redis *ProbeTarget, used *connection.Connection) *BroadcastTarget {
	if redis == nil || !answers(s.Probe, redis.ID) {
		return nil
	}
	document := flags.Broadcast(s, used.Hash(s.FlagCache.UID))
	if document == nil {
		return nil
	}
	return &BroadcastTarget{Broadcast: *document, Redis: *redis}
}

// answers reports whether probes of a target succeed. One success suffices while there is no
// verdict, as after a restart of the operator.
func answers(p observed.Probe, id string) bool {
	succeeded := !p.At.IsZero() && !p.Failing
	return p.Of == id && (p.Health == observed.Healthy || p.Health == observed.HealthUnknown && succeeded)
}

// nextTarget is a connection that is not used before a probe of it succeeded.
func nextTarget(s *observed.Index, cached cache.Part) *ProbeTarget {
	if cached.Probe == nil {
		return nil
	}
	return targetOf(s, *cached.Probe)
}

func targetOf(s *observed.Index, c connection.Connection) *ProbeTarget {
	return &ProbeTarget{ID: c.Hash(s.FlagCache.UID), Connection: c, Key: cache.ProbeKey(s.FlagCache), Spec: s.FlagCache.Spec.Probe}
}
