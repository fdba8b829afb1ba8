// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// deleteIt deletes the FlagCache.
func deleteIt(w *World) { w.user().deleteFlagCache() }

// expectMessage checks that the message of a condition contains a text.
func (s *story) expectMessage(kind, part string) {
	s.t.Helper()
	if c := s.condition(kind); !strings.Contains(c.Message, part) {
		s.t.Errorf("the message of %s is %q, it lacks %q", kind, c.Message, part)
	}
}

// expectGone checks that the FlagCache does not exist.
func (s *story) expectGone() {
	s.t.Helper()
	if o := find(s.api.now(flagCaches), name); o != nil {
		s.t.Errorf("the FlagCache exists: %s", s.condition(v1alpha1.ConditionReady).Message)
	}
}

// TestReconcilingLastsWhileAWSModifies verifies that Reconciling is True as long as ACK reports that AWS
// modifies the group, which takes longer than ACK's first syncs.
func TestReconcilingLastsWhileAWSModifies(t *testing.T) {
	s := aStory(t, createElastiCache)
	s.cloud.Timing.Operation = 3 * time.Minute
	s.do("request larger nodes", requestNodes("cache.t3.small"), tick)
	modifying := 0
	for range 300 {
		s.run(tick)
		for _, o := range s.api.now(replicationGroups) {
			if ack.GroupState(o.(*ack.ReplicationGroup)) == ack.GroupModifying {
				modifying++
				s.expect(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonModifying)
				s.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
			}
		}
	}
	if modifying < 10 {
		t.Errorf("AWS modified the group for %d events only", modifying)
	}
	s.expectReady()
}

// TestDeletionWithoutACK verifies that a deletion that waits for an ACK that does not work says so, whatever
// the deletion policy is.
func TestDeletionWithoutACK(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain, v1alpha1.DeletionSnapshot} {
		t.Run(string(policy), func(t *testing.T) {
			s := aStory(t, createInCloud(withDeletionPolicy(withElastiCache(aFlagCache()), policy)))
			s.do("stop ACK and delete the FlagCache", func(w *World) { w.cloud.stopped = true; deleteIt(w) }, 7*time.Minute)
			s.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting)
			s.expectMessage(v1alpha1.ConditionReady, "check that its elasticache-controller is running and watches this namespace")
			s.do("start ACK", func(w *World) { w.cloud.stopped = false }, 3*time.Minute)
			s.expectGone()
			expectGolden(t, "deletion-without-ack-"+strings.ToLower(string(policy))+".golden", s.lines)
		})
	}
}

// TestDeletionRefused verifies that a deletion that AWS refuses says why, and is requested again by
// reconcile-at.
func TestDeletionRefused(t *testing.T) {
	s := aStory(t, createElastiCache)
	s.do("delete the FlagCache, which AWS denies", func(w *World) {
		w.cloud.Refuse("DeleteReplicationGroup", "AccessDenied", "not authorized", -1)
		deleteIt(w)
	}, 20*time.Minute)
	s.expectMessage(v1alpha1.ConditionReady, "AWS refuses: AccessDenied: not authorized")
	s.do("AWS permits it, and the user requests a reconcile", func(w *World) { w.cloud.Permit(); reconcileNow("now")(w) }, 2*time.Minute)
	s.expectGone()
	expectGolden(t, "deletion-refused.golden", withoutRetries(s.lines))
}

// TestDeletedWhileCreating verifies that a group that AWS creates is deleted soon after that, and not
// when ACK's back-off is over.
func TestDeletedWhileCreating(t *testing.T) {
	s := aStory(t, createElastiCache, step{"take long", func(w *World) { w.cloud.Timing.Operation = 15 * time.Minute }})
	s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonProvisioning)
	s.do("delete the FlagCache", deleteIt, 9*time.Minute)
	s.cloud.Timing.Operation = cloudTiming.Operation
	s.expectMessage(v1alpha1.ConditionReady, "has status creating which is not valid for deletion")
	s.do("AWS has created the group", func(*World) {}, 4*time.Minute)
	s.expectGone()
	expectGolden(t, "deleted-while-creating.golden", withoutRetries(s.lines))
}

// TestMissingRole verifies that ACK's report that it has no role is one about permissions, for a group
// that is created, one that is in use and one that is deleted.
func TestMissingRole(t *testing.T) {
	const noRole = "CARM configmap not found. Next: give ACK a role"
	withoutRole := step{"remove the role", func(w *World) { w.cloud.RoleMissing = true }}
	s := aStory(t, createElastiCache, withoutRole)
	s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonAWSAccessDenied)
	s.expectMessage(v1alpha1.ConditionCacheProvisioned, noRole)
	s.do("give ACK a role", func(w *World) { w.cloud.RoleMissing = false }, 3*time.Minute)
	s.expectReady()
	s.do("remove the role and request larger nodes", func(w *World) { withoutRole.do(w); requestNodes("cache.t3.small")(w) }, 3*time.Minute)
	s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonAWSAccessDenied)
	s.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
	s.do("give ACK a role", func(w *World) { w.cloud.RoleMissing = false }, 3*time.Minute)
	s.expectReady()
	s.do("remove the role and delete the FlagCache", func(w *World) { withoutRole.do(w); deleteIt(w) }, 3*time.Minute)
	s.expectMessage(v1alpha1.ConditionReady, noRole)
	s.do("give ACK a role", func(w *World) { w.cloud.RoleMissing = false }, 3*time.Minute)
	s.expectGone()
	expectGolden(t, "missing-role.golden", s.lines)
}

