// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package elasticache plans caches of type ElastiCache: a replication group with what
// it needs, through the custom resources of AWS Controllers for Kubernetes (ACK).
//
// A cache is the identity of everything that AWS cannot change in place, and all
// objects with that identity in the label flagcache.dev/cache:
//
//	Secret ──▶ subnet, parameter and security group, users ──▶ ReplicationGroup ──▶ alarms
//	                                                                │ endpoint
//	                              probe with exactly these bytes ◀──┘
//	                                   │ succeeded
//	                                   ▼
//	                         connection of a candidate revision
//
// A spec with another identity gets a second cache beside the first. The revision that
// uses it is tried by a canary like every other; a cache that no revision uses any
// more is retired.
package elasticache

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Planner plans caches in ElastiCache. It implements cache.Planner.
type Planner struct{}

// Dependencies implements cache.Planner. What runs in AWS, and what is to be deleted
// before the FlagCache, must be known completely. By an outdated token the group
// would be described, and a revision created, only to be reverted.
func (Planner) Dependencies(fc *v1alpha1.FlagCache) cache.Dependencies {
	deps := cache.Dependencies{ACK: true, Current: []cache.List{&ack.ReplicationGroupList{}}}
	if fc.DeletionTimestamp.IsZero() {
		deps.Current = append(deps.Current, &corev1.SecretList{})
	}
	return deps
}

// Workload implements cache.Planner.
func (Planner) Workload(fc *v1alpha1.FlagCache) cache.Workload {
	w := cache.Workload{
		Annotations: map[string]string{v1alpha1.AnnotationCache: Identity(fc)},
		Spec:        observed.ToJSON(fc.Spec.Cache.ElastiCache),
	}
	if role := fc.Spec.Cache.ElastiCache.Authentication.RoleARN; role != "" {
		w.Annotations[v1alpha1.AnnotationRole] = role
		w.ServiceAccount = serviceAccount(fc, role)
	}
	return w
}

// Hints implements cache.Planner.
func (Planner) Hints() cache.Hints {
	return cache.Hints{
		HighMemory: "choose a spec.cache.elastiCache.nodeType with more memory",
		HighCPU:    "find out what else uses it, or choose a larger spec.cache.elastiCache.nodeType",
		Low:        "a smaller spec.cache.elastiCache.nodeType would do",
	}
}

// planned is the cache that the spec requests, with what was observed of it and
// everything that follows from that, each derived once.
type planned struct {
	desired
	x       *observed.Index
	seen    Observed
	records records
	group   group
	deps    dependencies
	// requested is the spec that the group is to have in the end.
	requested ack.ReplicationGroupSpec
}

