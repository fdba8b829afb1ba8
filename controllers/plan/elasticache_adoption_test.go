// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// aRetainedCache is an account with the cache of a FlagCache that was deleted.
func aRetainedCache(t *testing.T, fc *v1alpha1.FlagCache) (*cloud, string) {
	fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
	earlier := aReadyCloud(t, fc)
	earlier.deleteFlagCache()
	return earlier, slices.Collect(maps.Keys(earlier.aws.Groups))[0]
}

// aSuccessor has the same spec as a FlagCache that was deleted, in the same account.
func aSuccessor(earlier *cloud, fc *v1alpha1.FlagCache) *cloud {
	fc.UID = "uid-2"
	c := aCloud(earlier.t, fc)
	c.aws, c.now = earlier.aws, earlier.now
	return c
}

// adoptCache requests the adoption of a group.
func (c *cloud) adoptCache(id string) { c.annotateFlagCache(v1alpha1.AnnotationAdopt, id) }

// retag changes the tags of a group in AWS.
func (c *cloud) retag(id string, tags map[string]string) {
	g := c.aws.Groups[id]
	g.Spec.Tags = slices.Clone(g.Spec.Tags)
	for i, tag := range g.Spec.Tags {
		if value, ok := tags[*tag.Key]; ok {
			g.Spec.Tags[i] = &ack.Tag{Key: tag.Key, Value: ptr.To(value)}
		}
	}
	g.Pending.Tags = g.Spec.Tags
	c.aws.Groups[id] = g
}

// expectUntouched checks that AWS has the group as before.
func (c *cloud) expectUntouched(id string, before ackmodel.Group) {
	c.t.Helper()
	after, ok := c.aws.Groups[id]
	if !ok || observed.ToJSON(after.Spec) != observed.ToJSON(before.Spec) || after.Tokens != before.Tokens || after.State != before.State {
		c.t.Errorf("the group of another owner was changed from\n%+v to\n%+v", before, after)
	}
}

// A FlagCache takes over what its predecessor of the same name left in AWS once the user
// requests it.
func TestSuccessorAdoptsRetainedCache(t *testing.T) {
	for name, fc := range map[string]func() *v1alpha1.FlagCache{
		"with everything": func() *v1alpha1.FlagCache { return withEverything(aFlagCache()) },
		"a group alone":   func() *v1alpha1.FlagCache { return withElastiCache(aFlagCache()) },
		"with users":      func() *v1alpha1.FlagCache { return withIAM(aFlagCache()) },
	} {
		for _, from := range []string{"the beginning", "the refusal"} {
			t.Run(name+" from "+from, func(t *testing.T) {
				earlier, id := aRetainedCache(t, fc())
				before := earlier.aws.Groups[id]
				c := aSuccessor(earlier, fc())
				c.fc.CreationTimestamp = metav1.NewTime(c.now.Add(-time.Hour))
				if from == "the refusal" {
					c.until("the refusal", c.hasReason(v1alpha1.ReasonAlreadyExists))
					c.runFor(10 * time.Minute)
					c.expect(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonAlreadyExists)
					if message := c.condition(v1alpha1.ConditionReady).Message; strings.Contains(message, v1alpha1.AnnotationAdopt) || strings.Contains(message, id) {
						t.Errorf("the message tells a tenant how to take the cache of another: %s", message)
					}
					c.expectUntouched(id, before)
					c.adoptCache("another")
					c.runFor(time.Minute)
					c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAlreadyExists)
				}
				c.adoptCache(id)
				c.until("Ready", c.ready)
				c.runFor(10 * time.Minute)
				c.expectOnlyGroup(id)
				c.expectSilence()
				if len(c.fc.Annotations) != 1 || c.group().Annotations[ack.AnnotationReadOnly] != "" {
					t.Errorf("the group is still inspected: %v", c.group().Annotations)
				}
				expectGolden(t, "adopted-"+strings.ReplaceAll(name+"-from-"+from, " ", "-")+".golden", strings.Join(c.trace, "\n")+"\n")
				c.deleteFlagCache()
				if len(c.aws.Groups) > 0 {
					t.Error("the adopted group is not deleted with its FlagCache")
				}
			})
		}
	}
}

