// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/test/awsplayer"
)

func TestModification(t *testing.T) {
	c := start(t, quick())
	c.create(t, request("cache"))
	started, err := c.ModifyReplicationGroup(t.Context(), &elasticache.ModifyReplicationGroupInput{
		ReplicationGroupId: aws.String("cache"), ApplyImmediately: aws.Bool(true), ReplicationGroupDescription: aws.String("a changed cache"),
		CacheNodeType: aws.String("cache.t3.small"), Engine: aws.String("valkey"), EngineVersion: aws.String("8.1"), MultiAZEnabled: aws.Bool(true),
		SecurityGroupIds: []string{"sg-2"}, PreferredMaintenanceWindow: aws.String("sun:05:00-sun:06:00"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if g := started.ReplicationGroup; *g.Status != "modifying" || *g.CacheNodeType != "cache.t3.micro" || *g.Engine != "redis" || *g.Description != "a changed cache" {
		t.Errorf("the group is modified too early: %+v", g)
	}
	_, err = c.ModifyReplicationGroup(t.Context(), &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), ApplyImmediately: aws.Bool(true), CacheNodeType: aws.String("cache.t3.medium")})
	expectCode(t, err, "InvalidReplicationGroupState")
	g := c.await(t, "cache", "available")
	if *g.CacheNodeType != "cache.t3.small" || *g.Engine != "valkey" || g.MultiAZ != types.MultiAZStatusEnabled {
		t.Errorf("the group is not modified: %+v", g)
	}
	node, err := c.DescribeCacheClusters(t.Context(), &elasticache.DescribeCacheClustersInput{CacheClusterId: &g.MemberClusters[0]})
	if err != nil {
		t.Fatal(err)
	}
	if n := node.CacheClusters[0]; *n.EngineVersion != "8.1.0" || *n.CacheParameterGroup.CacheParameterGroupName != "default.valkey8" || *n.SecurityGroups[0].SecurityGroupId != "sg-2" || *n.PreferredMaintenanceWindow != "sun:05:00-sun:06:00" {
		t.Errorf("the node is %+v", n)
	}
	allowed, err := c.ListAllowedNodeTypeModifications(t.Context(), &elasticache.ListAllowedNodeTypeModificationsInput{ReplicationGroupId: aws.String("cache")})
	if err != nil || !contains(allowed.ScaleUpModifications, "cache.t3.medium") || !contains(allowed.ScaleDownModifications, "cache.t3.micro") {
		t.Errorf("the node types are %+v: %v", allowed, err)
	}
}

func contains(list []string, s string) bool { return strings.Contains(strings.Join(list, " "), s) }

func TestReplicaCount(t *testing.T) {
	c := start(t, quick())
	c.create(t, request("cache"))
	increase := &elasticache.IncreaseReplicaCountInput{ReplicationGroupId: aws.String("cache"), NewReplicaCount: aws.Int32(2), ApplyImmediately: aws.Bool(true)}
	if _, err := c.IncreaseReplicaCount(t.Context(), increase); err != nil {
		t.Fatal(err)
	}
	if g := c.await(t, "cache", "available"); len(g.MemberClusters) != 3 || len(g.NodeGroups[0].NodeGroupMembers) != 3 {
		t.Errorf("the nodes are %v", g.MemberClusters)
	}
	_, err := c.IncreaseReplicaCount(t.Context(), increase)
	expectCode(t, err, "InvalidParameterValue")
	decrease := &elasticache.DecreaseReplicaCountInput{ReplicationGroupId: aws.String("cache"), NewReplicaCount: aws.Int32(0), ApplyImmediately: aws.Bool(true)}
	_, err = c.DecreaseReplicaCount(t.Context(), decrease)
	expectCode(t, err, "InvalidParameterCombination") // because of the automatic failover
	decrease.NewReplicaCount = aws.Int32(1)
	if _, err := c.DecreaseReplicaCount(t.Context(), decrease); err != nil {
		t.Fatal(err)
	}
	if g := c.await(t, "cache", "available"); len(g.MemberClusters) != 2 {
		t.Errorf("the nodes are %v", g.MemberClusters)
	}
}

func TestAutomaticFailoverIsEnabledGradually(t *testing.T) {
	c := start(t, quick())
	in := request("cache")
	in.AutomaticFailoverEnabled = aws.Bool(false)
	c.create(t, in)
	out, err := c.ModifyReplicationGroup(t.Context(), &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), ApplyImmediately: aws.Bool(true), AutomaticFailoverEnabled: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	if status := out.ReplicationGroup.AutomaticFailover; status != types.AutomaticFailoverStatusEnabling {
		t.Errorf("automatic failover is %s", status)
	}
	if g := c.await(t, "cache", "available"); g.AutomaticFailover != types.AutomaticFailoverStatusEnabled {
		t.Errorf("automatic failover is %s", g.AutomaticFailover)
	}
}

func TestCreationIsRefused(t *testing.T) {
	c := start(t, quick())
	type input = elasticache.CreateReplicationGroupInput
	for name, tt := range map[string]struct {
		change func(*input)
		code   string
	}{
		"an invalid ID":                       {func(in *input) { in.ReplicationGroupId = aws.String("a--b") }, "InvalidParameterValue"},
		"an ID that is too long":              {func(in *input) { in.ReplicationGroupId = aws.String(strings.Repeat("a", 41)) }, "InvalidParameterValue"},
		"no description":                      {func(in *input) { in.ReplicationGroupDescription = aws.String("") }, "InvalidParameterValue"},
		"a short token":                       {func(in *input) { in.AuthToken = aws.String("short") }, "InvalidParameterValue"},
		"a token without encryption":          {func(in *input) { in.TransitEncryptionEnabled = aws.Bool(false) }, "InvalidParameterCombination"},
		"a token and a user group":            {func(in *input) { in.UserGroupIds = []string{"users"} }, "InvalidParameterCombination"},
		"failover without a replica":          {func(in *input) { in.ReplicasPerNodeGroup = aws.Int32(0) }, "InvalidParameterCombination"},
		"several zones without failover":      {func(in *input) { in.AutomaticFailoverEnabled, in.MultiAZEnabled = nil, aws.Bool(true) }, "InvalidParameterCombination"},
		"tiered nodes without tiering":        {func(in *input) { in.CacheNodeType = aws.String("cache.r6gd.xlarge") }, "InvalidParameterCombination"},
		"an unknown node type":                {func(in *input) { in.CacheNodeType = aws.String("cache.x9.huge") }, "InvalidParameterValue"},
		"an unknown engine":                   {func(in *input) { in.Engine = aws.String("memcached") }, "InvalidParameterValue"},
		"a KMS key without encryption":        {func(in *input) { in.AtRestEncryptionEnabled, in.KmsKeyId = nil, aws.String("key") }, "InvalidParameterCombination"},
		"a missing subnet group":              {func(in *input) { in.CacheSubnetGroupName = aws.String("missing") }, "CacheSubnetGroupNotFoundFault"},
		"a missing parameter group":           {func(in *input) { in.CacheParameterGroupName = aws.String("missing") }, "CacheParameterGroupNotFound"},
		"a parameter group of another engine": {func(in *input) { in.CacheParameterGroupName = aws.String("default.valkey8") }, "InvalidParameterCombination"},
		"a missing user group":                {func(in *input) { in.AuthToken, in.UserGroupIds = nil, []string{"missing"} }, "UserGroupNotFound"},
		"a missing snapshot":                  {func(in *input) { in.SnapshotName = aws.String("missing") }, "InvalidParameterValue"},
		"two shards":                          {func(in *input) { in.NumNodeGroups = aws.Int32(2) }, "InvalidParameterValue"},
		"a parameter that is not played":      {func(in *input) { in.Port = aws.Int32(7000) }, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			in := request("cache")
			tt.change(in)
			_, err := c.CreateReplicationGroup(t.Context(), in)
			expectCode(t, err, tt.code)
		})
	}
	if groups := c.player.Groups(); len(groups) > 0 {
		t.Errorf("the groups are %v", groups)
	}
}

