// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/test/awsplayer"
	"github.com/flagcache/flagcache/test/awsplayer/sdk"
)

// limit bounds the time until something happens.
const limit = time.Minute

const (
	oldToken = "the-old-token-0123"
	newToken = "the-new-token-4567"
)

// client is the SDK's client of a player.
type client struct {
	*elasticache.Client
	player *awsplayer.Player
}

// start starts a player, which ends with the test. The test runs beside others.
func start(t *testing.T, o awsplayer.Options) client {
	t.Helper()
	t.Parallel()
	player, err := awsplayer.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- player.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return client{elasticache.NewFromConfig(sdk.Config(player.Endpoint())), player}
}

// quick are options with operations that take no time to speak of.
func quick() awsplayer.Options {
	const short = 20 * time.Millisecond
	return awsplayer.Options{CreateTime: short, ModifyTime: short, DeleteTime: short, SnapshotTime: short}
}

// request is the creation of a group of two nodes with a token.
func request(id string) *elasticache.CreateReplicationGroupInput {
	return &elasticache.CreateReplicationGroupInput{
		ReplicationGroupId: &id, ReplicationGroupDescription: aws.String("a cache"), Engine: aws.String("redis"), EngineVersion: aws.String("7.1"),
		CacheNodeType: aws.String("cache.t3.micro"), NumNodeGroups: aws.Int32(1), ReplicasPerNodeGroup: aws.Int32(1), AutomaticFailoverEnabled: aws.Bool(true),
		TransitEncryptionEnabled: aws.Bool(true), AtRestEncryptionEnabled: aws.Bool(true), AuthToken: aws.String(oldToken),
		SecurityGroupIds: []string{"sg-1"}, Tags: []types.Tag{{Key: aws.String("owner"), Value: aws.String("a")}},
	}
}

// describe returns a group, nil if it does not exist.
func (c client) describe(t *testing.T, id string) *types.ReplicationGroup {
	t.Helper()
	out, err := c.DescribeReplicationGroups(t.Context(), &elasticache.DescribeReplicationGroupsInput{ReplicationGroupId: &id})
	var missing *types.ReplicationGroupNotFoundFault
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &out.ReplicationGroups[0]
}

// await waits until a group has a status and returns it.
func (c client) await(t *testing.T, id, status string) *types.ReplicationGroup {
	t.Helper()
	var g *types.ReplicationGroup
	redistest.Eventually(t, limit, "group "+id+" does not become "+status, func() bool {
		g = c.describe(t, id)
		return g != nil && *g.Status == status
	})
	return g
}

// create creates a group and waits until it is available.
func (c client) create(t *testing.T, in *elasticache.CreateReplicationGroupInput) *types.ReplicationGroup {
	t.Helper()
	if _, err := c.CreateReplicationGroup(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return c.await(t, *in.ReplicationGroupId, "available")
}

// modify modifies a group and waits until it is available again.
func (c client) modify(t *testing.T, in *elasticache.ModifyReplicationGroupInput) *types.ReplicationGroup {
	t.Helper()
	in.ApplyImmediately = aws.Bool(true)
	if _, err := c.ModifyReplicationGroup(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return c.await(t, *in.ReplicationGroupId, "available")
}

// connect opens a connection to an endpoint.
func (c client) connect(t *testing.T, e *types.Endpoint, user, password string) *redis.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.player.CA())
	r := redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort(*e.Address, strconv.Itoa(int(*e.Port))), Username: user, Password: password,
		TLSConfig: &tls.Config{RootCAs: roots, ServerName: *e.Address, MinVersion: tls.VersionTLS12}, PoolSize: 1, MaxRetries: -1,
	})
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// accepts reports whether an endpoint accepts a user's password.
func (c client) accepts(t *testing.T, e *types.Endpoint, user, password string) bool {
	t.Helper()
	return c.connect(t, e, user, password).Ping(t.Context()).Err() == nil
}

// expectCode expects an error with a code of AWS.
func expectCode(t *testing.T, err error, code string) {
	t.Helper()
	var refused smithy.APIError
	if !errors.As(err, &refused) || refused.ErrorCode() != code {
		t.Errorf("the error is %v, want %s", err, code)
	}
}

