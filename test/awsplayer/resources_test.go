// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/service/redistest"
)

// ignoreSerde ignores the unexported fields of the SDK's types.
var ignoreSerde = cmp.FilterPath(func(p cmp.Path) bool {
	field, ok := p.Last().(cmp.StructField)
	return ok && field.Name() == "noSmithyDocumentSerde"
}, cmp.Ignore())

// events returns the messages of a resource's events.
func (c client) events(t *testing.T, source types.SourceType, id string) []string {
	t.Helper()
	out, err := c.DescribeEvents(t.Context(), &elasticache.DescribeEventsInput{SourceType: source, SourceIdentifier: &id, Duration: aws.Int32(20160), MaxRecords: aws.Int32(20)})
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	for _, e := range out.Events {
		messages = append(messages, *e.Message)
	}
	return messages
}

// user returns a user, nil if it does not exist.
func (c client) user(t *testing.T, id string) *types.User {
	t.Helper()
	out, err := c.DescribeUsers(t.Context(), &elasticache.DescribeUsersInput{UserId: &id})
	if err != nil {
		expectCode(t, err, "UserNotFound")
		return nil
	}
	return &out.Users[0]
}

// userGroup returns a user group, nil if it does not exist.
func (c client) userGroup(t *testing.T, id string) *types.UserGroup {
	t.Helper()
	out, err := c.DescribeUserGroups(t.Context(), &elasticache.DescribeUserGroupsInput{UserGroupId: &id})
	if err != nil {
		expectCode(t, err, "UserGroupNotFound")
		return nil
	}
	return &out.UserGroups[0]
}

func (c client) createUser(t *testing.T, id, name, access string, mode types.AuthenticationMode) {
	t.Helper()
	if _, err := c.CreateUser(t.Context(), &elasticache.CreateUserInput{UserId: &id, UserName: &name, Engine: aws.String("redis"), AccessString: &access, AuthenticationMode: &mode}); err != nil {
		t.Fatal(err)
	}
}

func (c client) awaitUserGroup(t *testing.T, id string) {
	t.Helper()
	redistest.Eventually(t, limit, "the user group is not active", func() bool { return *c.userGroup(t, id).Status == "active" })
}