func TestModificationIsRefused(t *testing.T) {
	o := quick()
	o.RejectEmptyModify = true
	c := start(t, o)
	before := c.create(t, request("cache"))
	type input = elasticache.ModifyReplicationGroupInput
	for name, tt := range map[string]struct {
		change func(*input)
		code   string
	}{
		"no modification":               {func(*input) {}, "InvalidParameterCombination"},
		"a downgrade":                   {func(in *input) { in.EngineVersion = aws.String("6.2") }, "InvalidParameterCombination"},
		"later":                         {func(in *input) { in.ApplyImmediately, in.CacheNodeType = nil, aws.String("cache.t3.small") }, "InvalidParameterValue"},
		"no encryption":                 {func(in *input) { in.TransitEncryptionEnabled = aws.Bool(false) }, "InvalidParameterCombination"},
		"snapshots without a node":      {func(in *input) { in.SnapshotRetentionLimit = aws.Int32(1) }, "InvalidParameterCombination"},
		"a strategy without a token":    {func(in *input) { in.AuthTokenUpdateStrategy = types.AuthTokenUpdateStrategyTypeSet }, "InvalidParameterCombination"},
		"deletion of the token only":    {func(in *input) { in.AuthTokenUpdateStrategy = types.AuthTokenUpdateStrategyTypeDelete }, "InvalidParameterCombination"},
		"removal of a group not in use": {func(in *input) { in.UserGroupIdsToRemove = []string{"users"} }, "UserGroupNotFound"},
		"a group that does not exist":   {func(in *input) { in.ReplicationGroupId = aws.String("missing") }, "ReplicationGroupNotFoundFault"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &input{ReplicationGroupId: aws.String("cache"), ApplyImmediately: aws.Bool(true)}
			tt.change(in)
			_, err := c.ModifyReplicationGroup(t.Context(), in)
			expectCode(t, err, tt.code)
		})
	}
	if diff := cmp.Diff(before, c.describe(t, "cache"), ignoreSerde); diff != "" {
		t.Errorf("a refused modification changed the group:\n%s", diff)
	}
}

