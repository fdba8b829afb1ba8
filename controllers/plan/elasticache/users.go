// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/config"
)

// ProbeUser is the name of the operator's user in a cache whose pods log in by IAM.
// ACK sends a password to AWS only with a user that it creates
// (elasticache-controller v1.8.0, populateUpdatePayload), so another password is
// another user.
func ProbeUser(fc *v1alpha1.FlagCache, password secret.String) string {
	return "flagcache-probe-" + tokenMark(fc, password)
}

// An access string revokes every right and grants those that are used.

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
	return "on " + keys.String() + "resetchannels " + channels.String() + "-@all " + cache.ServiceCommands
}

// environments whose flags are in the cache: the spec's, and those of revisions that
// still use the cache. While a change of the environment is on trial there are two.
func environments(fc *v1alpha1.FlagCache, users []user) []string {
	environments := []string{fc.Spec.Environment}
	for _, u := range users {
		for _, variable := range u.deployment.Spec.Template.Spec.Containers[0].Env {
			if variable.Name == config.EnvEnvironment {
				environments = append(environments, variable.Value)
			}
		}
	}
	slices.Sort(environments)
	return slices.Compact(environments)
}

// probeAccess is the least that the operator needs: the key of its probe and, to publish flags,
// the keys and the channels of the environments.
func probeAccess(key string, environments []string) string {
	var keys, channels strings.Builder
	for _, environment := range environments {
		fmt.Fprintf(&keys, "~%s%s ", config.RedisKeyPrefix, environment)
		fmt.Fprintf(&channels, "&%s%s ", config.RedisChannelPrefix, environment)
	}
	return "on ~" + key + " " + keys.String() + "resetchannels " + channels.String() + "-@all " + cache.ProbeCommands
}

// users of the cache: the flag service's, the probe's and, for Redis OSS, default.
func (d desired) users(environments []string) []*ack.User {
	users := []*ack.User{
		d.user("pods", d.serviceUser(), d.serviceUser(), serviceAccess(environments), &ack.AuthenticationMode{Type: ptr.To("iam")}),
		d.user("probe-"+tokenMark(d.fc, d.token), d.probeUserID(d.token), ProbeUser(d.fc, d.token), probeAccess(cache.ProbeKey(d.fc), environments), &ack.AuthenticationMode{
			Type: ptr.To("password"), Passwords: []*ack.SecretKey{secretKey(d.secret(), TokenKey)},
		}),
	}
	if d.spec.Engine == v1alpha1.EngineRedis {
		nobody := d.user("default", d.defaultUser(), "default", "off resetchannels -@all", nil)
		nobody.Spec.NoPasswordRequired = ptr.To(true)
		users = append(users, nobody)
	}
	return users
}

func (d desired) user(role, id, name, access string, mode *ack.AuthenticationMode) *ack.User {
	return &ack.User{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "User"},
		ObjectMeta: d.retainableMeta(d.object() + "-" + role),
		Spec: ack.UserSpec{
			UserID: &id, UserName: &name, Engine: ptr.To(d.engine()),
			AccessString: &access, AuthenticationMode: mode, Tags: d.tags(),
		},
	}
}

func (d desired) renderUserGroup(users []*ack.User) *ack.UserGroup {
	group := &ack.UserGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "UserGroup"},
		ObjectMeta: d.retainableMeta(d.object()),
		Spec:       ack.UserGroupSpec{UserGroupID: ptr.To(d.userGroup()), Engine: ptr.To(d.engine()), Tags: d.tags()},
	}
	for _, user := range users {
		group.Spec.UserIDs = append(group.Spec.UserIDs, user.Spec.UserID)
	}
	return group
}

// secretKey refers to a key of a Secret in the object's own namespace.
func secretKey(secret, key string) *ack.SecretKey {
	return &ack.SecretKey{SecretReference: corev1.SecretReference{Name: secret}, Key: key}
}

// inOwnNamespace is a reference without a namespace, which FlagCache does not write.
func inOwnNamespace(key *ack.SecretKey) *ack.SecretKey {
	if key == nil {
		return nil
	}
	return secretKey(key.Name, key.Key)
}

// serviceAccount carries the IAM role that the pods assume on EKS
// (https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html).
func serviceAccount(fc *v1alpha1.FlagCache, roleARN string) *corev1.ServiceAccount {
	meta := observed.ChildMeta(fc, observed.ServiceName(fc), v1alpha1.ComponentService)
	meta.Annotations = map[string]string{"eks.amazonaws.com/role-arn": roleARN}
	return &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta}
}