func TestUsersOfAGroup(t *testing.T) {
	c := start(t, quick())
	const password, other = "a-password-of-the-app", "another-password-of-it"
	c.createUser(t, "nobody", "default", "off -@all", types.AuthenticationMode{Type: types.InputAuthenticationTypeNoPassword})
	c.createUser(t, "app", "app", "on ~app:* -@all +@read +@connection", types.AuthenticationMode{Type: types.InputAuthenticationTypePassword, Passwords: []string{password}})
	c.createUser(t, "pods", "pods", "on ~* +@all", types.AuthenticationMode{Type: types.InputAuthenticationTypeIam})
	app := c.user(t, "app")
	if *app.AccessString != "on ~app:* resetchannels -@all +@read +@connection" || *app.Status != "active" || app.Authentication.Type != types.AuthenticationTypePassword || *app.Authentication.PasswordCount != 1 {
		t.Errorf("the user is %+v", app)
	}
	if nobody := c.user(t, "nobody"); nobody.Authentication.Type != types.AuthenticationTypeNoPassword {
		t.Errorf("the user is %+v", nobody)
	}
	created, err := c.CreateUserGroup(t.Context(), &elasticache.CreateUserGroupInput{UserGroupId: aws.String("users"), Engine: aws.String("redis"), UserIds: []string{"nobody", "app"}})
	if err != nil {
		t.Fatal(err)
	}
	if *created.Status != "creating" {
		t.Errorf("a new user group is %s", *created.Status)
	}
	c.awaitUserGroup(t, "users")

	in := request("cache")
	in.AuthToken, in.UserGroupIds = nil, []string{"users"}
	g := c.create(t, in)
	endpoint := g.NodeGroups[0].PrimaryEndpoint
	if diff := cmp.Diff([]string{"users"}, g.UserGroupIds); diff != "" {
		t.Error(diff)
	}
	client := c.connect(t, endpoint, "app", password)
	if err := client.Get(t.Context(), "app:key").Err(); err == nil || err.Error() != "redis: nil" {
		t.Errorf("reading a key: %v", err)
	}
	if err := client.Set(t.Context(), "app:key", "value", 0).Err(); err == nil {
		t.Error("writing is permitted")
	}
	if c.accepts(t, endpoint, "default", "") || c.accepts(t, endpoint, "pods", "any") {
		t.Error("another user is accepted")
	}

	_, err = c.ModifyUser(t.Context(), &elasticache.ModifyUserInput{UserId: aws.String("app"), AccessString: aws.String("on ~app:* +@all"), Passwords: []string{password, other}})
	if err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, limit, "the user may not write", func() bool {
		return c.connect(t, endpoint, "app", other).Set(t.Context(), "app:key", "value", 0).Err() == nil
	})
	redistest.Eventually(t, limit, "the user is not active", func() bool { return *c.user(t, "app").Status == "active" })
	modified, err := c.ModifyUserGroup(t.Context(), &elasticache.ModifyUserGroupInput{UserGroupId: aws.String("users"), UserIdsToAdd: []string{"pods"}, UserIdsToRemove: []string{"app"}})
	if err != nil {
		t.Fatal(err)
	}
	if *modified.Status != "modifying" || !cmp.Equal(modified.PendingChanges.UserIdsToAdd, []string{"pods"}) || !cmp.Equal(modified.UserIds, []string{"nobody", "app"}) {
		t.Errorf("the user group is %+v", modified)
	}
	c.awaitUserGroup(t, "users")
	if members := c.userGroup(t, "users").UserIds; !cmp.Equal(members, []string{"nobody", "pods"}) {
		t.Errorf("the members are %v", members)
	}
	redistest.Eventually(t, limit, "the users have not changed", func() bool {
		return !c.accepts(t, endpoint, "app", password) && c.accepts(t, endpoint, "pods", "any")
	})

	_, err = c.DeleteUserGroup(t.Context(), &elasticache.DeleteUserGroupInput{UserGroupId: aws.String("users")})
	expectCode(t, err, "InvalidUserGroupState")
	if err := c.player.DeleteOutOfBand("cache"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteUserGroup(t.Context(), &elasticache.DeleteUserGroupInput{UserGroupId: aws.String("users")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteUser(t.Context(), &elasticache.DeleteUserInput{UserId: aws.String("app")}); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, limit, "the user and its group are not deleted", func() bool { return c.user(t, "app") == nil && c.userGroup(t, "users") == nil })
}

func TestTokenIsReplacedByUsers(t *testing.T) {
	c := start(t, quick())
	endpoint := c.create(t, request("cache")).NodeGroups[0].PrimaryEndpoint
	if _, err := c.CreateUserGroup(t.Context(), &elasticache.CreateUserGroupInput{UserGroupId: aws.String("users"), Engine: aws.String("redis"), UserIds: []string{"default"}}); err != nil {
		t.Fatal(err)
	}
	c.awaitUserGroup(t, "users")
	g := c.modify(t, &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("cache"), UserGroupIdsToAdd: []string{"users"}, AuthTokenUpdateStrategy: types.AuthTokenUpdateStrategyTypeDelete})
	if *g.AuthTokenEnabled || !cmp.Equal(g.UserGroupIds, []string{"users"}) || !c.accepts(t, endpoint, "default", "any") {
		t.Errorf("the group is %+v", g)
	}
}