// Plan implements cache.Planner.
func (Planner) Plan(in cache.Input) cache.Part {
	n := namesOf(in.Index, Identity(in.FlagCache))
	seen := observe(in.Index, n)
	d := desired{names: n, spec: in.FlagCache.Spec.Cache.ElastiCache, token: seen.token(), cluster: in.Operator.ClusterID}
	if d.cluster == "" {
		d.cluster = tagOf(seen.Group, tagCluster)
	}
	d.trusted = in.AdoptionPermitted || seen.Group != nil && len(seen.Group.Finalizers) > 0
	// A cache that a revision uses was not rejected. One that may have been is not created.
	rejected := len(seen.Users) == 0 && (in.Rejected || in.MayBeRejected && seen.Group == nil)
	part := cache.Part{AdoptableID: d.aws, Status: statusOf(seen), Cost: assess(in.Index, d, seen.Group, rejected), KeepsConnection: true}
	part.Status.EngineVersion = d.engine() + " " + d.spec.EngineVersion
	if kind := missingKind(d, in.ACK); kind != nil {
		part.Provisioned = notInstalled(*kind)
		part.Keep, part.Connection = in.OfCache(d.id), seen.lastGood()
		return part
	}
	if d.aws == "" {
		part.Provisioned = unidentified()
		part.Keep, part.Connection = in.OfCache(d.id), seen.lastGood()
		return part
	}
	if rejected {
		part.Provisioned = conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonReplacementRejected,
			"The cache that the spec requests was rolled back with its revision; the previous one is in use")
		showServing(&part.Status, in.Index)
		return part
	}
	records, err := decodeRecords(seen)
	c := planned{desired: d, x: in.Index, seen: seen, records: records, deps: planDependencies(in.Index, d, seen)}
	lost, lostIn := lost(in.Index, seen, d.id)
	c.group = group{observed: seen.Group, last: records.change, now: in.Now, since: in.Since, lost: lost}
	requested := d.renderGroup(d.groupSpec(c.deps.securityGroupIDs), change{})
	if missing := ack.Fit(in.ACKLacks, append(slices.Clone(c.deps.objects), observed.Object(requested))...); missing != nil {
		part.Provisioned = notProvisioned(v1alpha1.ReasonACKOutdated, "%s", missing)
		part.Keep, part.Connection = in.OfCache(d.id), seen.lastGood()
		return part
	}
	c.requested = requested.Spec
	var next steps
	switch {
	case err != nil:
		part.Provisioned = invalidRecord(err)
		next.keep = in.OfCache(d.id)
	default:
		part.Provisioned = c.provisioned()
		next = c.steps(part.Cost.Held)
	}
	if part.Cost.Held && seen.Group == nil {
		part.Provisioned = notProvisioned(part.Cost.Budget.Reason, "%s", part.Cost.Budget.Message)
	}
	part.Apply, part.Keep, part.RequeueAfter = next.apply, next.keep, cache.Sooner(next.requeueAfter, lostIn)
	if next.alarms != nil {
		part.Conditions = append(part.Conditions, *next.alarms)
	}
	part.Connection, part.Probe = c.connections()
	if part.Provisioned.Status == metav1.ConditionTrue && part.Connection == nil {
		part.Provisioned = c.verifying(part.Probe)
	}
	part.Progress = c.progress(part.Provisioned, next.changing)
	if waits := c.rotationWaits(); waits != "" {
		part.Provisioned.Message += ". " + waits
	}
	return part
}

// steps are what is done about the cache's objects now.
type steps struct {
	apply, keep  []observed.Object
	changing     bool
	requeueAfter time.Duration
	alarms       *metav1.Condition
}

// steps creates the Secret first, then what the group refers to, then the group. A
// budget that would be exceeded stops before anything is created.
func (c planned) steps(held bool) steps {
	owned := c.x.OfCache(c.id)
	if held {
		return steps{keep: owned}
	}
	next := steps{apply: []observed.Object{c.renderSecret()}}
	switch {
	case c.seen.Inspected != nil:
		next.keep, next.requeueAfter = owned, retryInterval
		if !c.adopts() && c.seen.Inspected.DeletionTimestamp == nil {
			next.keep = observed.Without(owned, []observed.Object{c.seen.Inspected})
		}
		return next
	case inspectable(c):
		next.apply, next.keep = append(next.apply, c.inspection(c.x.Now)), owned
		return next
	case c.discarded():
		next.keep = observed.Without(owned, []observed.Object{c.seen.Group})
		return next
	case c.token.IsEmpty() || forgetsToken(c.desired, c.seen):
		next.keep = owned
		return next
	}
	next.apply = append(next.apply, c.deps.objects...)
	next.planGroup(c)
	next.planAlarms(c)
	next.requeueAfter = cache.Sooner(next.requeueAfter, c.rotationIn())
	if c.seen.Group != nil && (!c.group.settled() || c.deps.waiting != nil) || c.deps.refused(c.seen) {
		next.requeueAfter = cache.Sooner(next.requeueAfter, retryInterval)
	}
	return next
}

