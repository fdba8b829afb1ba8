// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/config"
)

// AWS takes a group of Redis OSS only with a user named default, and one of Valkey
// only with users that have a password or IAM. The test in test/access compares what
// the users may do with what they do.
func TestUsersOfAUserGroup(t *testing.T) {
	tests := map[v1alpha1.Engine]struct {
		version string
		modes   map[string]string
	}{
		v1alpha1.EngineRedis:  {"7.1", map[string]string{"pods": "iam", "probe": "password", "default": "none"}},
		v1alpha1.EngineValkey: {"8.0", map[string]string{"pods": "iam", "probe": "password"}},
	}
	for engine, test := range tests {
		t.Run(string(engine), func(t *testing.T) {
			fc := aFlagCache()
			e := fc.Spec.Cache.ElastiCache
			e.Engine, e.EngineVersion, e.Authentication.Type = engine, test.version, v1alpha1.AuthenticationIAM
			d := desired{names: names{fc, Identity(fc), newID("cluster-1", fc)}, spec: e, token: secret.New("token")}
			deps := planDependencies(observed.NewIndex(observed.Snapshot{FlagCache: fc}), d, Observed{Group: &ack.ReplicationGroup{}})

			modes := map[string]string{}
			var ids []string
			for _, o := range deps.objects {
				user, ok := o.(*ack.User)
				if !ok {
					continue
				}
				id, name := *user.Spec.UserID, *user.Spec.UserName
				ids = append(ids, id)
				// By IAM only a user can log in whose name is its ID.
				switch name {
				case id:
					name = "pods"
				case ProbeUser(fc, secret.New("token")):
					name = "probe"
				}
				switch mode := user.Spec.AuthenticationMode; {
				case ack.Value(user.Spec.NoPasswordRequired) && mode == nil:
					modes[name] = "none"
				case mode != nil && *mode.Type != "no-password-required": // which ACK overwrites
					modes[name] = *mode.Type
				}
				if len(id) > 40 {
					t.Errorf("the ID %s is longer than AWS allows", id)
				}
			}
			if diff := cmp.Diff(test.modes, modes); diff != "" {
				t.Errorf("users (-want +got):\n%s", diff)
			}
			group := deps.objects[len(deps.objects)-1].(*ack.UserGroup)
			if diff := cmp.Diff(ids, ack.Values(group.Spec.UserIDs)); diff != "" {
				t.Errorf("the users (-) and those of the group (+) differ:\n%s", diff)
			}
		})
	}
}

// Pods of another revision keep the rights to their environment until they are
// deleted.
func TestRightsFollowTheEnvironmentsInUse(t *testing.T) {
	old := &appsv1.Deployment{}
	old.Spec.Template.Spec.Containers = []corev1.Container{{Env: []corev1.EnvVar{{Name: config.EnvEnvironment, Value: "default"}}}}
	fc := aFlagCache()
	fc.Spec.Environment = "next"
	const want = "on ~feature_flags:default ~feature_flags_lock:default ~feature_flags:next ~feature_flags_lock:next " +
		"resetchannels &feature_flags_changed:default &feature_flags_changed:next -@all " + cache.ServiceCommands
	if got := serviceAccess(environments(fc, []user{{deployment: old}})); got != want {
		t.Errorf("they are\n%s, not\n%s", got, want)
	}
}
