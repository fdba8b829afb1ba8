// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

const (
	// refusedRetry is how long to wait before retrying what a quota or AWS' capacity
	// did not allow. ACK does not retry by itself.
	refusedRetry = 8 * time.Minute
	// notResponding is how long ACK may take to sync an object.
	notResponding = 5 * time.Minute
	// lostAfter is how long probes fail before ACK is made to look for the group, which it
	// does by itself every ten hours, and again every lostRetry.
	lostAfter, lostRetry = 3 * time.Minute, time.Hour
	// givenUp is how long ACK takes at most to retry after an error: 1,000 seconds.
	givenUp = 20 * time.Minute
	// syncGap is how long after a sync of ACK's a change is made: ACK's times have a
	// resolution of a second, so the sync that the change causes is visible.
	syncGap = 2 * time.Second
	// ambiguous is how long it may be unclear whether ACK has synced a change, where
	// clocks differ by more: a sync within the second of the previous one is
	// invisible. ACK syncs what is not done every 30 seconds.
	ambiguous = 2 * time.Minute
	// inFlight is how long ACK may still be busy with the previous spec: what it writes
	// then is about that one.
	inFlight = 5 * time.Second
)

// group is a ReplicationGroup as it was observed, with the record of its last
// change.
type group struct {
	// observed is nil where there is no group.
	observed *ack.ReplicationGroup
	last     change
	now      time.Time
	since    func(time.Time) time.Duration
	// lost: probes fail since a time at which ACK still found the group in AWS.
	lost bool
}

// created reports whether AWS has ever had the group; until then its spec may change
// as a whole.
func (g group) created() bool { return ack.GroupState(g.observed) != "" }

// settled reports whether AWS has carried out every change of the group.
func (g group) settled() bool {
	o := g.observed
	if o == nil || o.DeletionTimestamp != nil || ack.GroupState(o) != ack.GroupAvailable || !ack.ConditionsOf(o).Is(ack.ConditionReady) {
		return false
	}
	return g.synced()
}

// synced reports whether ACK has synced the group since its last change.
func (g group) synced() bool {
	at := ack.ConditionsOf(g.observed).LastSyncTime()
	switch {
	case at.IsZero():
		return false
	case g.last.SyncedBefore.IsZero():
		return true
	case at.Time.Equal(g.last.SyncedBefore):
		// Only a sync about the time of the change can be hidden by the previous one, and
		// only where AWS needs no time, in which ACK would have synced again.
		return immediate(g.last.Class) && g.last.At.Sub(g.last.SyncedBefore).Abs() <= time.Minute && g.now.Sub(g.last.At) >= ambiguous
	default:
		return g.since(g.last.At) >= inFlight
	}
}

// justSynced reports whether ACK's next sync might be invisible.
func (g group) justSynced() bool {
	return g.observed != nil && g.now.Sub(ack.ConditionsOf(g.observed).LastSyncTime().Time).Abs() < syncGap
}

// refusal is why AWS refuses the group. What ACK reported before the last change of the
// spec is not about the present one.
func (g group) refusal() Refusal {
	if g.observed == nil || !g.last.Woken && !g.synced() {
		return Refusal{}
	}
	return RefusalOf(ack.ConditionsOf(g.observed))
}

// mayChange reports whether the group may get another spec now: when AWS has carried out
// the last change, or does not carry it out, and ACK's answer will be distinguishable
// from the previous one. A change that AWS holds back holds back no other, because it may
// not be the one on record: somebody may have edited the group.
func (g group) mayChange() bool {
	switch {
	case !g.created():
		return true
	case g.justSynced():
		return false
	case g.settled():
		return true
	}
	heldBack := g.refusal().Reason != "" || g.synced() && g.since(g.last.At) >= notResponding
	return ack.GroupState(g.observed) == ack.GroupAvailable && heldBack
}

// mayWake reports whether ACK may be made to sync the group although its spec does not
// change. While AWS works on it, ACK polls anyway.
func (g group) mayWake() bool {
	return g.mayChange() || g.refusal().Reason != "" && !g.justSynced()
}

