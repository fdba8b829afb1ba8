// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// A cache is retired in this order:
//
//	alarms ──▶ (last snapshot) ──▶ group ──▶ users, subnet, parameter and security groups, Secret
//
// Each step waits until the previous one is complete: AWS refuses to delete what is
// in use, and ACK would retry at growing intervals.

// Retire implements cache.Planner. It takes down what is not needed any more: objects
// of the requested cache, such as an alarm, and whole caches that no revision uses.
// The annotations of what stays and is not applied now follow the deletion policy
// too.
func (Planner) Retire(x *observed.Index, part cache.Part) cache.Retirement {
	var r cache.Retirement
	used := map[string]bool{}
	for _, d := range x.Revisions {
		used[identityOf(d)] = true
	}
	desired := slices.Concat(part.Apply, part.Keep)
	for _, id := range x.CacheIDs() {
		var obsolete []observed.Object
		switch {
		case wantsCache(desired, id):
			obsolete = safeToDelete(x, namesOf(x, id), observed.NotDeleting(observed.Without(x.OfCache(id), desired)))
			released := corrected(x, obsolete, false)
			r.Apply, r.Delete = append(r.Apply, released...), append(r.Delete, observed.Without(obsolete, released)...)
		case !used[id]:
			step := retire(x, id, "")
			r.Apply, r.Delete, r.WaitsFor = append(r.Apply, step.Apply...), append(r.Delete, step.Delete...), step.WaitsFor
			continue
		}
		r.Apply = append(r.Apply, corrected(x, observed.Without(x.OfCache(id), slices.Concat(part.Apply, obsolete)), retains(x.FlagCache))...)
	}
	return r
}

// safeToDelete are the obsolete objects of a cache in use that it does not use itself
// any more: parameters stay until AWS has given the group others, and a user until
// the user group has been updated without it; should ACK be late with that, AWS
// removes a deleted user from its groups by itself.
func safeToDelete(x *observed.Index, n names, obsolete []observed.Object) []observed.Object {
	seen := observe(x, n)
	return slices.DeleteFunc(obsolete, func(o observed.Object) bool {
		switch o := o.(type) {
		case *ack.CacheParameterGroup:
			return seen.Group != nil && (!settled(x, seen) || ack.Value(seen.Group.Spec.CacheParameterGroupName) == ack.Value(o.Spec.CacheParameterGroupName))
		case *ack.User:
			group, ok := observed.Get[*ack.UserGroup](x, n.object())
			return ok && (!ack.ConditionsOf(group).Is(ack.ConditionSynced) || slices.Contains(ack.Values(group.Spec.UserIDs), ack.Value(o.Spec.UserID)))
		}
		return false
	})
}

// settled reports whether AWS has carried out every change of an observed group. By a
// record that cannot be decoded it has not.
func settled(x *observed.Index, seen Observed) bool {
	records, err := decodeRecords(seen)
	return err == nil && group{observed: seen.Group, last: records.change, now: x.Now, since: x.Since}.settled()
}

// wantsCache reports whether some of the desired objects belong to a cache.
func wantsCache(desired []observed.Object, id string) bool {
	return slices.ContainsFunc(desired, func(o observed.Object) bool { return o.GetLabels()[v1alpha1.LabelCache] == id })
}

// retire takes the next step towards the removal of a cache. The policy is the
// FlagCache's when that is deleted, and "" for a cache that was replaced or rolled
// back.
func retire(x *observed.Index, id string, policy v1alpha1.DeletionPolicy) cache.Retirement {
	objects := x.OfCache(id)
	if others := corrected(x, objects, policy == v1alpha1.DeletionRetain); len(others) > 0 {
		return cache.Retirement{Apply: others, WaitsFor: "ACK's resources to have their IDs, and to be annotated with the deletion policy"}
	}
	for stage := range retireStages {
		left := slices.DeleteFunc(slices.Clone(objects), func(o observed.Object) bool { return retireStage(o) != stage })
		if len(left) == 0 {
			continue
		}
		if group, ok := left[0].(*ack.ReplicationGroup); ok && group.DeletionTimestamp == nil && !inspects(group) && x.FlagCache.Spec.DeletionPolicy == v1alpha1.DeletionSnapshot {
			if step := lastSnapshot(x, group); step.WaitsFor != "" {
				return step
			}
		}
		return cache.Retirement{
			Apply: deletedAgain(x, left), Delete: observed.NotDeleting(left),
			WaitsFor: observed.KindOf(left[0]) + " " + left[0].GetName() + " to be deleted" + deletionProblem(x, left[0]),
		}
	}
	return cache.Retirement{}
}

