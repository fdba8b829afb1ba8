// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	elasticache "github.com/aws-controllers-k8s/elasticache-controller/apis/v1alpha1"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Group is a replication group in AWS.
type Group struct {
	State string
	// Spec are its settings, and Pending those that it has when the current operation is done.
	Spec, Pending ack.ReplicationGroupSpec
	// Done is when the current operation is over, and Fails lets it fail.
	Done  time.Time
	Fails bool
	// Host is the name of the primary endpoint, and Primary the index of the node behind it.
	Host    string
	Primary int
	// NoNodes reports that the creation failed.
	NoNodes bool
	// Created is the time of the creation.
	Created time.Time
	// Tokens are those that AWS accepts, PendingTokens those after the current operation.
	Tokens, PendingTokens Tokens
	// TokenChanged is when the tokens changed, zero if they never did.
	TokenChanged time.Time
}

// Event is an event in AWS.
type Event struct {
	At      time.Time
	Message string
}

// completed returns a group after its operation.
func (a *Account) completed(g Group) Group {
	id := *g.Spec.ReplicationGroupID
	event := ""
	switch {
	case g.State == ack.GroupSnapshotting:
		g.State = ack.GroupAvailable
		return g
	case g.State == ack.GroupCreating && g.Fails:
		event = "Replication group %s failed to create"
	case g.State == ack.GroupCreating:
		event = "Replication group %s created"
		if a.Lost == g.address() {
			a.Lost = ""
		}
	case g.Fails:
		event = "Modification of replication group %s failed and was rolled back"
	default:
		event = "Modification of replication group %s completed"
		if g.Tokens != g.PendingTokens {
			g.TokenChanged = g.Done
		}
		g.Spec, g.Tokens = g.Pending, g.PendingTokens
	}
	a.Events[id] = append(slices.Clip(a.Events[id]), Event{At: g.Done, Message: fmt.Sprintf(event, id)})
	switch {
	case g.Fails && g.State == ack.GroupCreating:
		g.State, g.NoNodes = ack.GroupCreateFailed, true
	default:
		g.State = ack.GroupAvailable
	}
	g.Pending, g.PendingTokens, g.Fails = g.Spec, g.Tokens, false
	return g
}

// createGroup is the call CreateReplicationGroup.
func (s *session) createGroup(spec ack.ReplicationGroupSpec, token string) (Group, error) {
	const action = "CreateReplicationGroup"
	id := strings.ToLower(*spec.ReplicationGroupID)
	err := s.call(action, id, func() error {
		g := Group{State: ack.GroupCreating, Host: host(id), Spec: withDefaults(spec), Created: s.now.UTC().Truncate(time.Second), Tokens: AcceptOnly(token), Done: s.now.Add(s.Timing.Operation)}
		g.Pending, g.PendingTokens = g.Spec, g.Tokens
		if err := s.validate(action, g.Spec); err != nil {
			return err
		}
		if s.FailCreations > 0 {
			s.FailCreations--
			g.Fails = true
		}
		s.Groups[id] = g
		return nil
	})
	return s.Groups[id], err
}

// withDefaults returns a spec with the defaults of AWS, and in its notation.
func withDefaults(spec ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	spec = *spec.DeepCopy()
	spec.ReplicationGroupID = ptr.To(strings.ToLower(*spec.ReplicationGroupID))
	setDefault(&spec.Engine, "redis")
	setDefault(&spec.EngineVersion, "7.1")
	spec.EngineVersion = ptr.To(fullVersion(*spec.EngineVersion))
	setDefault(&spec.CacheParameterGroupName, "default."+familyOf(*spec.Engine, *spec.EngineVersion))
	setDefault(&spec.CacheNodeType, "cache.r6g.large")
	setDefault(&spec.CacheSubnetGroupName, "default")
	setDefault(&spec.SnapshotWindow, "05:00-06:00")
	setDefault(&spec.PreferredMaintenanceWindow, "sun:23:00-mon:01:30")
	setDefault(&spec.SnapshotRetentionLimit, 0)
	setDefault(&spec.ReplicasPerNodeGroup, 0)
	setDefault(&spec.Durability, "default")
	setDefault(&spec.IPDiscovery, "ipv4")
	setDefault(&spec.NetworkType, "ipv4")
	for _, flag := range []**bool{&spec.AtRestEncryptionEnabled, &spec.TransitEncryptionEnabled, &spec.AutomaticFailoverEnabled, &spec.MultiAZEnabled} {
		setDefault(flag, false)
	}
	spec.AuthToken = nil
	return spec
}

