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
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
)

// Plan is what is to be done, in this order: the finalizer, the objects to
// apply, the objects to delete, the status, the events.
type Plan struct {
	// Finalizer says whether the finalizer is to be added, removed or left.
	Finalizer FinalizerChange
	// Apply are the objects as they should be, in order.
	Apply []observed.Object
	// Routes are HTTPRoutes of users as they should be, each with the version that
	// it was observed in.
	Routes []*unstructured.Unstructured
	// Delete are the objects that should not be, in order, as they were observed.
	Delete []observed.Object
	// Probe is the data path to watch; nil stops watching.
	Probe *ProbeTarget
	// ProbeNext is a data path to try beside it, before anybody uses it; nil where
	// there is none.
	ProbeNext *ProbeTarget
	// Evidence is what to count about a canary; nil where there is none.
	Evidence *EvidenceTarget
	// Status is the whole status as it should be if all of the above succeeds.
	Status v1alpha1.FlagCacheStatus
	// RequeueAfter is when to look again if nothing happens before; 0 is never.
	RequeueAfter time.Duration
}

// FinalizerChange says what to do about the finalizer.
type FinalizerChange int

// What to do about the finalizer.
const (
	KeepFinalizer FinalizerChange = iota
	AddFinalizer
	RemoveFinalizer
)

// ProbeTarget is a cache as its users connect to it.
type ProbeTarget struct {
	// ID tells these very bytes from others.
	ID         string
	Connection connection.Connection
	// Key that is written and read back; it is this FlagCache's alone, also on a
	// Redis that several clusters share.
	Key string
	// Spec of the probe.
	Spec v1alpha1.ProbeSpec
}

// EvidenceTarget is what to count about a canary.
type EvidenceTarget struct {
	Candidate, Stable string
	// Since is when the canary began: nothing was asked of the candidate before.
	Since time.Time
	// Canary is where the numbers come from, and what counts as slow.
	Canary v1alpha1.CanarySpec
}

// evidenceTarget is what to count while a canary is under way, from when its beginning
// is on record until its end is: without a beginning each look would begin to count
// anew, without the evidence a look after an end that could not be recorded would go
// on with the trial.
func evidenceTarget(s *observed.Index, r rollout) *EvidenceTarget {
	if r.canary == nil || !r.begun {
		return nil
	}
	return &EvidenceTarget{Candidate: r.target, Stable: r.stable, Since: r.record().StartedAt, Canary: *s.FlagCache.Spec.Canary}
}

// nameConflictRetry is how soon a taken name is looked at again: the object in
// the way is not ours to watch.
const nameConflictRetry = time.Minute

// routeRetry is how soon a route is looked at again that names a candidate of
// the past, or whose gateway is behind: it is not watched.
const routeRetry = 5 * time.Second

// Make decides what to do about one FlagCache.
func Make(snapshot observed.Snapshot) Plan {
	s := observed.NewIndex(snapshot)
	switch {
	case !s.FlagCache.DeletionTimestamp.IsZero():
		return tearDown(s)
	case !slices.Contains(s.FlagCache.Finalizers, v1alpha1.Finalizer):
		return begin(s)
	case s.FlagCache.Spec.Suspend:
		return suspended(s)
	default:
		return progress(s)
	}
}

// begin takes charge: the finalizer, and a status that says so before anything
// is made, because a resource without a status counts as done (kstatus).
func begin(s *observed.Index) Plan {
	return Plan{Finalizer: AddFinalizer, Status: initialStatus(s)}
}

// suspended changes nothing but goes on watching what runs.
func suspended(s *observed.Index) Plan {
	p := progress(s)
	p.Apply, p.Routes, p.Delete, p.RequeueAfter = nil, nil, nil, 0
	p.Status = suspendedStatus(s, p.Status)
	return p
}

