// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"fmt"
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/controllers/ack"
)

// group is a sync of a replication group.
func (s *sync) group(g *ack.ReplicationGroup) {
	_, exists := s.Groups[*g.Spec.ReplicationGroupID]
	switch {
	case g.DeletionTimestamp != nil:
		s.deleteGroup(g)
	case ack.GroupState(g) == "", !exists && ack.GroupState(g) != ack.GroupCreateFailed:
		s.createGroup(g)
	case ack.GroupState(g) == ack.GroupCreating, ack.GroupState(g) == ack.GroupModifying:
		s.checkProgress(g)
	case ack.GroupState(g) == ack.GroupCreateFailed:
		s.synced(g)
	default:
		s.modifyGroup(g)
	}
}

func (s *sync) createGroup(g *ack.ReplicationGroup) {
	token, ok := s.tokenOf(g)
	_, exists := s.Groups[*g.Spec.ReplicationGroupID]
	switch {
	case !ok:
		s.recoverable(g, "kubernetes secret not found")
	case s.QuotaExceeded:
		addFinalizer(g)
		s.terminal(g, "NodeQuotaForCustomerExceeded: The request cannot be processed because it would exceed the allowed number of cache nodes per customer.")
	case exists:
		s.terminal(g, "Resource already exists")
	default:
		addFinalizer(g)
		s.Lost = ""
		s.send(g, AcceptOnly(token))
		g.Status.Status, g.Status.NodeGroups = ptr.To(ack.GroupCreating), []*ack.NodeGroup{{NodeGroupID: ptr.To("0001")}}
		created := metav1.NewTime(s.now.Truncate(time.Second))
		g.Status.ReplicationGroupCreateTime = &created
		s.inProgress(g, "replication group currently being created.")
	}
}

// checkProgress reads the state of an operation in AWS. ACK's conditions are based on the previous
// sync, so a group is Ready one sync later.
func (s *sync) checkProgress(g *ack.ReplicationGroup) {
	id := *g.Spec.ReplicationGroupID
	what := "replication group currently being created."
	if ack.GroupState(g) == ack.GroupModifying {
		what = "replication group currently being modified."
	}
	switch {
	case s.now.Before(s.Groups[id].Done):
		s.inProgress(g, what)
	case ack.GroupState(g) == ack.GroupCreating && s.FailCreations > 0:
		s.FailCreations--
		g.Status.Status = ptr.To(ack.GroupCreateFailed)
		g.Status.Events = []*ack.Event{{Message: ptr.To("Replication group failed to create")}}
		delete(s.Groups, id)
		s.synced(g)
	default:
		g.Status.Status = ptr.To(ack.GroupAvailable)
		g.Status.NodeGroups = []*ack.NodeGroup{{
			NodeGroupID: ptr.To("0001"), Status: ptr.To(ack.GroupAvailable),
			PrimaryEndpoint: &ack.Endpoint{Address: ptr.To(host(id)), Port: ptr.To[int64](port)},
		}}
		g.Status.MemberClusters = nil
		for i := range ack.Value(g.Spec.ReplicasPerNodeGroup) + 1 {
			g.Status.MemberClusters = append(g.Status.MemberClusters, ptr.To(fmt.Sprintf("%s-%03d", id, i+1)))
		}
		s.inProgress(g, what)
	}
}

// modifyGroup sends changes to AWS. The number of replicas has a separate call, whose response
// overwrites the rest of the spec. All other calls include the current token of the Secret, and AWS
// continues to accept the previous one.
func (s *sync) modifyGroup(g *ack.ReplicationGroup) {
	known := s.Groups[*g.Spec.ReplicationGroupID]
	classes := ClassesChanged(known.Spec, g.Spec)
	tokens := known.Tokens
	switch {
	case len(classes) == 0:
		s.synced(g)
		return
	case classes["replicas"]:
		replicas := g.Spec.ReplicasPerNodeGroup
		known.Spec.DeepCopyInto(&g.Spec)
		g.Spec.ReplicasPerNodeGroup = replicas
	default:
		token, ok := s.tokenOf(g)
		if !ok {
			s.recoverable(g, "kubernetes secret not found")
			return
		}
		tokens = tokens.rotatedTo(token)
	}
	s.send(g, tokens)
	if len(classes) == 1 && (classes["quiet"] || classes["tags"]) {
		s.synced(g)
		return
	}
	g.Status.Status = ptr.To(ack.GroupModifying)
	s.inProgress(g, "replication group currently being modified.")
}

func (s *sync) deleteGroup(g *ack.ReplicationGroup) {
	id := *g.Spec.ReplicationGroupID
	switch {
	case ack.GroupState(g) == "" || g.Annotations[ack.AnnotationDeletionPolicy] == ack.DeletionRetain:
		g.Finalizers = nil
	case ack.GroupState(g) == ack.GroupDeleting:
		delete(s.Groups, id)
		g.Finalizers = nil
	case s.now.Before(s.Groups[id].Done):
		s.recoverable(g, "InvalidReplicationGroupState: Cache cluster is not in available state.")
	default:
		g.Status.Status = ptr.To(ack.GroupDeleting)
		s.recoverable(g, "Delete is in progress.")
	}
}

// tokenOf returns the token in the Secret of a group or of its probe user.
func (s *sync) tokenOf(g *ack.ReplicationGroup) (string, bool) {
	key := g.Spec.AuthToken
	for _, user := range s.others.Users() {
		mode := user.Spec.AuthenticationMode
		if len(g.Spec.UserGroupIDs) > 0 && mode != nil && len(mode.Passwords) > 0 {
			key = mode.Passwords[0]
		}
	}
	if key == nil {
		return "", true
	}
	return s.others.Secret(*key)
}

// send sends the spec of a group to AWS.
func (s *sync) send(g *ack.ReplicationGroup, tokens Tokens) {
	s.Groups[*g.Spec.ReplicationGroupID] = Group{Spec: *g.Spec.DeepCopy(), Done: s.now.Add(s.Timing.Operation), Tokens: tokens}
}

// ClassesChanged returns the classes of fields in which two specs differ. ACK sends each of them in
// a separate call.
func ClassesChanged(a, b ack.ReplicationGroupSpec) map[string]bool {
	changed := map[string]bool{}
	for class, of := range map[string]func(ack.ReplicationGroupSpec) any{
		"quiet": func(s ack.ReplicationGroupSpec) any {
			return []any{s.Description, s.SnapshotWindow, s.SnapshotRetentionLimit, s.PreferredMaintenanceWindow}
		},
		"tags":         func(s ack.ReplicationGroupSpec) any { return s.Tags },
		"security":     func(s ack.ReplicationGroupSpec) any { return s.SecurityGroupIDs },
		"engine":       func(s ack.ReplicationGroupSpec) any { return []any{s.EngineVersion, s.CacheParameterGroupName} },
		"nodes":        func(s ack.ReplicationGroupSpec) any { return s.CacheNodeType },
		"replicas":     func(s ack.ReplicationGroupSpec) any { return s.ReplicasPerNodeGroup },
		"availability": func(s ack.ReplicationGroupSpec) any { return []any{s.AutomaticFailoverEnabled, s.MultiAZEnabled} },
	} {
		if !reflect.DeepEqual(of(a), of(b)) {
			changed[class] = true
		}
	}
	return changed
}