func TestUsersAreRefused(t *testing.T) {
	c := start(t, quick())
	mode := func(kind types.InputAuthenticationType, passwords ...string) *types.AuthenticationMode {
		return &types.AuthenticationMode{Type: kind, Passwords: passwords}
	}
	for name, tt := range map[string]struct {
		id, name, access string
		mode             *types.AuthenticationMode
		code             string
	}{
		"no password":                    {"a", "a", "on ~* +@all", mode("password"), "InvalidParameterValue"},
		"three passwords":                {"a", "a", "on ~* +@all", mode("password", "0123456789abcdef", "1123456789abcdef", "2123456789abcdef"), "InvalidParameterValue"},
		"a short password":               {"a", "a", "on ~* +@all", mode("password", "short"), "InvalidParameterValue"},
		"a password that is not needed":  {"a", "a", "on ~* +@all", mode("no-password-required", "0123456789abcdef"), "InvalidParameterCombination"},
		"the type of the answers":        {"a", "a", "on ~* +@all", mode("no-password"), "InvalidParameterValue"},
		"another name of an IAM user":    {"a", "b", "on ~* +@all", mode("iam"), "InvalidParameterValue"},
		"an access string with password": {"a", "a", "on >0123456789abcdef ~* +@all", mode("iam"), "InvalidParameterValue"},
		"an ID in use":                   {"default", "default", "on ~* +@all", mode("no-password-required"), "UserAlreadyExists"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.CreateUser(t.Context(), &elasticache.CreateUserInput{UserId: &tt.id, UserName: &tt.name, Engine: aws.String("redis"), AccessString: &tt.access, AuthenticationMode: tt.mode})
			expectCode(t, err, tt.code)
		})
	}
	c.createUser(t, "app", "app", "on ~* +@all", types.AuthenticationMode{Type: types.InputAuthenticationTypeIam})
	c.createUser(t, "app2", "default", "on ~* +@all", types.AuthenticationMode{Type: types.InputAuthenticationTypeNoPassword})
	for members, code := range map[[2]string]string{
		{"app", "app"}:      "DuplicateUserName",
		{"app", "missing"}:  "UserNotFound",
		{"app2", "default"}: "DuplicateUserName",
		{"app"}:             "DefaultUserRequired",
	} {
		ids := members[:]
		if members[1] == "" {
			ids = members[:1]
		}
		_, err := c.CreateUserGroup(t.Context(), &elasticache.CreateUserGroupInput{UserGroupId: aws.String("users"), Engine: aws.String("redis"), UserIds: ids})
		expectCode(t, err, code)
	}
	_, err := c.DeleteUser(t.Context(), &elasticache.DeleteUserInput{UserId: aws.String("default")})
	expectCode(t, err, "InvalidParameterValue")
}

