// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// withIAM has pods log in with AWS credentials.
func withIAM(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	withElastiCache(fc).Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
	return fc
}

// ACK sends a password to AWS only with a user that it creates, so another password is
// another user.
func TestProbeGetsANewUserAfterItsPasswordChanged(t *testing.T) {
	for _, engine := range []v1alpha1.Engine{v1alpha1.EngineRedis, v1alpha1.EngineValkey} {
		for name, spoil := range map[string]func(*cloud){
			"lost":   func(c *cloud) { c.children = without(c.children, observed.Object(c.tokenSecret())) },
			"edited": func(c *cloud) { c.tokenSecret().Data[elasticache.TokenKey] = []byte("another-password") },
		} {
			t.Run(string(engine)+", "+name, func(t *testing.T) {
				fc := withIAM(aFlagCache())
				if engine == v1alpha1.EngineRedis {
					toRedis(fc.Spec.Cache.ElastiCache)
				}
				c := aReadyCloud(t, fc)
				users, group, revisions := len(c.aws.Users), c.group().Spec, len(c.index().Revisions)
				for range 2 {
					spoil(c)
					c.runFor(5 * time.Minute)
					c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
					c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
				}
				c.expectSilence()
				if members := c.aws.UserGroups[*group.UserGroupIDs[0]].Spec.UserIDs; len(members) != users-1 || len(c.aws.Users) != users {
					t.Errorf("the group has %v, AWS %v, and there were %d users", ack.Values(members), c.aws.Users, users)
				}
				if len(c.changedClasses) > 0 || len(c.index().Revisions) != revisions {
					t.Errorf("the group changed by %v; there are %d revisions", c.changedClasses, len(c.index().Revisions))
				}
				c.deleteFlagCache()
			})
		}
	}
}

// A FlagCache that was deleted and created again at once waits until AWS has deleted the
// users. Those of another owner are left as they are.
func TestUsersBeingDeletedAreAwaited(t *testing.T) {
	for name, age := range map[string]time.Duration{"created just now": 0, "created long ago": time.Hour} {
		t.Run(name, func(t *testing.T) {
			c := aCloud(t, withIAM(aFlagCache()))
			c.fc.CreationTimestamp = metav1.NewTime(c.now.Add(-age))
			pods := newID(c)
			c.aws.Users[pods] = ackmodel.User{Spec: ack.UserSpec{UserID: &pods, UserName: &pods, Engine: ptr.To("valkey"), AccessString: ptr.To("on")}}
			c.until("the refusal", c.hasReason(v1alpha1.ReasonAlreadyExists))
			c.runFor(2 * time.Minute)
			c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonAlreadyExists)
			delete(c.aws.Users, pods)
			if age > 0 {
				c.runFor(20 * time.Minute)
				c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonAlreadyExists)
				c.expectSilence()
				return
			}
			c.until("Ready", c.ready)
		})
	}
}

// Pods keep the credentials that they started with.
func TestAnotherRoleIsAnotherRevision(t *testing.T) {
	w := anEmptyWorld(t, withIAM(aFlagCache()))
	authentication := &w.fc.Spec.Cache.ElastiCache.Authentication
	seen := map[string]bool{}
	for _, role := range []string{"", "arn:aws:iam::111122223333:role/a", "arn:aws:iam::111122223333:role/b"} {
		authentication.RoleARN = role
		seen[revision.Render(w.index(), readRequest(w.index(), readHistory(w.index())).workload, "connection").Revision] = true
	}
	if len(seen) != 3 {
		t.Errorf("three roles make %d revisions", len(seen))
	}
}

// Pods may fetch AWS credentials only to log in with them.
func TestPodsMayFetchAWSCredentials(t *testing.T) {
	byIAM := connection.Connection{Host: "h", Port: 6379, TLS: true, Username: "fc-1", IAMCache: "fc-1"}
	byToken := connection.Connection{Host: "h", Port: 6379, TLS: true, Password: secret.New("token")}
	tests := map[string]struct {
		next connection.Connection
		// used is the connection of existing pods.
		used *connection.Connection
		want bool
	}{
		"a token":                          {next: byToken},
		"IAM":                              {next: byIAM, want: true},
		"a token, while pods still IAM":    {next: byToken, used: &byIAM, want: true},
		"a token, while pods have a token": {next: byToken, used: &byToken},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := anEmptyWorld(t, aFlagCache())
			if test.used != nil {
				for _, o := range connection.Desire(w.index(), test.used).Apply {
					w.put(o)
				}
			}
			policy := revision.NetworkPolicy(w.fc, connection.Desire(w.index(), &test.next), nil)
			if got := reaches(policy, 443) && reaches(policy, 80); got != test.want {
				t.Errorf("access is %t, want %t", got, test.want)
			}
		})
	}
}

func reaches(policy *networkingv1.NetworkPolicy, port int32) bool {
	for _, rule := range policy.Spec.Egress {
		for _, allowed := range rule.Ports {
			if allowed.Port.IntVal == port {
				return true
			}
		}
	}
	return false
}
