// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"cmp"
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"github.com/flagcache/flagcache/test/awsplayer/fleet"
)

// groupID is the form of an ID of a replication group.
var groupID = regexp.MustCompile(`^[a-z]([a-z0-9]|-[a-z0-9]){0,39}$`)

func createReplicationGroup(a *account, in *elasticache.CreateReplicationGroupInput) (*elasticache.CreateReplicationGroupOutput, error) {
	id := strings.ToLower(aws.ToString(in.ReplicationGroupId)) // as AWS stores it
	switch {
	case !groupID.MatchString(id) || len(id) > 40:
		return nil, invalidValue("The parameter ReplicationGroupIdentifier is not a valid identifier.")
	case a.groups[id] != nil:
		return nil, &types.ReplicationGroupAlreadyExistsFault{Message: text("Replication group %s already exists.", id)}
	case aws.ToString(in.ReplicationGroupDescription) == "":
		return nil, invalidValue("A description is required.")
	}
	g, err := newGroup(id, in)
	if err != nil {
		return nil, err
	}
	if err := validateGroup(a, g, g.next); err != nil {
		return nil, err
	}
	if name := aws.ToString(in.SnapshotName); name != "" && (a.snapshots[name] == nil || a.snapshots[name].status() != statusAvailable) {
		return nil, invalidValue("Snapshot %s is not available.", name)
	}
	if err := a.launch(g); err != nil {
		return nil, err
	}
	a.tags[a.arn("replicationgroup", id)] = in.Tags
	return &elasticache.CreateReplicationGroupOutput{ReplicationGroup: a.describeGroup(g)}, nil
}

// newGroup returns the group of a request, with the defaults of AWS.
func newGroup(id string, in *elasticache.CreateReplicationGroupInput) (*group, error) {
	replicas := int(aws.ToInt32(in.ReplicasPerNodeGroup))
	if in.NumCacheClusters != nil {
		if in.NumNodeGroups != nil || in.ReplicasPerNodeGroup != nil {
			return nil, invalidCombination("NumCacheClusters cannot be combined with NumNodeGroups and ReplicasPerNodeGroup.")
		}
		replicas = int(*in.NumCacheClusters) - 1
	}
	if in.NumNodeGroups != nil && *in.NumNodeGroups != 1 {
		return nil, invalidValue("awsplayer supports groups of one shard only.")
	}
	engine := cmp.Or(aws.ToString(in.Engine), "redis")
	version := fullVersion(cmp.Or(aws.ToString(in.EngineVersion), "7.1"))
	s := settings{
		immediate: immediate{
			description:       aws.ToString(in.ReplicationGroupDescription),
			snapshotWindow:    cmp.Or(aws.ToString(in.SnapshotWindow), "05:00-06:00"),
			maintenanceWindow: cmp.Or(aws.ToString(in.PreferredMaintenanceWindow), "sun:23:00-mon:01:30"),
			notificationTopic: aws.ToString(in.NotificationTopicArn),
			retention:         aws.ToInt32(in.SnapshotRetentionLimit),
			durability:        cmp.Or(in.Durability, types.DurabilityDefault),
			ipDiscovery:       cmp.Or(in.IpDiscovery, types.IpDiscoveryIpv4),

			autoMinorVersionUpgrade: in.AutoMinorVersionUpgrade == nil || *in.AutoMinorVersionUpgrade,
		},
		gradual: gradual{
			nodeType:          cmp.Or(aws.ToString(in.CacheNodeType), "cache.r6g.large"),
			engine:            engine,
			engineVersion:     version,
			parameterGroup:    cmp.Or(aws.ToString(in.CacheParameterGroupName), "default."+familyOf(engine, version)),
			replicas:          replicas,
			automaticFailover: aws.ToBool(in.AutomaticFailoverEnabled),
			multiAZ:           aws.ToBool(in.MultiAZEnabled),
			userGroups:        in.UserGroupIds,
			securityGroups:    in.SecurityGroupIds,
		},
	}
	if token := aws.ToString(in.AuthToken); token != "" {
		s.tokens = []string{token}
	}
	return &group{
		id: id, created: time.Now().UTC(), subnetGroup: cmp.Or(aws.ToString(in.CacheSubnetGroupName), "default"), kmsKey: aws.ToString(in.KmsKeyId),
		transit: aws.ToBool(in.TransitEncryptionEnabled), atRest: aws.ToBool(in.AtRestEncryptionEnabled), dataTiering: aws.ToBool(in.DataTieringEnabled),
		networkType: cmp.Or(in.NetworkType, types.NetworkTypeIpv4), current: s, next: s,
	}, nil
}

// launch opens a group's endpoints and starts its servers. The caller holds the lock.
func (a *account) launch(g *group) error {
	o := fleet.Options{ID: g.id, Host: a.options.ListenHost, Dir: a.dir, RedisServer: a.options.RedisServer, Users: a.usersOf(g)}
	if g.transit {
		o.Authority = a.authority
	}
	var err error
	if g.fleet, err = fleet.Open(o); err != nil {
		return err
	}
	a.groups[g.id] = g
	fails, nodes := a.journal.fails(CreateFailed, "CreateReplicationGroup", g.id), 1+g.current.replicas
	a.startPhase(g, statusCreating, a.options.CreateTime, func(ctx context.Context) error {
		if fails {
			return nil
		}
		return g.fleet.Resize(ctx, nodes)
	})
	g.phase.fails = fails
	return nil
}