// planAlarms adds the alarms. Where their CRD lacks a field, the existing ones are kept.
func (s *steps) planAlarms(c planned) {
	alarms, condition := planAlarms(c.x, c.desired, c.seen)
	if missing := ack.Fit(c.x.ACKLacks, alarms...); missing != nil {
		s.keep = append(s.keep, alarms...)
		s.alarms = notConfigured(v1alpha1.ReasonACKOutdated, "%s", missing)
		return
	}
	s.apply, s.alarms = append(s.apply, alarms...), condition
}

// lost reports whether the group may not exist any more: probes of the cache in use fail
// for a time, and ACK has not synced since. Otherwise it returns when that is to be
// checked again, 0 for never.
func lost(x *observed.Index, seen Observed, id string) (bool, time.Duration) {
	healthy := meta.FindStatusCondition(x.FlagCache.Status.Conditions, v1alpha1.ConditionCacheHealthy)
	stable := x.Revisions[x.Stable]
	if seen.Group == nil || stable == nil || identityOf(stable) != id || x.Probe.Health != observed.Unhealthy {
		return false, 0
	}
	if healthy == nil || healthy.Status != metav1.ConditionFalse {
		return false, lostAfter
	}
	failing, synced := healthy.LastTransitionTime, ack.ConditionsOf(seen.Group).LastSyncTime()
	if left := lostAfter - x.Since(failing.Time); left > 0 {
		return false, left
	}
	return !synced.After(failing.Time) || x.Since(synced.Time) >= lostRetry, retryInterval
}

// planGroup adds the group, unless it is not to be touched now.
func (s *steps) planGroup(c planned) {
	if c.seen.Group == nil {
		failed := c.records.failures.of(c.request())
		pause := failed.pause(c.x.Since)
		switch {
		case c.deps.waiting != nil:
			s.requeueAfter = cache.Sooner(pause, retryInterval)
		case failed.exhausted() || pause > 0:
			s.requeueAfter = pause
		default:
			s.apply = append(s.apply, c.renderGroup(c.requested, change{At: toSecond(c.x.Now), Request: reconcileAt(c.fc)}))
		}
		return
	}
	if c.seen.Group.DeletionTimestamp != nil {
		s.keep = append(s.keep, c.seen.Group)
		return
	}
	if inspects(c.seen.Group) && c.group.justSynced() {
		s.keep, s.requeueAfter = append(s.keep, c.seen.Group), syncGap
		return
	}
	next, last := c.group.next(c.desired, c.requested, c.deps.parametersReady)
	if inspects(c.seen.Group) {
		next, last = completed(c.seen.Group.Spec, c.requested), c.group.record(c.desired, 0, fixedClass)
	}
	rendered := c.renderGroup(next, last)
	maps.Copy(rendered.Annotations, c.group.forgotten(next, last))
	s.apply = append(s.apply, rendered)
	s.changing = c.group.changing(next, c.requested)
	switch {
	case s.changing && c.group.justSynced():
		s.requeueAfter = syncGap
	case s.changing && last.Class == fixedClass && c.x.Since(last.At) < inFlight:
		s.requeueAfter = inFlight // AWS does nothing about it that ACK would notice
	}
}

// discarded reports whether the group is to be deleted and created again: AWS failed
// to create it, which is on record.
func (c planned) discarded() bool {
	g := c.seen.Group
	if g == nil || g.DeletionTimestamp != nil || ack.GroupState(g) != ack.GroupCreateFailed {
		return false
	}
	failed := c.records.failures.of(c.request())
	return failed.UID == string(g.UID) && !failed.exhausted()
}

// statusOf is what the status shows of a cache.
func statusOf(seen Observed) v1alpha1.CacheStatus {
	status := v1alpha1.CacheStatus{State: seen.state(), Nodes: seen.nodes()}
	if seen.Group != nil {
		status.ReplicationGroupID = seen.ID
	}
	if g := seen.Group; g != nil && !seen.ofAnother() {
		status.CreatedAt = g.Status.ReplicationGroupCreateTime
		status.ReaderEndpoint = ack.Address(ack.ReaderEndpoint(g))
	}
	return status
}