func TestSubnetGroups(t *testing.T) {
	c := start(t, quick())
	created, err := c.CreateCacheSubnetGroup(t.Context(), &elasticache.CreateCacheSubnetGroupInput{CacheSubnetGroupName: aws.String("net"), CacheSubnetGroupDescription: aws.String("a network"), SubnetIds: []string{"subnet-1", "subnet-2"}})
	if err != nil {
		t.Fatal(err)
	}
	if g := created.CacheSubnetGroup; len(g.Subnets) != 2 || *g.Subnets[1].SubnetIdentifier != "subnet-2" || *g.Subnets[1].SubnetAvailabilityZone.Name != "eu-west-1b" {
		t.Errorf("the subnet group is %+v", g)
	}
	_, err = c.CreateCacheSubnetGroup(t.Context(), &elasticache.CreateCacheSubnetGroupInput{CacheSubnetGroupName: aws.String("bad"), CacheSubnetGroupDescription: aws.String("a network"), SubnetIds: []string{"net-1"}})
	expectCode(t, err, "InvalidSubnet")
	if _, err := c.ModifyCacheSubnetGroup(t.Context(), &elasticache.ModifyCacheSubnetGroupInput{CacheSubnetGroupName: aws.String("net"), SubnetIds: []string{"subnet-3"}}); err != nil {
		t.Fatal(err)
	}
	in := request("cache")
	in.CacheSubnetGroupName = aws.String("net")
	c.create(t, in)
	_, err = c.DeleteCacheSubnetGroup(t.Context(), &elasticache.DeleteCacheSubnetGroupInput{CacheSubnetGroupName: aws.String("net")})
	expectCode(t, err, "CacheSubnetGroupInUse")
	if err := c.player.DeleteOutOfBand("cache"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteCacheSubnetGroup(t.Context(), &elasticache.DeleteCacheSubnetGroupInput{CacheSubnetGroupName: aws.String("net")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DescribeCacheSubnetGroups(t.Context(), &elasticache.DescribeCacheSubnetGroupsInput{CacheSubnetGroupName: aws.String("net")})
	expectCode(t, err, "CacheSubnetGroupNotFoundFault")
}

func TestParameterGroups(t *testing.T) {
	c := start(t, quick())
	name := aws.String("parameters")
	if _, err := c.CreateCacheParameterGroup(t.Context(), &elasticache.CreateCacheParameterGroupInput{CacheParameterGroupName: name, CacheParameterGroupFamily: aws.String("redis7"), Description: aws.String("some parameters")}); err != nil {
		t.Fatal(err)
	}
	modify := func(parameter, value string) error {
		_, err := c.ModifyCacheParameterGroup(t.Context(), &elasticache.ModifyCacheParameterGroupInput{CacheParameterGroupName: name, ParameterNameValues: []types.ParameterNameValue{{ParameterName: &parameter, ParameterValue: &value}}})
		return err
	}
	own := func() map[string]string {
		t.Helper()
		out, err := c.DescribeCacheParameters(t.Context(), &elasticache.DescribeCacheParametersInput{CacheParameterGroupName: name, Source: aws.String("user")})
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		for _, p := range out.Parameters {
			values[*p.ParameterName] = *p.ParameterValue
		}
		return values
	}
	for parameter, value := range map[string]string{"maxmemory-policy": "allkeys-lru", "timeout": "0", "slowlog-log-slower-than": "-1", "notify-keyspace-events": "Ex"} {
		if err := modify(parameter, value); err != nil {
			t.Error(err)
		}
	}
	for parameter, value := range map[string]string{"maxmemory-policy": "best", "timeout": "5", "maxmemory": "1", "no-such-parameter": "1", "databases": "many"} {
		expectCode(t, modify(parameter, value), "InvalidParameterValue")
	}
	if diff := cmp.Diff(map[string]string{"maxmemory-policy": "allkeys-lru", "timeout": "0", "slowlog-log-slower-than": "-1", "notify-keyspace-events": "Ex"}, own()); diff != "" {
		t.Error(diff)
	}
	all, err := c.DescribeCacheParameters(t.Context(), &elasticache.DescribeCacheParametersInput{CacheParameterGroupName: name})
	if err != nil || len(all.Parameters) < 15 {
		t.Errorf("the parameters are %+v: %v", all, err)
	}
	if _, err := c.ResetCacheParameterGroup(t.Context(), &elasticache.ResetCacheParameterGroupInput{CacheParameterGroupName: name, ParameterNameValues: []types.ParameterNameValue{{ParameterName: aws.String("timeout"), ParameterValue: aws.String("0")}}}); err != nil {
		t.Fatal(err)
	}
	if _, kept := own()["timeout"]; kept || len(own()) != 3 {
		t.Errorf("the parameters are %v", own())
	}
	if _, err := c.ResetCacheParameterGroup(t.Context(), &elasticache.ResetCacheParameterGroupInput{CacheParameterGroupName: name, ResetAllParameters: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if len(own()) != 0 {
		t.Errorf("the parameters are %v", own())
	}
	in := request("cache")
	in.CacheParameterGroupName = name
	c.create(t, in)
	_, err = c.DeleteCacheParameterGroup(t.Context(), &elasticache.DeleteCacheParameterGroupInput{CacheParameterGroupName: name})
	expectCode(t, err, "InvalidCacheParameterGroupState")
	_, err = c.DeleteCacheParameterGroup(t.Context(), &elasticache.DeleteCacheParameterGroupInput{CacheParameterGroupName: aws.String("default.redis7")})
	expectCode(t, err, "InvalidCacheParameterGroupState")
	if err := c.player.DeleteOutOfBand("cache"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteCacheParameterGroup(t.Context(), &elasticache.DeleteCacheParameterGroupInput{CacheParameterGroupName: name}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DescribeCacheParameterGroups(t.Context(), &elasticache.DescribeCacheParameterGroupsInput{CacheParameterGroupName: name})
	expectCode(t, err, "CacheParameterGroupNotFound")
}

func TestSnapshots(t *testing.T) {
	c := start(t, quick())
	c.create(t, request("cache"))
	_, err := c.CreateSnapshot(t.Context(), &elasticache.CreateSnapshotInput{SnapshotName: aws.String("backup"), ReplicationGroupId: aws.String("cache")})
	expectCode(t, err, "InvalidParameterCombination")
	created, err := c.CreateSnapshot(t.Context(), &elasticache.CreateSnapshotInput{SnapshotName: aws.String("backup"), CacheClusterId: aws.String("cache-002")})
	if err != nil {
		t.Fatal(err)
	}
	if s := created.Snapshot; *s.SnapshotStatus != "creating" || *s.ReplicationGroupId != "cache" || *s.EngineVersion != "7.1.0" || len(s.NodeSnapshots) != 1 {
		t.Errorf("the snapshot is %+v", s)
	}
	if g := c.describe(t, "cache"); *g.Status != "snapshotting" || *g.NodeGroups[0].Status != "available" {
		t.Errorf("the group is %s", *g.Status)
	}
	_, err = c.CreateSnapshot(t.Context(), &elasticache.CreateSnapshotInput{SnapshotName: aws.String("another"), CacheClusterId: aws.String("cache-002")})
	expectCode(t, err, "InvalidReplicationGroupState")
	c.await(t, "cache", "available")
	if _, err := c.CopySnapshot(t.Context(), &elasticache.CopySnapshotInput{SourceSnapshotName: aws.String("backup"), TargetSnapshotName: aws.String("copy")}); err != nil {
		t.Fatal(err)
	}
	status := func(name string) string {
		out, err := c.DescribeSnapshots(t.Context(), &elasticache.DescribeSnapshotsInput{SnapshotName: &name})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Snapshots) == 0 {
			return ""
		}
		return *out.Snapshots[0].SnapshotStatus
	}
	redistest.Eventually(t, limit, "the copy is not available", func() bool { return status("copy") == "available" })
	if diff := cmp.Diff([]string{"backup", "copy"}, c.player.Snapshots()); diff != "" {
		t.Error(diff)
	}
	in := request("restored")
	in.SnapshotName = aws.String("backup")
	c.create(t, in)
	if _, err := c.DeleteSnapshot(t.Context(), &elasticache.DeleteSnapshotInput{SnapshotName: aws.String("copy")}); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, limit, "the snapshot is not deleted", func() bool { return status("copy") == "" })
}

func TestTags(t *testing.T) {
	c := start(t, quick())
	arn := c.create(t, request("cache")).ARN
	expect := func(want map[string]string) {
		t.Helper()
		out, err := c.ListTagsForResource(t.Context(), &elasticache.ListTagsForResourceInput{ResourceName: arn})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, tag := range out.TagList {
			got[*tag.Key] = *tag.Value
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	expect(map[string]string{"owner": "a"})
	add := &elasticache.AddTagsToResourceInput{ResourceName: arn, Tags: []types.Tag{{Key: aws.String("owner"), Value: aws.String("b")}, {Key: aws.String("team"), Value: aws.String("c")}}}
	if _, err := c.AddTagsToResource(t.Context(), add); err != nil {
		t.Fatal(err)
	}
	_, err := c.AddTagsToResource(t.Context(), add)
	expectCode(t, err, "InvalidReplicationGroupState") // tags modify the group
	c.await(t, "cache", "available")
	expect(map[string]string{"owner": "b", "team": "c"})
	if _, err := c.RemoveTagsFromResource(t.Context(), &elasticache.RemoveTagsFromResourceInput{ResourceName: arn, TagKeys: []string{"owner"}}); err != nil {
		t.Fatal(err)
	}
	expect(map[string]string{"team": "c"})
	for name, code := range map[string]string{*arn + "2": "ReplicationGroupNotFoundFault", "cache": "InvalidARN"} {
		_, err := c.ListTagsForResource(t.Context(), &elasticache.ListTagsForResourceInput{ResourceName: &name})
		expectCode(t, err, code)
	}
}
