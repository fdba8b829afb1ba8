// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
)

// probeUser is the name of the operator's user in a cache whose pods log in by IAM.
// ACK sends a password to AWS only with a user that it makes (elasticache-controller
// v1.8.0, populateUpdatePayload), so another password is another user.
func probeUser(fc *v1alpha1.FlagCache, password string) string {
	return "flagcache-probe-" + markOf(fc, password)
}

// An access string takes every right away and gives back those that are used: the
// names of commands, not categories, which grow with each version of the engine.
// Nothing here is for the login: AUTH and HELLO need no right. Whoever sends another
// command finds out by the test in test/access, which compares.

// serviceCommands are all that the flag service asks of Redis: the document is read
// with GETRANGE, which bounds it, and written and deleted in transactions that
// fail if somebody else wrote. There are no scripts, so no EVAL.
const serviceCommands = "+getrange +set +del +watch +unwatch +multi +exec +publish +subscribe +ping"

// serviceAccess is the least that the flag service needs: the two keys and the
// channel of its environment, and its commands. Both keys are read and written; a
// right to one of the two (%R~, %W~) would not do
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Clusters.RBAC.html).
func serviceAccess(environments []string) string {
	var keys, channels strings.Builder
	for _, environment := range environments {
		fmt.Fprintf(&keys, "~%s%s ~%s%s ", config.RedisKeyPrefix, environment, config.RedisLockPrefix, environment)
		fmt.Fprintf(&channels, "&%s%s ", config.RedisChannelPrefix, environment)
	}
	return "on " + keys.String() + "resetchannels " + channels.String() + "-@all " + serviceCommands
}

// environments whose flags are in the cache: the spec's, and those of revisions that
// use the cache still. While a change of the environment is on trial there are two.
func (c elastiCache) environments() []string {
	environments := []string{c.fc.Spec.Environment}
	for _, d := range c.users() {
		for _, variable := range d.Spec.Template.Spec.Containers[0].Env {
			if variable.Name == config.EnvEnvironment {
				environments = append(environments, variable.Value)
			}
		}
	}
	slices.Sort(environments)
	return slices.Compact(environments)
}

// probeAccess is the least that the probe needs: its own key.
func probeAccess(key string) string {
	return "on ~" + key + " resetchannels -@all +ping +set +get +info"
}

func (c elastiCache) userGroupID() string { return c.awsID() }

// iamUser is the flag service's user. For IAM a user's name is its ID
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html).
func (c elastiCache) iamUser() string { return c.awsID() }

// needUsers asks for the users and their group. A group of Redis OSS must have a user
// named default; ours can do nothing, so that nobody gets in without a name. One of
// Valkey needs none and takes no user without a password
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Clusters.RBAC.html).
// A group that there is has the users that it has until AWS has the others.
func (c elastiCache) needUsers(deps *dependencies) {
	users := []*ack.User{
		c.user("pods", c.iamUser(), c.iamUser(), serviceAccess(c.environments()), &ack.AuthenticationMode{Type: "iam"}),
		c.user("probe-"+c.tokenMark(), c.nameInAWS("p", c.id+"-"+c.tokenMark()), probeUser(c.fc, c.token()), probeAccess(probeKey(c.fc)), &ack.AuthenticationMode{
			Type: "password", Passwords: []ack.SecretKey{{Name: c.secretName(), Key: tokenKey}},
		}),
	}
	if c.spec.Engine == v1alpha1.EngineRedis {
		nobody := c.user("default", c.shortID("d"), "default", "off resetchannels -@all", nil)
		nobody.Spec.NoPasswordRequired = true
		users = append(users, nobody)
	}
	group := &ack.UserGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "UserGroup"},
		ObjectMeta: c.lastingMeta(c.name()),
		Spec:       ack.UserGroupSpec{UserGroupID: c.userGroupID(), Engine: strings.ToLower(string(c.spec.Engine)), Tags: c.tags()},
	}
	for _, user := range users {
		deps.need(c, user)
		group.Spec.UserIDs = append(group.Spec.UserIDs, user.Spec.UserID)
	}
	seen, ok := observed.Get[*ack.UserGroup](c.s, group.Name)
	if ok && slices.ContainsFunc(users, func(user *ack.User) bool { return !c.isThere(user) }) {
		group.Spec.UserIDs = seen.Spec.UserIDs
	}
	if deps.waiting == nil || c.group != nil || ok {
		deps.need(c, group)
	}
}

// shortID is the ID of a further user: one letter instead of the "fc" in front.
func (c elastiCache) shortID(letter string) string {
	return letter + strings.TrimPrefix(c.awsID(), "fc")
}

func (c elastiCache) user(role, id, name, access string, mode *ack.AuthenticationMode) *ack.User {
	return &ack.User{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "User"},
		ObjectMeta: c.lastingMeta(c.name() + "-" + role),
		Spec: ack.UserSpec{
			UserID: id, UserName: name, Engine: strings.ToLower(string(c.spec.Engine)),
			AccessString: access, AuthenticationMode: mode, Tags: c.tags(),
		},
	}
}

// serviceAccount carries the IAM role that the pods take on EKS
// (https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html).
func serviceAccount(fc *v1alpha1.FlagCache) *corev1.ServiceAccount {
	meta := observed.ChildMeta(fc, observed.ServiceName(fc), v1alpha1.ComponentService)
	meta.Annotations = map[string]string{"eks.amazonaws.com/role-arn": roleARN(fc)}
	return &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta}
}

// roleARN of the pods, "" where they need none.
func roleARN(fc *v1alpha1.FlagCache) string {
	if fc.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return ""
	}
	return fc.Spec.Cache.ElastiCache.Authentication.RoleARN
}