// findGroup returns the group with an ID. The caller holds the lock.
func (a *account) findGroup(id *string) (*group, error) {
	if g := a.groups[strings.ToLower(aws.ToString(id))]; g != nil {
		return g, nil
	}
	return nil, &types.ReplicationGroupNotFoundFault{Message: text("ReplicationGroup %s not found.", aws.ToString(id))}
}

// findAvailable returns the group with an ID if it can be changed. The caller holds the
// lock.
func (a *account) findAvailable(id *string) (*group, error) {
	g, err := a.findGroup(id)
	if err != nil {
		return nil, err
	}
	if g.phase.status != statusAvailable {
		return nil, &types.InvalidReplicationGroupStateFault{Message: text("Replication group %s must be available, and is %s.", g.id, g.phase.status)}
	}
	return g, nil
}

func describeReplicationGroups(a *account, in *elasticache.DescribeReplicationGroupsInput) (*elasticache.DescribeReplicationGroupsOutput, error) {
	out := &elasticache.DescribeReplicationGroupsOutput{ReplicationGroups: []types.ReplicationGroup{}}
	if in.ReplicationGroupId != nil {
		g, err := a.findGroup(in.ReplicationGroupId)
		if err != nil {
			return nil, err
		}
		out.ReplicationGroups = append(out.ReplicationGroups, *a.describeGroup(g))
		return out, nil
	}
	for _, id := range sortedKeys(a.groups) {
		out.ReplicationGroups = append(out.ReplicationGroups, *a.describeGroup(a.groups[id]))
	}
	return out, nil
}

func modifyReplicationGroup(a *account, in *elasticache.ModifyReplicationGroupInput) (*elasticache.ModifyReplicationGroupOutput, error) {
	g, err := a.findAvailable(in.ReplicationGroupId)
	if err != nil {
		return nil, err
	}
	if !aws.ToBool(in.ApplyImmediately) {
		return nil, invalidValue("awsplayer supports modifications with ApplyImmediately only.")
	}
	if isEmpty(in) {
		if a.options.RejectEmptyModify {
			return nil, invalidCombination("No modifications were requested")
		}
		return &elasticache.ModifyReplicationGroupOutput{ReplicationGroup: a.describeGroup(g)}, nil
	}
	next, err := modified(g, in)
	if err != nil {
		return nil, err
	}
	if err := validateGroup(a, g, next); err != nil {
		return nil, err
	}
	if g.current.immediate = next.immediate; next.equal(g.current.gradual) {
		g.next = g.current
	} else {
		a.modify(g, next, a.journal.fails(RolledBack, "ModifyReplicationGroup", g.id))
	}
	return &elasticache.ModifyReplicationGroupOutput{ReplicationGroup: a.describeGroup(g)}, nil
}

func increaseReplicaCount(a *account, in *elasticache.IncreaseReplicaCountInput) (*elasticache.IncreaseReplicaCountOutput, error) {
	g, err := a.scale("IncreaseReplicaCount", in.ReplicationGroupId, in.ApplyImmediately, in.NewReplicaCount, 1)
	if err != nil {
		return nil, err
	}
	return &elasticache.IncreaseReplicaCountOutput{ReplicationGroup: a.describeGroup(g)}, nil
}

func decreaseReplicaCount(a *account, in *elasticache.DecreaseReplicaCountInput) (*elasticache.DecreaseReplicaCountOutput, error) {
	g, err := a.scale("DecreaseReplicaCount", in.ReplicationGroupId, in.ApplyImmediately, in.NewReplicaCount, -1)
	if err != nil {
		return nil, err
	}
	return &elasticache.DecreaseReplicaCountOutput{ReplicationGroup: a.describeGroup(g)}, nil
}

// scale changes the number of replicas in a direction. The caller holds the lock.
func (a *account) scale(action string, id *string, immediately *bool, count *int32, direction int) (*group, error) {
	g, err := a.findAvailable(id)
	if err != nil {
		return nil, err
	}
	next := g.current
	switch {
	case !aws.ToBool(immediately):
		return nil, invalidValue("awsplayer supports changes with ApplyImmediately only.")
	case count == nil:
		return nil, invalidValue("awsplayer requires NewReplicaCount.")
	case (int(*count)-g.current.replicas)*direction <= 0:
		return nil, invalidValue("The number of replicas is %d already, which %s cannot change to %d.", g.current.replicas, action, *count)
	}
	next.replicas = int(*count)
	if err := validateGroup(a, g, next); err != nil {
		return nil, err
	}
	a.modify(g, next, a.journal.fails(RolledBack, action, g.id))
	return g, nil
}

// modifyShards is refused, because no group has cluster mode.
func modifyShards(a *account, in *elasticache.ModifyReplicationGroupShardConfigurationInput) (*elasticache.ModifyReplicationGroupShardConfigurationOutput, error) {
	g, err := a.findAvailable(in.ReplicationGroupId)
	if err != nil {
		return nil, err
	}
	return nil, invalidCombination("Replication group %s is not cluster mode enabled.", g.id)
}

func deleteReplicationGroup(a *account, in *elasticache.DeleteReplicationGroupInput) (*elasticache.DeleteReplicationGroupOutput, error) {
	g, err := a.findGroup(in.ReplicationGroupId)
	if err != nil {
		return nil, err
	}
	if status := g.phase.status; status != statusAvailable && status != statusCreateFailed {
		return nil, &types.InvalidReplicationGroupStateFault{Message: text("Replication group %s has status %s which is not valid for deletion.", g.id, status)}
	}
	a.startPhase(g, statusDeleting, a.options.DeleteTime, func(context.Context) error {
		g.fleet.Stop()
		return nil
	})
	return &elasticache.DeleteReplicationGroupOutput{ReplicationGroup: a.describeGroup(g)}, nil
}
