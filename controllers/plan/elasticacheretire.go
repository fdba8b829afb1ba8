// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// retirement is the next step of taking a cache down:
//
//	alarms ──▶ (last snapshot) ──▶ group ──▶ users, subnet, parameter and security groups, Secret
//
// Each step waits until what comes before is gone: AWS refuses to delete what is in
// use, and ACK would try again later and later.
type retirement struct {
	apply, delete []observed.Object
	// waitsFor says what is not gone yet, for people; "" when nothing is left.
	waitsFor string
}

// retireCaches takes down what no part wants any more: objects of the cache that
// the spec asks for, such as an alarm, and whole caches that no revision uses. What
// stays and is not written now follows the policy all the same.
func retireCaches(s *observed.Index, wanted, written []observed.Object) retirement {
	var r retirement
	used := map[string]bool{}
	for _, d := range s.Revisions {
		used[cacheOf(d)] = true
	}
	for _, id := range s.CacheIDs() {
		var gone []observed.Object
		switch {
		case wantsCache(wanted, id):
			gone = dispensable(seeCache(s, id), observed.NotDeleting(unwantedOf(s, id, wanted)))
			unmarked := remarked(gone, false)
			r.apply, r.delete = append(r.apply, unmarked...), append(r.delete, observed.Without(gone, unmarked)...)
		case !used[id]:
			step := retire(s, id, v1alpha1.DeletionPolicy(""))
			r.apply, r.delete, r.waitsFor = append(r.apply, step.apply...), append(r.delete, step.delete...), step.waitsFor
			continue
		}
		r.apply = append(r.apply, remarked(observed.Without(unwantedOf(s, id, written), gone), retains(s.FlagCache))...)
	}
	return r
}

// dispensable are those unwanted objects of a cache in use that it does not use
// itself any more: parameters stay until AWS has given the group others, and a user
// until the user group is to be without it; should ACK be late with that, AWS takes a
// user that is deleted out of its groups by itself.
func dispensable(c elastiCache, objects []observed.Object) []observed.Object {
	return slices.DeleteFunc(objects, func(o observed.Object) bool {
		switch o := o.(type) {
		case *ack.CacheParameterGroup:
			return c.group != nil && (!c.settled() || c.group.Spec.CacheParameterGroupName == o.Spec.CacheParameterGroupName)
		case *ack.User:
			group, ok := observed.Get[*ack.UserGroup](c.s, c.name())
			return ok && (!group.Status.Is(ack.ConditionSynced) || slices.Contains(group.Spec.UserIDs, o.Spec.UserID))
		}
		return false
	})
}

// wantsCache tells whether the cache is the one that the spec asks for.
func wantsCache(wanted []observed.Object, id string) bool {
	return slices.ContainsFunc(wanted, func(o observed.Object) bool { return o.GetLabels()[v1alpha1.LabelCache] == id })
}

// unwantedOf are the objects of a cache that no part wants.
func unwantedOf(s *observed.Index, id string, wanted []observed.Object) []observed.Object {
	return observed.Without(s.OfCache(id), wanted)
}