func TestEndpointFollowsThePrimary(t *testing.T) {
	o := quick()
	o.CutOnFailover = true
	c := start(t, o)
	endpoint := c.create(t, request("cache")).NodeGroups[0].PrimaryEndpoint
	before := c.connect(t, endpoint, "", oldToken)
	if err := before.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.player.Failover(t.Context(), "cache"); err != nil {
		t.Fatal(err)
	}
	shard := c.describe(t, "cache").NodeGroups[0]
	if *shard.NodeGroupMembers[0].CacheClusterId != "cache-002" || *shard.NodeGroupMembers[0].CurrentRole != "primary" || *shard.PrimaryEndpoint.Port != *endpoint.Port {
		t.Errorf("after the failover the shard is %+v", shard)
	}
	if err := c.connect(t, endpoint, "", oldToken).Set(t.Context(), "key", "again", 0).Err(); err != nil {
		t.Errorf("writing through the endpoint after the failover: %v", err)
	}
	if !contains(c.events(t, types.SourceTypeReplicationGroup, "cache"), "Failover from master node cache-001 to replica node cache-002") {
		t.Error("the failover has no event")
	}
}

func TestOutOfBandDeletion(t *testing.T) {
	c := start(t, quick())
	c.create(t, request("cache"))
	if err := c.player.DeleteOutOfBand("cache"); err != nil {
		t.Fatal(err)
	}
	if g := c.describe(t, "cache"); g != nil {
		t.Errorf("the group is %+v", g)
	}
	c.create(t, request("cache"))
}

func TestDeletionWhileCreating(t *testing.T) {
	o := quick()
	o.CreateTime = limit
	c := start(t, o)
	if _, err := c.CreateReplicationGroup(t.Context(), request("cache")); err != nil {
		t.Fatal(err)
	}
	if err := c.player.DeleteOutOfBand("cache"); err != nil {
		t.Fatal(err)
	}
	if err := c.player.Cut("cache"); err == nil {
		t.Error("a deleted group was cut")
	}
}