func TestGroupLife(t *testing.T) {
	c := start(t, awsplayer.Options{})
	created, err := c.CreateReplicationGroup(t.Context(), request("Cache-1"))
	if err != nil {
		t.Fatal(err)
	}
	if g := created.ReplicationGroup; *g.ReplicationGroupId != "cache-1" || *g.Status != "creating" || g.NodeGroups[0].PrimaryEndpoint != nil || fmt.Sprint(g.MemberClusters) != "[cache-1-001 cache-1-002]" {
		t.Errorf("a new group is %+v", g)
	}
	_, err = c.CreateReplicationGroup(t.Context(), request("cache-1"))
	expectCode(t, err, "ReplicationGroupAlreadyExists")
	_, err = c.DeleteReplicationGroup(t.Context(), &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: aws.String("cache-1")})
	expectCode(t, err, "InvalidReplicationGroupState")

	g := c.await(t, "cache-1", "available")
	shard := g.NodeGroups[0]
	writer := c.connect(t, shard.PrimaryEndpoint, "", oldToken)
	if err := writer.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Error(err)
	}
	redistest.Eventually(t, limit, "the reader endpoint does not have the key", func() bool {
		return c.connect(t, shard.ReaderEndpoint, "", oldToken).Get(t.Context(), "key").Val() == "value"
	})
	if c.accepts(t, shard.PrimaryEndpoint, "", newToken) {
		t.Error("another token is accepted")
	}
	if err := writer.ConfigGet(t.Context(), "*").Err(); err == nil {
		t.Error("a command that ElastiCache does not offer is accepted")
	}
	if len(shard.NodeGroupMembers) != 2 || *shard.NodeGroupMembers[0].CurrentRole != "primary" || *shard.NodeGroupMembers[1].CurrentRole != "replica" {
		t.Errorf("the nodes are %+v", shard.NodeGroupMembers)
	}
	if g.AutomaticFailover != types.AutomaticFailoverStatusEnabled || !*g.AuthTokenEnabled || g.AuthTokenLastModifiedDate != nil || len(g.UserGroupIds) > 0 {
		t.Errorf("the group is %+v", g)
	}
	node, err := c.DescribeCacheClusters(t.Context(), &elasticache.DescribeCacheClustersInput{CacheClusterId: aws.String("cache-1-002")})
	if err != nil {
		t.Fatal(err)
	}
	if n := node.CacheClusters[0]; *n.EngineVersion != "7.1.0" || *n.CacheParameterGroup.CacheParameterGroupName != "default.redis7" || *n.SecurityGroups[0].SecurityGroupId != "sg-1" {
		t.Errorf("the node is %+v", n)
	}

	if _, err := c.DeleteReplicationGroup(t.Context(), &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: aws.String("cache-1")}); err != nil {
		t.Fatal(err)
	}
	if g := c.describe(t, "cache-1"); g == nil || *g.Status != "deleting" {
		t.Errorf("a deleted group is %+v", g)
	}
	redistest.Eventually(t, limit, "the group is not deleted", func() bool { return c.describe(t, "cache-1") == nil })
	if err := writer.Ping(t.Context()).Err(); err == nil {
		t.Error("a server of the deleted group runs")
	}
	if groups := c.player.Groups(); len(groups) > 0 {
		t.Errorf("the groups are %v", groups)
	}
}

func TestCallerIdentity(t *testing.T) {
	c := start(t, quick())
	identities := sts.NewFromConfig(sdk.Config(c.player.Endpoint()))
	who, err := identities.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *who.Account != "123456789012" || *who.Arn == "" {
		t.Errorf("the caller is %+v: %v", who, err)
	}
	role, err := identities.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::210987654321:role/caches"), RoleSessionName: aws.String("ack")})
	if err != nil || *role.AssumedRoleUser.Arn != "arn:aws:sts::210987654321:assumed-role/caches/ack" || *role.Credentials.SessionToken == "" || !role.Credentials.Expiration.After(time.Now()) {
		t.Errorf("the role is %+v: %v", role, err)
	}
	_, err = identities.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("caches"), RoleSessionName: aws.String("ack")})
	expectCode(t, err, "ValidationError")
}

func TestTokenRotation(t *testing.T) {
	c := start(t, quick())
	endpoint := c.create(t, request("cache")).NodeGroups[0].PrimaryEndpoint
	expect := func(when string, valid map[string]bool) {
		t.Helper()
		for token, want := range valid {
			if got := c.accepts(t, endpoint, "", token); got != want {
				t.Errorf("%s %q is accepted: %v", when, token, got)
			}
		}
	}
	started, err := c.ModifyReplicationGroup(t.Context(), &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), AuthToken: aws.String(newToken), ApplyImmediately: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	if g := started.ReplicationGroup; *g.Status != "modifying" || g.PendingModifiedValues.AuthTokenStatus != types.AuthTokenUpdateStatusRotating {
		t.Errorf("the group is %+v", g)
	}
	if g := c.await(t, "cache", "available"); g.AuthTokenLastModifiedDate == nil || g.PendingModifiedValues.AuthTokenStatus != "" {
		t.Errorf("the group is %+v", g)
	}
	expect("after ROTATE", map[string]bool{oldToken: true, newToken: true, "another-token-89": false})
	c.modify(t, &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), AuthToken: aws.String(newToken), AuthTokenUpdateStrategy: types.AuthTokenUpdateStrategyTypeSet})
	expect("after SET", map[string]bool{oldToken: false, newToken: true})
	c.modify(t, &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), AuthToken: aws.String("another-token-89")})
	c.modify(t, &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), AuthToken: aws.String("yet-another-token")})
	expect("after two ROTATEs", map[string]bool{newToken: false, "another-token-89": true, "yet-another-token": true})
}