// retireStages is the number of stages that retireStage knows.
const retireStages = 5

func retireStage(o observed.Object) int {
	switch o.(type) {
	case *ack.MetricAlarm:
		return 0
	case *ack.ReplicationGroup:
		return 1
	case *ack.UserGroup, *ack.CacheSubnetGroup, *ack.CacheParameterGroup, *ack.SecurityGroup:
		return 2
	case *ack.User:
		return 3
	default:
		return 4
	}
}

// deletionProblem is why an object is not deleted, to append to a message.
func deletionProblem(x *observed.Index, o observed.Object) string {
	if o.GetDeletionTimestamp() == nil || !ack.Is(o) {
		return ""
	}
	if refused := RefusalOf(ack.ConditionsOf(o)); refused.Reason != "" { // ACK reports no time
		return ". AWS refuses: " + refused.Message
	}
	if x.Since(latest(o.GetDeletionTimestamp().Time, ack.ConditionsOf(o).LastSyncTime().Time)) >= notResponding {
		return ". " + silence("it", notResponding, ack.KindOf(o).GroupVersion())
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// deletedAgain are the objects whose deletion ACK is to request again: the user requests
// that, or AWS refused because it was not done with the object. ACK would try again after
// as long as it has tried already, and the creation of a group takes long.
func deletedAgain(x *observed.Index, left []observed.Object) []observed.Object {
	var again []observed.Object
	for _, o := range left {
		last := changeOf(o)
		busy := invalidState.MatchString(RefusalOf(ack.ConditionsOf(o)).Message) && x.Since(last.At) >= deletionRetry
		if o.GetDeletionTimestamp() == nil || !survivesDeletion(o) || !busy && !last.requests(x.FlagCache) {
			continue
		}
		last.At, last.Request = toSecond(x.Now), reconcileAt(x.FlagCache)
		woken := annotated(o, o.GetAnnotations()[v1alpha1.AnnotationRetained] != "")
		annotations := woken.GetAnnotations()
		annotations[v1alpha1.AnnotationChange] = observed.ToJSON(last)
		woken.SetAnnotations(annotations)
		rotateTags(woken)
		again = append(again, woken)
	}
	return again
}

// deletionRetry is how soon the deletion of what AWS was not done with is requested again.
const deletionRetry = time.Minute

// invalidState is in AWS' codes for what it cannot do in the present state of a resource.
var invalidState = regexp.MustCompile(`\bInvalid\w+State`)

// retains reports whether what AWS has stays when the FlagCache is deleted.
func retains(fc *v1alpha1.FlagCache) bool { return fc.Spec.DeletionPolicy == v1alpha1.DeletionRetain }

// setRetain has ACK retain what AWS has, and records that the operator set it.
func setRetain(annotations map[string]string) {
	annotations[ack.AnnotationDeletionPolicy], annotations[v1alpha1.AnnotationRetained] = ack.DeletionRetain, "true"
}

// corrected are those of ACK's objects that are to be retained and not annotated so, or
// annotated by us and not to be retained, and groups to which somebody gave another ID,
// each as it should be. ACK follows the annotation and the ID at the time of the deletion.
func corrected(x *observed.Index, objects []observed.Object, retained bool) []observed.Object {
	var others []observed.Object
	for _, o := range objects {
		correct := o.GetAnnotations()[v1alpha1.AnnotationRetained] == ""
		if retained {
			correct = o.GetAnnotations()[ack.AnnotationDeletionPolicy] == ack.DeletionRetain
		}
		group, isGroup := o.(*ack.ReplicationGroup)
		id := idInAWS(x, o.GetLabels()[v1alpha1.LabelCache])
		correct = correct && (!isGroup || ack.Value(group.Spec.ReplicationGroupID) == id)
		if !survivesDeletion(o) || o.GetDeletionTimestamp() != nil || correct {
			continue
		}
		other := annotated(o, retained)
		if group, ok := other.(*ack.ReplicationGroup); ok {
			group.Spec.ReplicationGroupID = &id
		}
		others = append(others, other)
	}
	return others
}

// survivesDeletion reports whether the deletion policy applies to an object: an alarm
// on nothing is of no use, and a snapshot and an inspected group always stay.
func survivesDeletion(o observed.Object) bool {
	switch o.(type) {
	case *ack.MetricAlarm, *ack.Snapshot:
		return false
	}
	return ack.Is(o) && !inspects(o)
}

// annotated is an object as it was observed, as far as the operator owns its fields,
// with the annotation or without it.
func annotated(o observed.Object, retained bool) observed.Object {
	copied := o.DeepCopyObject().(observed.Object)
	annotations := map[string]string{}
	if retained {
		setRetain(annotations)
	}
	for _, ours := range []string{v1alpha1.AnnotationAWSID, v1alpha1.AnnotationChange, ack.AnnotationRegion, ack.AnnotationAdoptionPolicy} {
		if kept, ok := o.GetAnnotations()[ours]; ok {
			annotations[ours] = kept
		}
	}
	onlyWritten(copied)
	copied.GetObjectKind().SetGroupVersionKind(ack.KindOf(o).GroupVersionKind)
	copied.SetAnnotations(annotations)
	copied.SetFinalizers(nil)
	copied.SetManagedFields(nil)
	copied.SetResourceVersion("")
	copied.SetUID("")
	copied.SetGeneration(0)
	copied.SetCreationTimestamp(metav1.Time{})
	return copied
}

// onlyWritten removes the fields from an observed object's spec that FlagCache does not
// write: applied again, they would be taken from whoever wrote them.
func onlyWritten(o observed.Object) {
	switch o := o.(type) {
	case *ack.ReplicationGroup:
		o.Spec = writtenSpec(o.Spec)
	case *ack.CacheSubnetGroup:
		o.Spec = ack.CacheSubnetGroupSpec{
			CacheSubnetGroupName:        o.Spec.CacheSubnetGroupName,
			CacheSubnetGroupDescription: o.Spec.CacheSubnetGroupDescription,
			SubnetIDs:                   o.Spec.SubnetIDs,
			Tags:                        o.Spec.Tags,
		}
	case *ack.UserGroup:
		o.Spec = ack.UserGroupSpec{
			UserGroupID: o.Spec.UserGroupID,
			Engine:      o.Spec.Engine,
			UserIDs:     o.Spec.UserIDs,
			Tags:        o.Spec.Tags,
		}
	case *ack.User:
		o.Spec.Passwords = nil
		if mode := o.Spec.AuthenticationMode; mode != nil {
			mode.Passwords = ack.Map(mode.Passwords, inOwnNamespace)
		}
	case *ack.SecurityGroup:
		o.Spec = ack.SecurityGroupSpec{
			Name:         o.Spec.Name,
			Description:  o.Spec.Description,
			VPCID:        o.Spec.VPCID,
			IngressRules: ack.Map(o.Spec.IngressRules, writtenRule),
			Tags:         o.Spec.Tags,
		}
	}
}

// writtenRule is the part of a rule that FlagCache writes.
func writtenRule(rule *ack.IPPermission) *ack.IPPermission {
	return &ack.IPPermission{
		IPProtocol: rule.IPProtocol,
		FromPort:   rule.FromPort,
		ToPort:     rule.ToPort,
		UserIDGroupPairs: ack.Map(rule.UserIDGroupPairs, func(pair *ack.UserIDGroupPair) *ack.UserIDGroupPair {
			return &ack.UserIDGroupPair{GroupID: pair.GroupID}
		}),
	}
}

// lastSnapshot takes a snapshot before a group is deleted, if AWS ever created it:
// ACK takes none by itself. The group stays until AWS has the snapshot.
func lastSnapshot(x *observed.Index, group *ack.ReplicationGroup) cache.Retirement {
	if ack.PrimaryEndpoint(group) == nil || ack.GroupState(group) == ack.GroupCreateFailed {
		return cache.Retirement{}
	}
	id := group.Labels[v1alpha1.LabelCache]
	snapshot := &ack.Snapshot{
		ObjectMeta: observed.ChildMeta(x.FlagCache, observed.RevisionName(x.FlagCache, id), v1alpha1.ComponentCache),
		Spec: ack.SnapshotSpec{
			SnapshotName:   ptr.To(snapshotName(group)),
			CacheClusterID: ptr.To(snapshotNode(x, group)),
			Tags:           group.Spec.Tags,
		},
	}
	snapshot.SetGroupVersionKind(ack.ElastiCache.WithKind("Snapshot"))
	snapshot.Labels[v1alpha1.LabelCache] = id
	// The snapshot itself outlives its object.
	snapshot.Annotations = map[string]string{ack.AnnotationDeletionPolicy: ack.DeletionRetain, v1alpha1.AnnotationAWSID: idInAWS(x, id)}
	if region := group.Annotations[ack.AnnotationRegion]; region != "" {
		snapshot.Annotations[ack.AnnotationRegion] = region
	}
	return takeSnapshot(x, snapshot)
}

// takeSnapshot waits until AWS has a snapshot.
func takeSnapshot(x *observed.Index, desired *ack.Snapshot) cache.Retirement {
	step := cache.Retirement{Apply: []observed.Object{desired}, WaitsFor: "the last snapshot to be taken"}
	if kind := ack.KindOf(desired); !x.ACK[kind.Kind] {
		return cache.Retirement{WaitsFor: fmt.Sprintf("the last snapshot to be taken. The API server does not serve %s: install ACK's %s", kind.CRD(), kind.Controller())}
	}
	seen, ok := observed.Get[*ack.Snapshot](x, desired.Name)
	if !ok {
		return step
	}
	refused := RefusalOf(ack.ConditionsOf(seen))
	switch {
	case refused.Reason != "":
		step.WaitsFor += ". AWS refuses: " + refused.Message
	case x.Since(latest(seen.CreationTimestamp.Time, ack.ConditionsOf(seen).LastSyncTime().Time)) >= notResponding:
		step.WaitsFor += ". " + silence("Snapshot "+seen.Name, notResponding, ack.ElastiCache)
	}
	synchronized(x, desired, seen)
	switch {
	case ack.Value(seen.Spec.SnapshotName) != ack.Value(desired.Spec.SnapshotName):
		step.Apply, step.Delete = nil, observed.NotDeleting([]observed.Object{seen})
		return step
	case ack.Value(seen.Status.SnapshotStatus) == ack.SnapshotAvailable:
		return cache.Retirement{}
	default:
		return step
	}
}

// snapshotName is one that no earlier group of the same ID has used
// (letters, digits and hyphens, at most 255).
func snapshotName(group *ack.ReplicationGroup) string {
	return ack.Value(group.Spec.ReplicationGroupID) + "-last-" + strings.ToLower(observed.Fingerprint(group.UID))
}

// snapshotNode is the node that the snapshot is taken of: with cluster mode disabled
// AWS requires one (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups-manual.html).
// The last one is rarely the primary. A node that was requested is kept while it
// exists, in whatever order AWS names them.
func snapshotNode(x *observed.Index, group *ack.ReplicationGroup) string {
	nodes := ack.Values(group.Status.MemberClusters)
	if len(nodes) == 0 {
		nodes = []string{ack.Value(group.Spec.ReplicationGroupID) + "-001"} // as AWS names the first
	}
	seen, ok := observed.Get[*ack.Snapshot](x, observed.RevisionName(x.FlagCache, group.Labels[v1alpha1.LabelCache]))
	if ok && slices.Contains(nodes, ack.Value(seen.Spec.CacheClusterID)) {
		return ack.Value(seen.Spec.CacheClusterID)
	}
	return nodes[len(nodes)-1]
}

// TearDown implements cache.Planner.
func (Planner) TearDown(x *observed.Index) cache.Retirement {
	for _, id := range x.CacheIDs() {
		if step := retire(x, id, x.FlagCache.Spec.DeletionPolicy); step.WaitsFor != "" {
			return step
		}
	}
	return cache.Retirement{}
}