// progress works towards the spec.
func progress(s *observed.Index) Plan {
	requested := readRequest(s)
	cached := caches.Of(s.FlagCache).Plan(cache.Input{
		Index: s, Rejected: requested.rejected != nil, MayBeRejected: requested.unreadable != "", Bill: caches.Bill(s),
	})
	desired := connection.Desire(s, cached.Connection)
	flags := source.Check(s)
	service := planService(s, requested, desired, flags)
	published := connection.Publish(s, desired, connection.Serving{Stable: service.rollout.stable, Target: service.rollout.target},
		cached.KeepsConnection, cached.Provisioned.Message)

	p := Plan{Probe: probeTarget(s, cached, published.InUse), ProbeNext: nextTarget(s, cached), Evidence: evidenceTarget(s, service.rollout)}
	write := slices.Concat(cached.Apply, desired.Apply, published.Apply, service.objects)
	wanted := slices.Concat(write, cached.Keep, published.Keep, service.later)
	taken := s.Conflicts(wanted)
	for _, o := range write {
		if !observed.Contains(taken, o) {
			p.Apply = append(p.Apply, o)
		}
	}
	p.Routes = traffic.RouteChanges(s, service.rollout.routeShare(s.FlagCache))
	p.Delete = obsolete(s, wanted, service.rollout)
	retired := caches.Retire(s, cached)
	p.Apply, p.Delete = append(p.Apply, retired.Apply...), append(p.Delete, retired.Delete...)
	p.Status = status(s, parts{cache: cached, connection: published, flags: flags, service: service, taken: taken})
	p.RequeueAfter = cache.Sooner(requeueAfter(s, service.rollout, taken), cached.RequeueAfter)
	if retired.WaitsFor != "" {
		p.RequeueAfter = cache.Sooner(p.RequeueAfter, cacheRetry)
	}
	return p
}

// requeueAfter is when something is due that no watch tells of.
func requeueAfter(s *observed.Index, r rollout, taken []observed.Object) time.Duration {
	switch {
	case r.canary != nil:
		return s.FlagCache.Spec.Canary.Metrics.Interval.Duration
	case len(s.Routes) > 0:
		return routeRetry
	case len(taken) > 0:
		return nameConflictRetry
	default:
		return r.previousFor
	}
}

// obsolete are the children that no part wants.
func obsolete(s *observed.Index, wanted []observed.Object, r rollout) []observed.Object {
	var gone []observed.Object
	for _, child := range s.Owned {
		unwanted := !observed.Contains(wanted, child) && child.GetDeletionTimestamp() == nil && child.GetLabels()[v1alpha1.LabelCache] == ""
		if unwanted && mayGo(s, child, r) {
			gone = append(gone, child)
		}
	}
	return gone
}

// mayGo tells whether an unwanted child may go now. While a rollout is under
// way, and as long after it as going back is meant to be easy, what the old spec
// asked for stays; but not what is a candidate's alone, once no gateway sends it
// anything, nor an autoscaler, which would fight over the stable revision's size.
func mayGo(s *observed.Index, child observed.Object, r rollout) bool {
	switch child := child.(type) {
	case *autoscalingv2.HorizontalPodAutoscaler, *appsv1.ControllerRevision, *batchv1.Job:
		return true
	case *appsv1.Deployment:
		revision := child.Labels[v1alpha1.LabelRevision]
		return !r.keeps(revision) && !traffic.Routed(s, revision)
	case *corev1.Service:
		if revision := child.Labels[v1alpha1.LabelRevision]; revision != "" {
			return !traffic.Routed(s, revision)
		}
		return r.atRest()
	case *corev1.Secret:
		hash, private := strings.CutPrefix(child.Name, observed.PrivateConnectionName(s.FlagCache, ""))
		return private && !r.uses(hash) || r.atRest()
	default:
		return r.atRest()
	}
}

// probeTarget is the data path of a known connection, from when a probe of it
// may succeed. A Redis that is being made is not probed before its pod is ready
// for the first time: a probe that fails because it comes too soon keeps everyone
// waiting for the next one, an interval later.
func probeTarget(s *observed.Index, cached cache.Part, used *connection.Connection) *ProbeTarget {
	if used == nil || (cached.Status.State == cache.StateProvisioning && !answered(s, used)) {
		return nil
	}
	return targetOf(s, caches.ProbeConnection(s, *used))
}

// nextTarget is a connection that nobody uses before a probe of it succeeded.
func nextTarget(s *observed.Index, cached cache.Part) *ProbeTarget {
	if cached.Probe == nil {
		return nil
	}
	return targetOf(s, *cached.Probe)
}

func targetOf(s *observed.Index, c connection.Connection) *ProbeTarget {
	return &ProbeTarget{ID: c.Hash(s.FlagCache.UID), Connection: c, Key: cache.ProbeKey(s.FlagCache), Spec: s.FlagCache.Spec.Probe}
}