// However a tenant gets at the ID of another's group, its tags refuse it, and nothing of it
// is changed or deleted, with any deletion policy.
func TestGroupsOfOthersAreNotAdopted(t *testing.T) {
	for tag, value := range map[string]string{"flagcache.dev/cluster": "cluster-2", "flagcache.dev/namespace": "bank", "flagcache.dev/name": "vault"} {
		for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain, v1alpha1.DeletionSnapshot} {
			t.Run(tag+" "+string(policy), func(t *testing.T) {
				earlier, id := aRetainedCache(t, withElastiCache(aFlagCache()))
				earlier.retag(id, map[string]string{tag: value})
				before := earlier.aws.Groups[id]
				fc := withElastiCache(aFlagCache())
				fc.Spec.DeletionPolicy = policy
				c := aSuccessor(earlier, fc)
				c.adoptCache(id)
				c.runFor(30 * time.Minute)
				c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAlreadyExists)
				c.expect(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonAlreadyExists)
				c.expectMessage(v1alpha1.ConditionReady, "flagcache.dev/cluster, flagcache.dev/namespace and flagcache.dev/name do not name this FlagCache")
				c.expectUntouched(id, before)
				c.expectSilence()
				c.annotateFlagCache(v1alpha1.AnnotationReconcileAt, "now")
				c.runFor(10 * time.Minute)
				c.expectUntouched(id, before)
				c.deleteFlagCache()
				c.expectUntouched(id, before)
			})
		}
	}
}

// The administrator permits what the tags do not.
func TestPolicyPermitsAdoption(t *testing.T) {
	earlier, id := aRetainedCache(t, withElastiCache(aFlagCache()))
	earlier.retag(id, map[string]string{"flagcache.dev/cluster": "cluster-2"})
	c := aSuccessor(earlier, withElastiCache(aFlagCache()))
	c.adoptCache(id)
	c.runFor(10 * time.Minute)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAlreadyExists)
	c.adoptionPermitted = true
	c.until("Ready", c.ready)
	c.runFor(10 * time.Minute)
	c.expectOnlyGroup(id)
	c.expectSilence()
}

// With the permission from the beginning a FlagCache takes a group whose ID is not its own,
// such as one of an earlier release, and keeps it without.
func TestPolicyPermitsAdoptionOfAnotherID(t *testing.T) {
	old := anOldCloud(t, withElastiCache(aFlagCache()))
	old.until("Ready", old.ready)
	old.edit(func(s *v1alpha1.FlagCacheSpec) { s.DeletionPolicy = v1alpha1.DeletionRetain })
	old.runFor(time.Minute)
	old.downgrade()
	old.fc.Status.Operator = "flagcache-system"
	id := shortID(old.fc)
	before := old.aws.Groups[id]
	before.Spec.Tags = slices.Clone(before.Spec.Tags)

	c := aSuccessor(old, withElastiCache(aFlagCache()))
	c.adoptCache(id)
	c.adoptionPermitted = true
	c.until("Ready", c.ready)
	c.adoptionPermitted = false
	c.runFor(10 * time.Minute)
	c.expectOnlyGroup(id)
	delete(c.fc.Annotations, v1alpha1.AnnotationAdopt)
	c.runFor(10 * time.Minute)
	c.expectOnlyGroup(id)
	c.expectSilence()
}

// A request to adopt that is withdrawn leaves the group as it is.
func TestAdoptionIsWithdrawn(t *testing.T) {
	earlier, id := aRetainedCache(t, withElastiCache(aFlagCache()))
	earlier.retag(id, map[string]string{"flagcache.dev/name": "vault"})
	before := earlier.aws.Groups[id]
	c := aSuccessor(earlier, withElastiCache(aFlagCache()))
	c.adoptCache(id)
	c.runFor(10 * time.Minute)
	delete(c.fc.Annotations, v1alpha1.AnnotationAdopt)
	c.runFor(10 * time.Minute)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAlreadyExists)
	if annotations := c.group().Annotations; annotations[ack.AnnotationReadOnly] != "" {
		t.Errorf("the group is still inspected: %v", annotations)
	}
	c.expectUntouched(id, before)
	c.expectSilence()
}

// Wherever the operator crashes during an adoption, the group is adopted, once.
func TestAdoptionSurvivesCrashes(t *testing.T) {
	earlier, id := aRetainedCache(t, withElastiCache(aFlagCache()))
	for at := range 12 {
		for crash := range 2 {
			c := aSuccessor(earlier, withElastiCache(aFlagCache()))
			c.aws = earlier.aws.Clone()
			c.adoptCache(id)
			c.runFor(time.Duration(at) * interval)
			c.crash = ptr.To(crash)
			c.until("Ready", c.ready)
			c.runFor(5 * time.Minute)
			c.expectOnlyGroup(id)
		}
	}
}