// TestCreateFailedKeepsTheEvent verifies that AWS' event about a creation that failed is in the message
// after the group was deleted, too.
func TestCreateFailedKeepsTheEvent(t *testing.T) {
	s := newStory(t)
	s.do("create the FlagCache, which AWS fails", func(w *World) { w.cloud.FailCreations = 5; createElastiCache.do(w) }, 30*time.Minute)
	s.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonCreateRetriesExhausted)
	failures := 0
	for _, line := range s.lines {
		if strings.Contains(line, "CacheProvisioned False Create") {
			failures++
			if !strings.Contains(line, "(Replication group fc-shop-demo-") || !strings.Contains(line, " failed to create)") {
				t.Errorf("the event is missing: %s", line)
			}
		}
	}
	if failures < 6 {
		t.Errorf("there are %d messages about failures", failures)
	}
	s.do("request a reconcile", reconcileNow("now"), 3*time.Minute)
	s.expectReady()
	expectGolden(t, "create-failed.golden", s.lines)
}

// TestRotationThatWaitsIsShown verifies that a rotation that is due and cannot start is visible.
func TestRotationThatWaitsIsShown(t *testing.T) {
	s := aStory(t, createInCloud(withElastiCache(withCanary(20))))
	s.do("change the image", newImage("flag-service:v2").do, 20*tick)
	s.do("request a new token", requestRotation("today").do, 5*tick)
	const waits = "A new token is due, which waits until only one revision uses the cache"
	s.expectMessage(v1alpha1.ConditionCacheProvisioned, waits)
	s.run(20 * time.Minute)
	if !slices.ContainsFunc(s.lines, func(line string) bool {
		return strings.Contains(line, "Reconciling True RotationPending")
	}) {
		t.Errorf("Reconciling does not report it:\n%s", strings.Join(s.lines, "\n"))
	}
	s.expectReady()
	if !twoTokensAccepted(s.World) {
		t.Error("the token was not rotated")
	}
	if c := s.condition(v1alpha1.ConditionCacheProvisioned); strings.Contains(c.Message, "token") {
		t.Errorf("the message remains: %s", c.Message)
	}
	t.Run("behind a change that AWS refuses", func(t *testing.T) {
		s := aStory(t, createElastiCache)
		s.do("request larger nodes, which AWS denies", func(w *World) {
			w.cloud.Refuse("ModifyReplicationGroup", "AccessDenied", "not authorized", -1)
			requestNodes("cache.t3.small")(w)
		}, 2*time.Minute)
		s.do("request a new token", requestRotation("today").do, time.Minute)
		s.expectMessage(v1alpha1.ConditionCacheProvisioned, "A new token is due, which waits until AWS has carried out the last change of the cache")
	})
}

// TestLostGroupIsFound verifies that a group that was deleted in AWS is created again when probes fail for
// minutes, or when the user requests a reconcile, and not at ACK's next resync.
func TestLostGroupIsFound(t *testing.T) {
	ready := aStory(t, createElastiCache)
	lose := func(w *World) { w.cloud.DeleteGroups() }
	for what, find := range map[string]func(*story){
		"minutes": func(s *story) { s.do("delete the group in AWS", lose, 8*time.Minute) },
		"reconcile": func(s *story) {
			s.do("delete the group in AWS, and request a reconcile", func(w *World) { lose(w); reconcileNow("now")(w) }, 2*time.Minute)
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := ready.fork(t)
			s.events = nil
			find(s)
			s.expectReady()
			s.expect(v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
			if !slices.ContainsFunc(s.events, func(e string) bool { return strings.Contains(e, v1alpha1.ReasonRecreated) }) {
				t.Errorf("there is no event about it: %q", s.events)
			}
			expectGolden(t, "lost-group-found-by-"+what+".golden", s.lines)
		})
	}
}

// TestUnreachableGroupIsLeftAlone verifies that ACK is made to look for a group that exists and does not
// answer only once an hour.
func TestUnreachableGroupIsLeftAlone(t *testing.T) {
	s := aStory(t, createElastiCache)
	s.ignored = "S12 connection"
	for id, g := range s.cloud.Groups {
		g.Tokens = [2]string{"another", ""}
		g.PendingTokens = g.Tokens
		s.cloud.Groups[id] = g
	}
	s.do("change the token in AWS", func(*World) {}, 10*time.Minute)
	s.expect(v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, "WrongPassword")
	generation := s.api.now(replicationGroups)[0].GetGeneration()
	s.run(45 * time.Minute)
	if got := s.api.now(replicationGroups)[0].GetGeneration(); got != generation {
		t.Errorf("the spec was changed %d times", got-generation)
	}
	s.run(30 * time.Minute)
	if got := s.api.now(replicationGroups)[0].GetGeneration(); got != generation+1 {
		t.Errorf("the spec was changed %d times within an hour", got-generation)
	}
}