// retire takes the next step towards a cache being gone. The policy is what the
// spec says of the FlagCache's deletion, and "" for a cache that was replaced or
// rolled back.
func retire(s *observed.Index, id string, policy v1alpha1.DeletionPolicy) retirement {
	objects := unwantedOf(s, id, nil)
	if others := remarked(objects, policy == v1alpha1.DeletionRetain); len(others) > 0 {
		return retirement{apply: others, waitsFor: "ACK's resources to be marked by the deletion policy"}
	}
	for stage := range retireStages {
		left := slices.DeleteFunc(slices.Clone(objects), func(o observed.Object) bool { return retireStage(o) != stage })
		if len(left) == 0 {
			continue
		}
		if group, ok := left[0].(*ack.ReplicationGroup); ok && group.DeletionTimestamp == nil && s.FlagCache.Spec.DeletionPolicy == v1alpha1.DeletionSnapshot {
			if step := lastSnapshot(s, group); step.waitsFor != "" {
				return step
			}
		}
		return retirement{delete: observed.NotDeleting(left), waitsFor: observed.KindOf(left[0]) + " " + left[0].GetName() + " to be gone" + whyNot(left[0])}
	}
	return retirement{}
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

// whyNot says why AWS does not delete an object, as a part of a sentence.
func whyNot(o observed.Object) string {
	seen, ok := o.(ack.Object)
	if !ok || o.GetDeletionTimestamp() == nil {
		return ""
	}
	if r := refusalOf(seen.ACKStatus()); r.reason != "" {
		return ". AWS refuses: " + r.words
	}
	return ""
}

// retains tells whether what AWS has stays when the FlagCache goes.
func retains(fc *v1alpha1.FlagCache) bool { return fc.Spec.DeletionPolicy == v1alpha1.DeletionRetain }

// mark has ACK retain what AWS has, and says who wants that.
func mark(annotations map[string]string) {
	annotations[ack.AnnotationDeletionPolicy], annotations[v1alpha1.AnnotationRetained] = ack.DeletionRetain, "true"
}

// remarked are those of ACK's objects that are to be retained and not marked so, or
// marked by us and not to be retained, each as it should be. What ACK deletes it
// judges by the mark at that time.
func remarked(objects []observed.Object, retained bool) []observed.Object {
	var others []observed.Object
	for _, o := range objects {
		asItShouldBe := o.GetAnnotations()[v1alpha1.AnnotationRetained] == ""
		if retained {
			asItShouldBe = o.GetAnnotations()[ack.AnnotationDeletionPolicy] == ack.DeletionRetain
		}
		if lasting(o) && o.GetDeletionTimestamp() == nil && !asItShouldBe {
			others = append(others, withMark(o, retained))
		}
	}
	return others
}

// lasting objects are those that the policy is about: an alarm on nothing helps
// nobody, and a snapshot always stays.
func lasting(o observed.Object) bool {
	switch o.(type) {
	case *ack.MetricAlarm, *ack.Snapshot:
		return false
	}
	_, isACK := o.(ack.Object)
	return isACK
}

// withMark is an object as it was seen, as far as it is ours to say, with the mark
// or without it.
func withMark(o observed.Object, retained bool) observed.Object {
	marked := o.DeepCopyObject().(observed.Object)
	annotations := map[string]string{}
	if retained {
		mark(annotations)
	}
	for _, ours := range []string{v1alpha1.AnnotationChange, ack.AnnotationRegion, ack.AnnotationAdoptionPolicy} {
		if kept, ok := o.GetAnnotations()[ours]; ok {
			annotations[ours] = kept
		}
	}
	marked.GetObjectKind().SetGroupVersionKind(ack.KindOf(o).GroupVersionKind)
	marked.SetAnnotations(annotations)
	marked.SetFinalizers(nil)
	marked.SetManagedFields(nil)
	marked.SetResourceVersion("")
	marked.SetUID("")
	marked.SetGeneration(0)
	marked.SetCreationTimestamp(metav1.Time{})
	return marked
}

// lastSnapshot is taken before a group goes, if there ever was one to take it of:
// ACK takes none by itself. Until AWS has it the group stays.
func lastSnapshot(s *observed.Index, group *ack.ReplicationGroup) retirement {
	if group.PrimaryEndpoint() == nil || group.Status.State == ack.GroupCreateFailed {
		return retirement{}
	}
	id := group.Labels[v1alpha1.LabelCache]
	snapshot := &ack.Snapshot{
		ObjectMeta: observed.ChildMeta(s.FlagCache, observed.RevisionName(s.FlagCache, id), v1alpha1.ComponentCache),
		Spec: ack.SnapshotSpec{
			SnapshotName:   snapshotName(group),
			CacheClusterID: snapshotNode(s, group),
			Tags:           group.Spec.Tags,
		},
	}
	snapshot.SetGroupVersionKind(ack.ElastiCache.WithKind("Snapshot"))
	snapshot.Labels[v1alpha1.LabelCache] = id
	// The snapshot itself outlives its object.
	snapshot.Annotations = map[string]string{ack.AnnotationDeletionPolicy: ack.DeletionRetain}
	if region := group.Annotations[ack.AnnotationRegion]; region != "" {
		snapshot.Annotations[ack.AnnotationRegion] = region
	}
	return takeSnapshot(s, snapshot)
}

// takeSnapshot waits until AWS has a snapshot. What a quota refuses is asked for
// again by another object, because ACK does not ask again by itself.
func takeSnapshot(s *observed.Index, wanted *ack.Snapshot) retirement {
	step := retirement{apply: []observed.Object{wanted}, waitsFor: "the last snapshot to be taken"}
	if kind := ack.KindOf(wanted); !s.ACK[kind.Kind] {
		return retirement{waitsFor: fmt.Sprintf("the last snapshot to be taken. The API server does not know %s: install ACK's %s", kind.CRD(), kind.Controller())}
	}
	seen, ok := observed.Get[*ack.Snapshot](s, wanted.Name)
	if !ok {
		return step
	}
	refused := refusalOf(seen.Status.Status)
	if refused.reason != "" {
		step.waitsFor += ". AWS refuses: " + refused.words
	}
	again := refused.terminal && refused.retryable && s.Since(seen.Status.LastSyncTime().Time) >= refusedRetry
	switch ofAnother := seen.Spec.SnapshotName != wanted.Spec.SnapshotName; {
	case again, ofAnother:
		step.apply, step.delete = nil, observed.NotDeleting([]observed.Object{seen})
		return step
	case seen.Status.SnapshotStatus == ack.SnapshotAvailable:
		return retirement{}
	default:
		return step
	}
}

// snapshotName is one that no earlier group of the same ID has used
// (letters, digits and hyphens, at most 255).
func snapshotName(group *ack.ReplicationGroup) string {
	return group.Spec.ReplicationGroupID + "-last-" + strings.ToLower(observed.Fingerprint(group.UID))
}

// snapshotNode is the node that the snapshot is taken of: with cluster mode disabled
// AWS asks for one (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups-manual.html).
// The last one is rarely the primary. One that was asked for stays while it is there,
// in whatever order AWS names them.
func snapshotNode(s *observed.Index, group *ack.ReplicationGroup) string {
	nodes := group.Status.MemberClusters
	if len(nodes) == 0 {
		nodes = []string{group.Spec.ReplicationGroupID + "-001"} // as AWS names the first
	}
	seen, ok := observed.Get[*ack.Snapshot](s, observed.RevisionName(s.FlagCache, group.Labels[v1alpha1.LabelCache]))
	if ok && slices.Contains(nodes, seen.Spec.CacheClusterID) {
		return seen.Spec.CacheClusterID
	}
	return nodes[len(nodes)-1]
}

// tearDownCaches takes the next step towards no cache being left.
func tearDownCaches(s *observed.Index) retirement {
	for _, id := range s.CacheIDs() {
		if step := retire(s, id, s.FlagCache.Spec.DeletionPolicy); step.waitsFor != "" {
			return step
		}
	}
	return retirement{}
}