// showServing shows the cache of the stable revision, where the requested one was
// rejected.
func showServing(status *v1alpha1.CacheStatus, x *observed.Index) {
	stable := x.Revisions[x.Stable]
	if stable == nil || identityOf(stable) == "" {
		return
	}
	engine := status.EngineVersion
	*status = statusOf(observe(x, namesOf(x, identityOf(stable))))
	status.EngineVersion = engine
}

// Bill implements cache.Planner.
func (Planner) Bill(x *observed.Index) []cost.Group {
	var bill []cost.Group
	for _, g := range groups(x) {
		bill = append(bill, billed(g))
	}
	return bill
}

// Requested implements cache.Planner.
func (Planner) Requested(x *observed.Index) []cost.Group {
	n := namesOf(x, Identity(x.FlagCache))
	d := desired{names: n, spec: x.FlagCache.Spec.Cache.ElastiCache}
	all := []cost.Group{requested(d, regionFor(x, d, observe(x, n).Group))}
	for _, g := range groups(x) {
		if g.Name != d.object() {
			all = append(all, billed(g))
		}
	}
	return all
}

// groups are the FlagCache's, which an inspected one is not.
func groups(x *observed.Index) []*ack.ReplicationGroup {
	return slices.DeleteFunc(observed.All[*ack.ReplicationGroup](x), func(g *ack.ReplicationGroup) bool { return inspects(g) })
}

// assess is the cost of the existing groups and of the requested one, nil where that
// does not exist yet. While one replaces another both are billed.
func assess(x *observed.Index, d desired, own *ack.ReplicationGroup, rejected bool) cost.Assessment {
	var current, then []cost.Group
	for _, g := range groups(x) {
		current = append(current, billed(g))
		if g.Name != d.object() || rejected {
			then = append(then, billed(g))
		}
	}
	if !rejected {
		then = append(then, requested(d, regionFor(x, d, own)))
	}
	return cost.Assess(x.FlagCache.Spec.Budget, current, then)
}

// requested is the group that the spec requests.
func requested(d desired, region string) cost.Group {
	b := cost.Group{Engine: d.spec.Engine, NodeType: d.spec.NodeType, Nodes: d.spec.Replicas + 1, Region: region}
	if d.spec.Snapshots != nil {
		b.SnapshotDays = d.spec.Snapshots.RetentionDays
	}
	return b
}

// billed is an existing group.
func billed(g *ack.ReplicationGroup) cost.Group {
	b := cost.Group{
		Engine: v1alpha1.EngineRedis, NodeType: ack.Value(g.Spec.CacheNodeType),
		Nodes: int32(ack.Value(g.Spec.ReplicasPerNodeGroup)) + 1, Region: regionOf(g), SnapshotDays: int32(ack.Value(g.Spec.SnapshotRetentionLimit)),
	}
	if ack.Value(g.Spec.Engine) == strings.ToLower(string(v1alpha1.EngineValkey)) {
		b.Engine = v1alpha1.EngineValkey
	}
	return b
}

// regionFor is the spec's region, else that of the cache's own group, else that in
// which ACK created another group whose spec has none.
func regionFor(x *observed.Index, d desired, own *ack.ReplicationGroup) string {
	switch {
	case d.spec.Region != "":
		return d.spec.Region
	case own != nil:
		return regionOf(own)
	}
	for _, other := range groups(x) {
		if other.Annotations[ack.AnnotationRegion] == "" {
			return regionOf(other)
		}
	}
	return ""
}

// regionOf a group is "" while AWS has not reported it and the spec has none.
func regionOf(g *ack.ReplicationGroup) string {
	if region := g.Annotations[ack.AnnotationRegion]; region != "" {
		return region
	}
	return ack.Region(g.Status.ACKResourceMetadata)
}