// next is the spec that the group should have now, with the record of its last change.
// Other security groups alone are no difference to ACK, which sends them with the next
// other change and forgets that one: so a change follows that may be forgotten.
func (g group) next(d desired, spec ack.ReplicationGroupSpec, parametersReady bool) (next ack.ReplicationGroupSpec, last change) {
	if sameTags(reflect.ValueOf(spec.Tags), reflect.ValueOf(g.observed.Spec.Tags)) {
		spec.Tags = g.observed.Spec.Tags
	}
	current, refused := writtenSpec(g.observed.Spec), g.refusal()
	spec.Description = ptr.To(d.description(g.last.Attempt))
	next, class := spec, firstDifference(current, spec)
	if g.created() {
		if !parametersReady { // the engine stays until AWS has the parameter group of the new one
			spec.EngineVersion, spec.CacheParameterGroupName = current.EngineVersion, current.CacheParameterGroupName
		}
		next, class = NextChange(current, spec, g.amended(refused))
	}
	fixed := withFixed(current, spec)
	switch {
	case g.created() && !sameSpec(fixed, current) && (g.last.Class != fixedClass || g.since(g.last.At) >= inFlight):
		return fixed, g.record(d, g.last.Attempt, fixedClass)
	case g.last.Class == securityClass.name && g.settled() && !g.justSynced():
		current.Description = ptr.To(d.description(g.last.Attempt + 1))
		return current, g.record(d, g.last.Attempt+1, flushClass)
	case !sameSpec(next, current) && g.mayChange():
		return next, g.record(d, g.last.Attempt, class)
	case g.wakes(d) && g.mayWake():
		again := &ack.ReplicationGroup{Spec: current}
		rotateTags(again)
		last = g.record(d, g.last.Attempt, g.last.Class)
		last.Woken = true
		return again.Spec, last
	default:
		return current, g.last
	}
}

// amended is the class of the change that AWS refuses: it is amended before any
// other is started.
func (g group) amended(refused Refusal) string {
	if refused.Reason == "" {
		return ""
	}
	return g.last.Class
}

// wakes reports whether ACK is to sync the group although its spec does not change: the
// user requests that, a retry may succeed, or AWS may not have the group any more.
func (g group) wakes(d desired) bool {
	return g.last.requests(d.fc) || (g.refusal().Retryable || g.lost) && g.since(g.last.At) >= refusedRetry
}

// record is the record of a change that is made now.
func (g group) record(d desired, attempt int, class string) change {
	return change{
		At: toSecond(g.now), SyncedBefore: ack.ConditionsOf(g.observed).LastSyncTime().UTC(),
		Attempt: attempt, Class: class, Request: reconcileAt(d.fc),
	}
}

// forgotten is the annotation of a group with which ACK requests the node type of a spec
// even if it did so before and AWS rolled it back; nil if it does anyway. It is for the
// moment of a change only: ACK replaces it.
func (g group) forgotten(next ack.ReplicationGroupSpec, last change) map[string]string {
	requested := g.observed.Annotations[ack.AnnotationLastNodeType] == ack.Value(next.CacheNodeType)
	again := nodeClass.differ(g.observed.Spec, next) || last != g.last && g.rolledBack()
	if !requested || !again {
		return nil
	}
	return map[string]string{ack.AnnotationLastNodeType: notRequested}
}

// notRequested is no node type.
const notRequested = "none"

// rolledBack reports whether AWS rolled a change back that it had accepted.
func (g group) rolledBack() bool {
	c := ack.ConditionsOf(g.observed).Get(ack.ConditionRecoverable)
	return g.refusal().Reason != "" && c != nil && strings.HasSuffix(ack.Value(c.Message), seeEvents)
}

// changing reports whether a change of the spec is still being carried out. Planned
// is the spec that the group is given now.
func (g group) changing(planned, spec ack.ReplicationGroupSpec) bool {
	spec.Description = planned.Description
	current := writtenSpec(g.observed.Spec)
	next, _ := NextChange(withFixed(current, spec), spec, "")
	return !sameSpec(next, current) || !g.synced() || ack.GroupState(g.observed) == ack.GroupModifying
}

func firstDifference(current, desired ack.ReplicationGroupSpec) string {
	if classes := Differences(current, desired); len(classes) > 0 {
		return classes[0]
	}
	return ""
}

// toSecond is the time as records hold it.
func toSecond(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// renderGroup is the ReplicationGroup with the record of its last change.
func (d desired) renderGroup(spec ack.ReplicationGroupSpec, last change) *ack.ReplicationGroup {
	rendered := &ack.ReplicationGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "ReplicationGroup"},
		ObjectMeta: d.retainableMeta(d.object()),
		Spec:       spec,
	}
	rendered.Annotations[v1alpha1.AnnotationChange] = observed.ToJSON(last)
	delete(rendered.Annotations, ack.AnnotationAdoptionPolicy) // a group is inspected first
	return rendered
}

