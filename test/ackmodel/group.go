// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// groupManager manages ReplicationGroups.
type groupManager struct{}

func (groupManager) terminal() []string {
	return []string{
		"InvalidParameter", "InvalidParameterValue", "InvalidParameterCombination", "InsufficientCacheClusterCapacity", "ClusterQuotaForCustomerExceeded",
		"NodeQuotaForClusterExceeded", "NodeQuotaForCustomerExceeded", "InvalidVPCNetworkStateFault", "TagQuotaPerResourceExceeded",
		"NodeGroupsPerReplicationGroupQuotaExceeded", "InvalidCacheSecurityGroupState", "InvalidKMSKeyFault",
	}
}

// Messages and annotations of the elasticache-controller.
const (
	creatingMessage  = "replication group currently being created."
	modifyingMessage = "replication group currently being modified. cannot delete."
	deletingMessage  = "replication group currently being deleted."

	annotationPrefix        = "elasticache.services.k8s.aws/last-requested-"
	annotationNodeType      = annotationPrefix + "cache-node-type"
	annotationNodeGroups    = annotationPrefix + "num-node-groups"
	annotationConfiguration = annotationPrefix + "node-group-configuration"
	annotationLogDelivery   = annotationPrefix + "log-delivery-configurations"
)

func (m groupManager) find(s *session, o client.Object) (client.Object, error) {
	latest := o.(*ack.ReplicationGroup)
	before := ptr.Deref(latest.Status.Status, "")
	var g Group
	err := s.call("DescribeReplicationGroups", "", func() error {
		var ok bool
		if g, ok = s.Groups[*latest.Spec.ReplicationGroupID]; !ok {
			return errNotFound
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	g.describe(latest)
	latest.Spec.Durability = ptr.To(*g.Spec.Durability)
	setSynced(s, latest, g)
	if latest.Status.Events, err = s.groupEvents(g); err != nil {
		return nil, err
	}
	if g.State != ack.GroupDeleting {
		s.observeNodes(latest, g)
	}
	switch before {
	case ack.GroupDeleting:
		s.setCondition(latest, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(deletingMessage), nil)
	case ack.GroupModifying:
		s.setCondition(latest, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(modifyingMessage), nil)
	case ack.GroupCreating:
		s.setCondition(latest, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(creatingMessage), nil)
	case ack.GroupCreateFailed:
		s.setCondition(latest, ack.ConditionTerminal, corev1.ConditionTrue, ptr.To("replication group in create-failed status."), nil)
	default:
		err = s.call("ListTagsForResource", "", func() error { return nil })
		latest.Spec.Tags = g.Spec.DeepCopy().Tags
	}
	return latest, err
}

// setSynced sets what the state of a group says about its object: a response of AWS about a group
// that is not available has no message.
func setSynced(s *session, o *ack.ReplicationGroup, g Group) {
	synced := corev1.ConditionFalse
	if g.State == ack.GroupAvailable || g.State == ack.GroupCreateFailed {
		synced = corev1.ConditionTrue
	}
	setStatus(o, ack.ConditionSynced, synced)
	o.Status.AllowedScaleUpModifications, o.Status.AllowedScaleDownModifications = nil, nil
	if g.State == ack.GroupAvailable && s.call("ListAllowedNodeTypeModifications", "", func() error { return nil }) == nil {
		i := slices.Index(nodeTypes, *g.Spec.CacheNodeType)
		o.Status.AllowedScaleDownModifications, o.Status.AllowedScaleUpModifications = ack.Pointers(nodeTypes[:max(0, i)]...), ack.Pointers(nodeTypes[i+1:]...)
	}
}

// nodeTypes are types of nodes, in ascending order.
var nodeTypes = []string{"cache.t2.micro", "cache.t3.micro", "cache.t3.small", "cache.t3.medium", "cache.m6g.large", "cache.r6g.large", "cache.r7g.large"}

func (s *session) groupEvents(g Group) ([]*ack.Event, error) {
	events := []*ack.Event{}
	err := s.call("DescribeEvents", "", func() error { return nil })
	for _, e := range s.Events[*g.Spec.ReplicationGroupID] {
		events = append(events, &ack.Event{Date: ptr.To(metav1.NewTime(e.At)), Message: &e.Message})
	}
	return events, err
}

// observeNodes sets the fields of the spec that AWS returns about nodes only. An error is ignored.
func (s *session) observeNodes(latest *ack.ReplicationGroup, g Group) {
	if latest.Spec.ReplicasPerNodeGroup != nil && len(latest.Status.NodeGroups[0].NodeGroupMembers) > 0 {
		latest.Spec.ReplicasPerNodeGroup = ptr.To(int64(len(latest.Status.NodeGroups[0].NodeGroupMembers)) - 1)
	}
	if latest.Spec.NumNodeGroups != nil {
		latest.Spec.NumNodeGroups = ptr.To(int64(len(latest.Status.NodeGroups)))
	}
	if len(latest.Status.NodeGroups[0].NodeGroupMembers) == 0 || s.call("DescribeCacheClusters", "", func() error { return nil }) != nil {
		return
	}
	if latest.Spec.EngineVersion != nil {
		latest.Spec.EngineVersion = ptr.To(*g.Spec.EngineVersion)
	}
	latest.Spec.PreferredMaintenanceWindow = ptr.To(*g.Spec.PreferredMaintenanceWindow)
	latest.Spec.CacheParameterGroupName = ptr.To(*g.Spec.CacheParameterGroupName)
}

func (groupManager) lateInitialize(observed, latest client.Object) {
	from, to := observed.(*ack.ReplicationGroup).Spec, &latest.(*ack.ReplicationGroup).Spec
	if to.CacheParameterGroupName == nil {
		to.CacheParameterGroupName = from.CacheParameterGroupName
	}
	if to.Durability == nil {
		to.Durability = from.Durability
	}
}

func (m groupManager) create(s *session, o client.Object) (client.Object, error) {
	created := o.(*ack.ReplicationGroup)
	token, err := s.tokenOf(created)
	if err != nil {
		return nil, err
	}
	requested(created)
	setAnnotation(created, annotationNodeGroups, "null")
	if n := created.Spec.NumNodeGroups; n != nil {
		setAnnotation(created, annotationNodeGroups, strconv.FormatInt(*n, 10))
	}
	g, err := s.createGroup(created.Spec, token)
	if err != nil {
		return nil, err
	}
	g.describe(created)
	setSynced(s, created, g)
	setAnnotation(created, annotationConfiguration, "null")
	return created, nil
}

// requested sets the annotations about what was requested.
func requested(o *ack.ReplicationGroup) {
	setAnnotation(o, annotationLogDelivery, "null")
	if o.Spec.CacheNodeType != nil {
		setAnnotation(o, annotationNodeType, *o.Spec.CacheNodeType)
	}
}

// tokenOf returns the token in the Secret of a group.
func (s *session) tokenOf(g *ack.ReplicationGroup) (string, error) {
	if g.Spec.AuthToken == nil {
		return "", nil
	}
	token, err := s.secrets.Secret(g.Spec.AuthToken)
	if err != nil {
		return "", requeueError{cause: err}
	}
	return token, nil
}

func (m groupManager) update(s *session, desired, latest client.Object, differing fields) (client.Object, error) {
	d, l := desired.(*ack.ReplicationGroup), latest.(*ack.ReplicationGroup)
	if differing["Tags"] {
		return nil, s.syncTags(d, l)
	}
	updated, err := m.modify(s, d, l, differing)
	if updated != nil || err != nil {
		return asObject(updated), err
	}
	return m.modifyRest(s, d, differing)
}

// asObject returns nil for a nil pointer.
func asObject(g *ack.ReplicationGroup) client.Object {
	if g == nil {
		return nil
	}
	return g
}

// modify sends the changes that need calls of their own. The result is nil if there are none.
func (m groupManager) modify(s *session, desired, latest *ack.ReplicationGroup, differing fields) (*ack.ReplicationGroup, error) {
	shard := latest.Status.NodeGroups[0]
	switch {
	case ack.GroupState(latest) != ack.GroupAvailable || ack.Value(shard.Status) != ack.GroupAvailable:
		return nil, s.wait("Replication Group can not be modified, it is not in 'available' state.")
	case len(latest.Status.MemberClusters) != len(shard.NodeGroupMembers):
		return nil, s.wait("Replication Group can not be modified, need to wait for member clusters and node group members.")
	case differing["CacheNodeType"] && desired.Annotations[annotationNodeType] == ack.Value(desired.Spec.CacheNodeType):
		return nil, rolledBack("CacheNodeType")
	case differing["NumNodeGroups"] && desired.Annotations[annotationNodeGroups] == strconv.FormatInt(ack.Value(desired.Spec.NumNodeGroups), 10):
		return nil, rolledBack("NodeGroups")
	}
	if turnedOff(desired.Spec.AutomaticFailoverEnabled, latest.Status.AutomaticFailover) || turnedOff(desired.Spec.MultiAZEnabled, latest.Status.MultiAZ) {
		return m.modifyEngine(s, desired, differing)
	}
	if difference := ack.Value(desired.Spec.ReplicasPerNodeGroup) - ack.Value(latest.Spec.ReplicasPerNodeGroup); desired.Spec.ReplicasPerNodeGroup != nil && difference != 0 {
		action := "IncreaseReplicaCount"
		if difference < 0 {
			action = "DecreaseReplicaCount"
		}
		return m.respond(s, action, desired, func(spec ack.ReplicationGroupSpec) change {
			spec.ReplicasPerNodeGroup = ptr.To(*desired.Spec.ReplicasPerNodeGroup)
			return change{spec: spec}
		})
	}
	if differing["CacheNodeType"] && slices.Contains(ack.Values(desired.Status.AllowedScaleUpModifications), ack.Value(desired.Spec.CacheNodeType)) {
		return nil, nil
	}
	if differing["NumNodeGroups"] {
		return nil, m.reshard(s, *desired.Spec.ReplicationGroupID)
	}
	return m.modifyEngine(s, desired, differing)
}

// turnedOff reports whether a flag that is enabled is to be disabled.
func turnedOff(desired *bool, latest *string) bool {
	return desired != nil && !*desired && ack.Value(latest) == "enabled"
}

// rolledBack is the error of a change that was requested already. It is of a type that ACK does not
// take for an error of AWS.
func rolledBack(what string) error {
	return fmt.Errorf("InvalidParameterCombination: Cannot update %s, Please refer to Events for more details", what)
}

// reshard is a call that AWS refuses for groups without cluster mode.
func (groupManager) reshard(s *session, id string) error {
	const action = "ModifyReplicationGroupShardConfiguration"
	return s.call(action, id, func() error {
		return Error{action, "InvalidParameterCombination", fmt.Sprintf("Replication group %s is not cluster mode enabled.", id)}
	})
}

// modifyEngine sends security groups, engine and parameter group.
func (m groupManager) modifyEngine(s *session, desired *ack.ReplicationGroup, differing fields) (*ack.ReplicationGroup, error) {
	if desired.Spec.SecurityGroupIDs == nil && desired.Spec.EngineVersion == nil {
		return nil, nil
	}
	id := *desired.Spec.ReplicationGroupID
	if err := s.call("DescribeCacheClusters", "", func() error { return nil }); err != nil {
		return nil, err
	}
	securityGroups := len(desired.Spec.SecurityGroupIDs) > 0 && !maps.Equal(setOf(desired.Spec.SecurityGroupIDs), setOf(s.Groups[id].Spec.SecurityGroupIDs))
	if !securityGroups && !differing["EngineVersion"] && !differing["Engine"] && !differing["CacheParameterGroupName"] {
		return nil, nil
	}
	return m.respond(s, "ModifyReplicationGroup", desired, func(spec ack.ReplicationGroupSpec) change {
		c := change{empty: true, spec: spec}
		if securityGroups {
			c.spec.SecurityGroupIDs, c.empty = desired.DeepCopy().Spec.SecurityGroupIDs, false
		}
		if differing["EngineVersion"] && desired.Spec.EngineVersion != nil {
			c.spec.EngineVersion, c.empty = ptr.To(fullVersion(*desired.Spec.EngineVersion)), false
		}
		if differing["Engine"] && desired.Spec.Engine != nil {
			c.spec.Engine, c.empty = ptr.To(*desired.Spec.Engine), false
		}
		if differing["CacheParameterGroupName"] && desired.Spec.CacheParameterGroupName != nil {
			c.spec.CacheParameterGroupName, c.empty = ptr.To(*desired.Spec.CacheParameterGroupName), false
		} else if len(*c.spec.CacheParameterGroupName) > 8 && (*c.spec.CacheParameterGroupName)[:8] == "default." {
			c.spec.CacheParameterGroupName = ptr.To("default." + familyOf(*c.spec.Engine, *c.spec.EngineVersion))
		}
		return c
	})
}

// respond returns the desired object with the response to a modification, which overwrites its spec.
func (m groupManager) respond(s *session, action string, desired *ack.ReplicationGroup, change func(ack.ReplicationGroupSpec) change) (*ack.ReplicationGroup, error) {
	g, err := s.modifyGroup(action, *desired.Spec.ReplicationGroupID, change)
	if err != nil {
		return nil, err
	}
	engine := desired.Spec.Engine
	g.describe(desired)
	setSynced(s, desired, g)
	if action == "ModifyReplicationGroup" && engine != nil {
		desired.Spec.Engine = engine
	}
	return desired, nil
}

// modifyRest sends everything else, with the current token.
func (m groupManager) modifyRest(s *session, desired *ack.ReplicationGroup, differing fields) (client.Object, error) {
	token, err := s.tokenOf(desired)
	if err != nil {
		return nil, err
	}
	spec := desired.Spec.DeepCopy()
	g, err := s.modifyGroup("ModifyReplicationGroup", *desired.Spec.ReplicationGroupID, func(to ack.ReplicationGroupSpec) change {
		replace(&to.CacheNodeType, spec.CacheNodeType)
		replace(&to.CacheParameterGroupName, spec.CacheParameterGroupName)
		replace(&to.Engine, spec.Engine)
		replace(&to.IPDiscovery, spec.IPDiscovery)
		replace(&to.PreferredMaintenanceWindow, spec.PreferredMaintenanceWindow)
		replace(&to.Description, spec.Description)
		replace(&to.SnapshotWindow, spec.SnapshotWindow)
		replace(&to.NotificationTopicARN, spec.NotificationTopicARN)
		replace(&to.AutomaticFailoverEnabled, spec.AutomaticFailoverEnabled)
		replace(&to.MultiAZEnabled, spec.MultiAZEnabled)
		replace(&to.SnapshotRetentionLimit, spec.SnapshotRetentionLimit)
		if differing["TransitEncryptionEnabled"] {
			replace(&to.TransitEncryptionEnabled, spec.TransitEncryptionEnabled)
		}
		if differing["Durability"] {
			replace(&to.Durability, spec.Durability)
		}
		return change{spec: to, token: token}
	})
	if err != nil {
		return nil, err
	}
	g.describe(desired)
	setSynced(s, desired, g)
	desired.Spec.CacheNodeType, desired.Spec.LogDeliveryConfigurations = spec.CacheNodeType, spec.LogDeliveryConfigurations
	requested(desired)
	if differing["Durability"] {
		s.setCondition(desired, ack.ConditionSynced, corev1.ConditionFalse, ptr.To("replication group durability update in progress."), nil)
	}
	return desired, nil
}

// replace sets a setting to a value, unless it is missing.
func replace[T any](setting **T, value *T) {
	if value != nil {
		*setting = value
	}
}

// syncTags adds tags, or removes some if there are none to add. The rest is sent later.
func (s *session) syncTags(desired, latest *ack.ReplicationGroup) error {
	id := *desired.Spec.ReplicationGroupID
	from, to := tagsOf(latest.Spec.Tags), tagsOf(desired.Spec.Tags)
	merged := maps.Clone(from)
	maps.Copy(merged, to)
	action := "AddTagsToResource"
	if maps.Equal(merged, from) {
		action, merged = "RemoveTagsFromResource", to
	}
	err := s.call(action, arn("replicationgroup", id), func() error {
		g := s.Groups[id]
		if g.State != ack.GroupAvailable {
			return Error{action, "InvalidReplicationGroupState", fmt.Sprintf("Replication group %s must be available, and is %s.", id, g.State)}
		}
		g.State, g.Done = ack.GroupModifying, s.now.Add(s.Timing.Operation)
		g.Spec.Tags = nil
		for _, key := range slices.Sorted(maps.Keys(merged)) {
			g.Spec.Tags = append(g.Spec.Tags, &ack.Tag{Key: &key, Value: ptr.To(merged[key])})
		}
		g.Pending.Tags = g.Spec.Tags
		s.Groups[id] = g
		return nil
	})
	if err != nil {
		return err
	}
	return s.wait("tags Update is in progress")
}

func (groupManager) remove(s *session, o client.Object) (client.Object, error) {
	g := o.(*ack.ReplicationGroup)
	switch ack.GroupState(g) {
	case ack.GroupDeleting:
		s.setCondition(g, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(deletingMessage), nil)
		return g, s.wait("Delete is in progress.")
	case ack.GroupModifying:
		s.setCondition(g, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(modifyingMessage), nil)
		return g, s.wait("Modify is in progress.")
	}
	deleted, err := s.deleteGroup(*g.Spec.ReplicationGroupID)
	if err != nil {
		return nil, err
	}
	deleted.describe(g)
	setSynced(s, g, deleted)
	s.setCondition(g, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(deletingMessage), nil)
	return g, s.wait("Delete is in progress.")
}

// compare also compares what is in the status only.
func (groupManager) compare(a, b client.Object) fields {
	desired, latest := a.(*ack.ReplicationGroup), b.(*ack.ReplicationGroup)
	differing := compareSpecs(a, b, "AutomaticFailoverEnabled", "MultiAZEnabled", "LogDeliveryConfigurations", "PrimaryClusterID", "SnapshotName", "SnapshotARNs", "SnapshotRef")
	if desired.Spec.EngineVersion != nil && latest.Spec.EngineVersion != nil && sameVersion(*desired.Spec.EngineVersion, *latest.Spec.EngineVersion) {
		delete(differing, "EngineVersion")
	}
	if desired.Spec.PreferredMaintenanceWindow == nil && latest.Spec.PreferredMaintenanceWindow != nil {
		delete(differing, "PreferredMaintenanceWindow")
	}
	for name, flag := range map[string]struct {
		desired *bool
		latest  *string
	}{"AutomaticFailoverEnabled": {desired.Spec.AutomaticFailoverEnabled, latest.Status.AutomaticFailover}, "MultiAZEnabled": {desired.Spec.MultiAZEnabled, latest.Status.MultiAZ}} {
		if flag.desired != nil && (flag.latest == nil || *flag.latest != enabled(*flag.desired)) {
			differing[name] = true
		}
	}
	return differing
}