func setDefault[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// fullVersion returns a version with a patch level.
func fullVersion(version string) string {
	if strings.Count(version, ".") == 1 {
		return version + ".0"
	}
	return version
}

// familyOf returns the family of the parameter groups for an engine.
func familyOf(engine, version string) string {
	major, _, _ := strings.Cut(version, ".")
	if engine == "redis" && major == "6" {
		return "redis6.x"
	}
	return engine + major
}

// change is a modification of a group.
type change struct {
	spec ack.ReplicationGroupSpec
	// token is the new token, empty for none.
	token string
	// empty reports that nothing is sent.
	empty bool
}

// modifyGroup is a call that modifies a group. Settings that AWS changes at once do not put the group
// into the state modifying.
func (s *session) modifyGroup(action, id string, change func(ack.ReplicationGroupSpec) change) (Group, error) {
	err := s.call(action, id, func() error {
		g, ok := s.Groups[id]
		switch {
		case !ok:
			return Error{action, "ReplicationGroupNotFoundFault", fmt.Sprintf("ReplicationGroup %s not found.", id)}
		case g.State != ack.GroupAvailable:
			return Error{action, "InvalidReplicationGroupState", fmt.Sprintf("Replication group %s must be available, and is %s.", id, g.State)}
		}
		c := change(*g.Spec.DeepCopy())
		if c.empty {
			return nil
		}
		if err := s.validateChange(action, g.Spec, c.spec); err != nil {
			return err
		}
		tokens := g.Tokens
		if c.token != "" {
			tokens = tokens.rotatedTo(c.token)
		}
		if !gradual(g.Spec, c.spec) && tokens == g.Tokens {
			g.Spec, g.Pending = c.spec, c.spec
			s.Groups[id] = g
			return nil
		}
		g.Spec = immediately(g.Spec, c.spec)
		g.Pending, g.PendingTokens, g.State, g.Done = c.spec, tokens, ack.GroupModifying, s.now.Add(s.Timing.Operation)
		if s.RollBack > 0 {
			s.RollBack--
			g.Pending, g.PendingTokens, g.Fails = g.Spec, g.Tokens, true
		}
		s.Groups[id] = g
		return nil
	})
	return s.Groups[id], err
}

// gradual reports whether specs differ in settings whose change puts a group into the state
// modifying.
func gradual(a, b ack.ReplicationGroupSpec) bool {
	return !reflect.DeepEqual(immediately(a, b), b)
}

// immediately returns a spec with the settings of another one that AWS changes at once.
func immediately(spec, to ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	spec.Description, spec.SnapshotWindow, spec.PreferredMaintenanceWindow = to.Description, to.SnapshotWindow, to.PreferredMaintenanceWindow
	spec.SnapshotRetentionLimit, spec.Durability, spec.IPDiscovery, spec.Tags = to.SnapshotRetentionLimit, to.Durability, to.IPDiscovery, to.Tags
	spec.NotificationTopicARN = to.NotificationTopicARN
	return spec
}

// validateChange performs the checks of AWS on a modification.
func (s *session) validateChange(action string, from, to ack.ReplicationGroupSpec) error {
	switch {
	case *from.SnapshotRetentionLimit == 0 && *to.SnapshotRetentionLimit > 0:
		return Error{action, "InvalidParameterCombination", "Must specify both SnapshotRetentionLimit and SnapshottingClusterId to turn on snapshots"}
	case *from.TransitEncryptionEnabled != *to.TransitEncryptionEnabled:
		return Error{action, "InvalidParameterCombination", "Encryption in transit cannot be changed in one step."}
	case older(to, from):
		return Error{action, "InvalidParameterCombination", fmt.Sprintf("The engine version cannot be downgraded from %s %s to %s %s.", *from.Engine, *from.EngineVersion, *to.Engine, *to.EngineVersion)}
	}
	return s.validate(action, to)
}

func older(a, b ack.ReplicationGroupSpec) bool {
	aMajor, aMinor := majorMinor(*a.EngineVersion)
	bMajor, bMinor := majorMinor(*b.EngineVersion)
	return *a.Engine == *b.Engine && slices.Compare([]int{aMajor, aMinor}, []int{bMajor, bMinor}) < 0 || *a.Engine == "redis" && *b.Engine == "valkey"
}

// validate performs the checks of AWS on settings.
func (s *session) validate(action string, spec ack.ReplicationGroupSpec) error {
	combination := func(message string) error { return Error{action, "InvalidParameterCombination", message} }
	switch {
	case *spec.AutomaticFailoverEnabled && *spec.ReplicasPerNodeGroup == 0:
		return combination("Automatic failover requires a replica.")
	case *spec.MultiAZEnabled && !*spec.AutomaticFailoverEnabled:
		return combination("Multi-AZ requires automatic failover.")
	case !strings.HasPrefix(*spec.CacheNodeType, "cache."):
		return Error{action, "InvalidParameterValue", fmt.Sprintf("Invalid Cache Node Type: %s.", *spec.CacheNodeType)}
	}
	if name := *spec.CacheSubnetGroupName; s.SubnetGroups[name].CacheSubnetGroupName == nil {
		return Error{action, "CacheSubnetGroupNotFoundFault", fmt.Sprintf("Cache Subnet Group %s does not exist.", name)}
	}
	name, family := *spec.CacheParameterGroupName, familyOf(*spec.Engine, *spec.EngineVersion)
	known, isDefault := strings.CutPrefix(name, "default.")
	if !isDefault {
		if s.ParameterGroups[name].CacheParameterGroupName == nil {
			return Error{action, "CacheParameterGroupNotFound", "CacheParameterGroup not found: " + name}
		}
		known = *s.ParameterGroups[name].CacheParameterGroupFamily
	}
	if known != family {
		return combination(fmt.Sprintf("Expected a parameter group of family %s but found one of family %s.", family, known))
	}
	for _, id := range spec.UserGroupIDs {
		if s.UserGroups[*id].State != ack.UserActive {
			return Error{action, "UserGroupNotFound", fmt.Sprintf("User group %s not found.", *id)}
		}
	}
	return nil
}

// deleteGroup is the call DeleteReplicationGroup.
func (s *session) deleteGroup(id string) (Group, error) {
	const action = "DeleteReplicationGroup"
	err := s.call(action, id, func() error {
		g, ok := s.Groups[id]
		switch {
		case !ok:
			return Error{action, "ReplicationGroupNotFoundFault", fmt.Sprintf("ReplicationGroup %s not found.", id)}
		case g.State != ack.GroupAvailable && g.State != ack.GroupCreateFailed:
			return Error{action, "InvalidReplicationGroupState", fmt.Sprintf("Replication group %s has status %s which is not valid for deletion.", id, g.State)}
		}
		g.State, g.Done = ack.GroupDeleting, s.now.Add(s.Timing.Operation)
		s.Groups[id] = g
		return nil
	})
	return s.Groups[id], err
}

// describe writes what AWS returns about a group into the spec and the status of an object.
func (g Group) describe(o *ack.ReplicationGroup) {
	a, spec, status := g.Spec.DeepCopy(), &o.Spec, &o.Status
	spec.ReplicationGroupID, spec.Description, spec.Engine, spec.CacheNodeType = a.ReplicationGroupID, a.Description, a.Engine, a.CacheNodeType
	spec.AtRestEncryptionEnabled, spec.TransitEncryptionEnabled = a.AtRestEncryptionEnabled, a.TransitEncryptionEnabled
	spec.IPDiscovery, spec.NetworkType, spec.KMSKeyID, spec.UserGroupIDs = a.IPDiscovery, a.NetworkType, a.KMSKeyID, a.UserGroupIDs
	spec.SnapshotRetentionLimit, spec.SnapshotWindow = a.SnapshotRetentionLimit, a.SnapshotWindow
	setMetadata(o, arn("replicationgroup", *a.ReplicationGroupID))
	*status = ack.ReplicationGroupStatus{
		ACKResourceMetadata: status.ACKResourceMetadata, Conditions: status.Conditions, Events: status.Events,
		AllowedScaleUpModifications: status.AllowedScaleUpModifications, AllowedScaleDownModifications: status.AllowedScaleDownModifications,
		Status: ptr.To(g.State), AuthTokenEnabled: ptr.To(g.Tokens[0] != ""), AutoMinorVersionUpgrade: ptr.To(true), ClusterEnabled: ptr.To(false),
		AutomaticFailover: ptr.To(failover(*a.AutomaticFailoverEnabled, *g.Pending.AutomaticFailoverEnabled)),
		MultiAZ:           ptr.To(enabled(*a.MultiAZEnabled)), DataTiering: ptr.To(enabled(ptr.Deref(a.DataTieringEnabled, false))),
		EffectiveDurability: ptr.To("async"), ReplicationGroupCreateTime: ptr.To(metav1.NewTime(g.Created)),
		MemberClusters: g.nodes(), NodeGroups: g.shards(), StorageEncryptionType: ptr.To(encryption(*a.AtRestEncryptionEnabled)),
	}
	status.PendingModifiedValues = g.pending()
	if !g.TokenChanged.IsZero() {
		status.AuthTokenLastModifiedDate = ptr.To(metav1.NewTime(g.TokenChanged.UTC()).Rfc3339Copy())
	}
}

// pending returns the changes that AWS is making, as far as it reports them.
func (g Group) pending() *elasticache.ReplicationGroupPendingModifiedValues {
	pending := &elasticache.ReplicationGroupPendingModifiedValues{}
	if g.Tokens != g.PendingTokens {
		pending.AuthTokenStatus = ptr.To("ROTATING")
	}
	if from, to := *g.Spec.AutomaticFailoverEnabled, *g.Pending.AutomaticFailoverEnabled; from != to {
		pending.AutomaticFailoverStatus = ptr.To(enabled(to))
	}
	return pending
}

// nodes returns the IDs of the nodes.
func (g Group) nodes() []*string {
	var ids []*string
	if g.NoNodes {
		return nil
	}
	for i := range *g.Spec.ReplicasPerNodeGroup + 1 {
		ids = append(ids, ptr.To(fmt.Sprintf("%s-%03d", *g.Spec.ReplicationGroupID, i+1)))
	}
	return ids
}

// shards returns the only shard. It has no endpoints and no nodes before it is available.
func (g Group) shards() []*ack.NodeGroup {
	shard := &ack.NodeGroup{NodeGroupID: ptr.To("0001"), Status: ptr.To(g.State)}
	if g.State == ack.GroupCreating || g.State == ack.GroupCreateFailed {
		return []*ack.NodeGroup{shard}
	}
	id := *g.Spec.ReplicationGroupID
	endpoint := func(name string) *ack.Endpoint { return &ack.Endpoint{Address: &name, Port: ptr.To[int64](port)} }
	named := func(role string) *ack.Endpoint { return endpoint(role + strings.TrimPrefix(host(id), "master")) }
	shard.PrimaryEndpoint, shard.ReaderEndpoint = endpoint(g.Host), named("replica")
	for i, node := range g.nodes() {
		role := "replica"
		if i == g.Primary {
			role = "primary"
		}
		shard.NodeGroupMembers = append(shard.NodeGroupMembers, &ack.NodeGroupMember{
			CacheClusterID: node, CacheNodeID: ptr.To("0001"), CurrentRole: &role, ReadEndpoint: named(*node), PreferredAvailabilityZone: ptr.To(zone(i + 1)),
		})
	}
	return []*ack.NodeGroup{shard}
}

func enabled(flag bool) string {
	if flag {
		return "enabled"
	}
	return "disabled"
}

// failover returns the state of the automatic failover while it is changed.
func failover(current, next bool) string {
	switch {
	case current == next:
		return enabled(current)
	case next:
		return "enabling"
	}
	return "disabling"
}

func encryption(atRest bool) string {
	if atRest {
		return "sse-elasticache"
	}
	return "none"
}