// groupSpec is the whole spec. Every field that ACK would fill in by itself is set,
// so ACK writes nothing into it.
func (d desired) groupSpec(securityGroupIDs []string) ack.ReplicationGroupSpec {
	e := d.spec
	spec := ack.ReplicationGroupSpec{
		ReplicationGroupID:         ptr.To(d.aws),
		Description:                ptr.To(d.description(0)),
		Engine:                     ptr.To(strings.ToLower(string(e.Engine))),
		EngineVersion:              ptr.To(e.EngineVersion),
		CacheNodeType:              ptr.To(e.NodeType),
		DataTieringEnabled:         optional(tiered(e.NodeType)),
		NumNodeGroups:              ptr.To[int64](1),
		ReplicasPerNodeGroup:       ptr.To(int64(e.Replicas)),
		AutomaticFailoverEnabled:   ptr.To(e.Replicas > 0),
		MultiAZEnabled:             ptr.To(e.MultiAZ == v1alpha1.Enabled),
		TransitEncryptionEnabled:   ptr.To(e.TransitEncryption == v1alpha1.TransitEncryptionRequired),
		AtRestEncryptionEnabled:    ptr.To(true),
		CacheSubnetGroupName:       optional(d.subnetGroupName()),
		CacheParameterGroupName:    ptr.To(d.parameterGroupName()),
		SecurityGroupIDs:           ack.Pointers(securityGroupIDs...),
		SnapshotRetentionLimit:     ptr.To[int64](0),
		SnapshotWindow:             ptr.To(defaultSnapshotWindow),
		PreferredMaintenanceWindow: optional(e.MaintenanceWindow),
		IPDiscovery:                ptr.To("ipv4"),
		NetworkType:                ptr.To("ipv4"),
		Durability:                 ptr.To("default"),
		Tags:                       d.tags(),
	}
	if e.AtRestEncryption != nil {
		spec.KMSKeyID = optional(e.AtRestEncryption.KMSKeyID)
	}
	if e.Snapshots != nil {
		spec.SnapshotRetentionLimit = ptr.To(int64(e.Snapshots.RetentionDays))
		if e.Snapshots.Window != "" {
			spec.SnapshotWindow = ptr.To(e.Snapshots.Window)
		}
	}
	switch {
	case d.usesToken():
		spec.AuthToken = secretKey(d.secret(), TokenKey)
	case d.usesIAM():
		spec.UserGroupIDs = ack.Pointers(d.userGroup())
	}
	return spec
}

// writtenSpec is the part of a group's spec that FlagCache writes.
func writtenSpec(spec ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	return ack.ReplicationGroupSpec{
		ReplicationGroupID:         spec.ReplicationGroupID,
		Description:                spec.Description,
		Engine:                     spec.Engine,
		EngineVersion:              spec.EngineVersion,
		CacheNodeType:              spec.CacheNodeType,
		DataTieringEnabled:         spec.DataTieringEnabled,
		NumNodeGroups:              spec.NumNodeGroups,
		ReplicasPerNodeGroup:       spec.ReplicasPerNodeGroup,
		AutomaticFailoverEnabled:   spec.AutomaticFailoverEnabled,
		MultiAZEnabled:             spec.MultiAZEnabled,
		TransitEncryptionEnabled:   spec.TransitEncryptionEnabled,
		AtRestEncryptionEnabled:    spec.AtRestEncryptionEnabled,
		KMSKeyID:                   spec.KMSKeyID,
		AuthToken:                  inOwnNamespace(spec.AuthToken),
		UserGroupIDs:               spec.UserGroupIDs,
		CacheSubnetGroupName:       spec.CacheSubnetGroupName,
		CacheParameterGroupName:    spec.CacheParameterGroupName,
		SecurityGroupIDs:           spec.SecurityGroupIDs,
		SnapshotRetentionLimit:     spec.SnapshotRetentionLimit,
		SnapshotWindow:             spec.SnapshotWindow,
		PreferredMaintenanceWindow: spec.PreferredMaintenanceWindow,
		IPDiscovery:                spec.IPDiscovery,
		NetworkType:                spec.NetworkType,
		Durability:                 spec.Durability,
		Tags:                       spec.Tags,
	}
}

// optional is a field that is absent where it is zero. Zero in a field that ACK would
// default is set.
func optional[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

// defaultSnapshotWindow is when a snapshot is taken where the spec has no window.
const defaultSnapshotWindow = "03:00-04:00"

// description is for people, and the one field whose change costs nothing and has
// ACK call AWS again: a new token and a retry change it.
func (d desired) description(attempt int) string {
	text := d.owner()
	if d.usesToken() {
		text += tokenPrefix + tokenMark(d.fc, d.token)
	}
	if attempt > 0 {
		text += fmt.Sprintf(", attempt %d", attempt)
	}
	return text
}