func TestFaults(t *testing.T) {
	c := start(t, quick())
	c.player.Inject(awsplayer.Fault{Action: "CreateReplicationGroup", ID: "cache", Code: "ClusterQuotaForCustomerExceeded", Times: 2})
	c.player.Inject(awsplayer.Fault{Action: "CreateReplicationGroup", Code: "AccessDenied"})
	c.player.Inject(awsplayer.Fault{Action: "DescribeReplicationGroups", Code: "Throttling", Times: -1})
	for _, code := range []string{"ClusterQuotaForCustomerExceeded", "ClusterQuotaForCustomerExceeded", "AccessDenied"} {
		_, err := c.CreateReplicationGroup(t.Context(), request("cache"))
		expectCode(t, err, code)
	}
	if _, err := c.CreateReplicationGroup(t.Context(), request("cache")); err != nil {
		t.Errorf("after the faults: %v", err)
	}
	for range 3 {
		_, err := c.DescribeReplicationGroups(t.Context(), &elasticache.DescribeReplicationGroupsInput{})
		expectCode(t, err, "Throttling")
	}
	c.player.ClearFaults()
	c.await(t, "cache", "available")
	calls := c.player.Calls("CreateReplicationGroup")
	if len(calls) != 4 || calls[0].Code != "ClusterQuotaForCustomerExceeded" || calls[3].Code != "" || calls[3].ID != "cache" || !calls[3].Mutating() {
		t.Errorf("the calls are %+v", calls)
	}
	for _, call := range c.player.Calls() {
		for name, value := range call.Parameters {
			if strings.Contains(value, oldToken) || name == "AuthToken" && value != "***" {
				t.Errorf("the log has the token as %s", name)
			}
		}
	}
}

func TestCreationFails(t *testing.T) {
	c := start(t, quick())
	c.player.Inject(awsplayer.Fault{Action: "CreateReplicationGroup", ID: "cache", Code: awsplayer.CreateFailed})
	if _, err := c.CreateReplicationGroup(t.Context(), request("cache")); err != nil {
		t.Fatal(err)
	}
	if g := c.await(t, "cache", "create-failed"); g.NodeGroups[0].PrimaryEndpoint != nil {
		t.Errorf("the group is %+v", g)
	}
	if !contains(c.events(t, types.SourceTypeReplicationGroup, "cache"), "failed to create") {
		t.Error("the failure has no event")
	}
	if _, err := c.DeleteReplicationGroup(t.Context(), &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: aws.String("cache")}); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, limit, "the group is not deleted", func() bool { return c.describe(t, "cache") == nil })
	c.create(t, request("cache"))
}

func TestModificationIsRolledBack(t *testing.T) {
	c := start(t, quick())
	c.create(t, request("cache"))
	c.player.Inject(awsplayer.Fault{Action: "ModifyReplicationGroup", ID: "cache", Code: awsplayer.RolledBack})
	g := c.modify(t, &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), CacheNodeType: aws.String("cache.t3.small")})
	if *g.CacheNodeType != "cache.t3.micro" || !contains(c.events(t, types.SourceTypeReplicationGroup, "cache"), "rolled back") {
		t.Errorf("the group is %+v", g)
	}
	if g := c.modify(t, &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), CacheNodeType: aws.String("cache.t3.small")}); *g.CacheNodeType != "cache.t3.small" {
		t.Errorf("the group is %+v", g)
	}
	c.player.Inject(awsplayer.Fault{Action: "IncreaseReplicaCount", Code: awsplayer.RolledBack})
	if _, err := c.IncreaseReplicaCount(t.Context(), &elasticache.IncreaseReplicaCountInput{ReplicationGroupId: aws.String("cache"), NewReplicaCount: aws.Int32(2), ApplyImmediately: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if g := c.await(t, "cache", "available"); len(g.MemberClusters) != 2 {
		t.Errorf("the nodes are %v", g.MemberClusters)
	}
}

func TestHeldOperationEndsOnComplete(t *testing.T) {
	o := quick()
	o.Hold = true
	c := start(t, o)
	if _, err := c.CreateReplicationGroup(t.Context(), request("cache")); err != nil {
		t.Fatal(err)
	}
	if g := c.describe(t, "cache"); *g.Status != "creating" {
		t.Errorf("the held group is %s", *g.Status)
	}
	for _, id := range []string{"cache", "nosuch"} {
		if err := c.player.Complete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if g := c.describe(t, "cache"); *g.Status != "available" {
		t.Errorf("the completed group is %s", *g.Status)
	}
	if _, err := c.ModifyReplicationGroup(t.Context(), &elasticache.ModifyReplicationGroupInput{
		ReplicationGroupId: aws.String("cache"), ApplyImmediately: aws.Bool(true), CacheNodeType: aws.String("cache.t3.small"),
	}); err != nil {
		t.Fatal(err)
	}
	if g := c.describe(t, "cache"); *g.Status != "modifying" || *g.CacheNodeType == "cache.t3.small" {
		t.Errorf("the held modification has %s nodes and is %s", *g.CacheNodeType, *g.Status)
	}
}
