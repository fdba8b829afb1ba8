// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// shortID is the ID that releases with 32-bit hashes gave the cache.
func shortID(fc *v1alpha1.FlagCache) string { return "fc-shop-demo-" + elasticache.Identity(fc) }

// newID is the ID of a cache that does not exist yet.
func newID(c *cloud) string {
	secret := slices.IndexFunc(Make(c.snapshot()).Apply, func(o observed.Object) bool { return o.GetAnnotations()[v1alpha1.AnnotationAWSID] != "" })
	return Make(c.snapshot()).Apply[secret].GetAnnotations()[v1alpha1.AnnotationAWSID]
}

// anOldCloud has a FlagCache whose cache a release with short IDs has begun to create:
// its Secret is the first object, and has no record of the ID.
func anOldCloud(t *testing.T, fc *v1alpha1.FlagCache) *cloud {
	c := aCloud(t, fc)
	meta := observed.ChildMeta(fc, "demo-cache-"+elasticache.Identity(fc), v1alpha1.ComponentCache)
	meta.Labels[v1alpha1.LabelCache] = elasticache.Identity(fc)
	c.put(&corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta, Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{elasticache.TokenKey: []byte("old-token")},
	})
	return c
}

// downgrade removes what releases with short IDs did not write.
func (c *cloud) downgrade() {
	strip := func(o observed.Object) {
		annotations := o.GetAnnotations()
		delete(annotations, v1alpha1.AnnotationAWSID)
		o.SetAnnotations(annotations)
		if !ack.Is(o) {
			return
		}
		tags := specOf(o).FieldByName("Tags")
		kept := reflect.MakeSlice(tags.Type(), 0, tags.Len())
		for i := range tags.Len() {
			if !strings.Contains(observed.ToJSON(tags.Index(i).Interface()), "flagcache.dev/") {
				kept = reflect.Append(kept, tags.Index(i))
			}
		}
		tags.Set(kept)
	}
	for i, o := range c.children {
		c.children[i] = o.DeepCopyObject().(observed.Object)
		strip(c.children[i])
	}
	for key, o := range c.applied {
		c.applied[key] = o.DeepCopyObject().(observed.Object)
		strip(c.applied[key])
	}
	ours := func(t *ack.Tag) bool { return strings.HasPrefix(*t.Key, "flagcache.dev/") }
	for id, g := range c.aws.Groups {
		g.Spec.Tags = slices.DeleteFunc(slices.Clone(g.Spec.Tags), ours)
		g.Pending.Tags = slices.DeleteFunc(slices.Clone(g.Pending.Tags), ours)
		c.aws.Groups[id] = g
	}
	for uid, spec := range c.synced {
		spec.Tags = slices.DeleteFunc(slices.Clone(spec.Tags), ours)
		c.synced[uid] = spec
	}
}

// expectOnlyGroup checks that AWS has one group, with an ID and with tags that identify the
// FlagCache.
func (c *cloud) expectOnlyGroup(id string) {
	c.t.Helper()
	group, ok := c.aws.Groups[id]
	if !ok || len(c.aws.Groups) != 1 {
		c.t.Fatalf("AWS has %d groups, and %s: %v", len(c.aws.Groups), id, ok)
	}
	tags := map[string]string{}
	for _, t := range group.Spec.Tags {
		tags[*t.Key] = *t.Value
	}
	for key, want := range map[string]string{"flagcache.dev/cluster": "cluster-1", "flagcache.dev/namespace": "shop", "flagcache.dev/name": "demo"} {
		if tags[key] != want {
			c.t.Errorf("tag %s is %q, want %q", key, tags[key], want)
		}
	}
}

// An operator that is upgraded keeps the IDs of existing caches. Their groups get the new
// tags in place, and no pod is replaced.
func TestUpgradeKeepsShortIDs(t *testing.T) {
	for name, fc := range map[string]*v1alpha1.FlagCache{
		"with everything": withEverything(aFlagCache()),
		"with users":      withIAM(aFlagCache()),
	} {
		t.Run(name, func(t *testing.T) {
			c := anOldCloud(t, fc)
			others := len(c.aws.Users)
			c.until("Ready", c.ready)
			c.runFor(3 * time.Minute)
			c.downgrade()
			revision, users := c.fc.Status.Revisions.Stable, len(c.aws.Users)
			c.changedClasses, c.readyFlipped = nil, 0
			c.runFor(10 * time.Minute)
			c.expectOnlyGroup(shortID(c.fc))
			if !slices.Equal(c.changedClasses, []string{"tags"}) || c.readyFlipped > 0 || c.fc.Status.Revisions.Stable != revision || len(c.aws.Users) != users {
				t.Errorf("the upgrade changed %v, Ready flipped %d times, revision %s became %s, and %d users %d",
					c.changedClasses, c.readyFlipped, revision, c.fc.Status.Revisions.Stable, users, len(c.aws.Users))
			}
			c.expectSilence()
			c.deleteFlagCache()
			if len(c.aws.Groups) > 0 || len(c.aws.Users) > others {
				t.Errorf("the deletion leaves %d groups and %d users", len(c.aws.Groups), len(c.aws.Users))
			}
		})
	}
}

// However far the creation had got, and wherever the first reconcile after the upgrade
// crashes, there is one group, and it has one ID.
func TestUpgradeAtAnyTimeCreatesOneCache(t *testing.T) {
	for at := range 16 {
		for crash := range 3 {
			c := anOldCloud(t, withElastiCache(aFlagCache()))
			c.runFor(time.Duration(at) * interval)
			c.downgrade()
			c.crash = ptr.To(crash)
			c.until("Ready", c.ready)
			c.runFor(3 * time.Minute)
			c.expectOnlyGroup(shortID(c.fc))
			c.expectSilence()
		}
	}
}

// What is on record decides about the ID of a cache, wherever the record is left.
func TestIDIsKeptWithoutItsRecord(t *testing.T) {
	unmark := func(o observed.Object) {
		annotations := o.GetAnnotations()
		delete(annotations, v1alpha1.AnnotationAWSID)
		o.SetAnnotations(annotations)
	}
	for name, lose := range map[string]func(*cloud){
		"in the Secret":      func(c *cloud) { unmark(c.tokenSecret()) },
		"in the group":       func(c *cloud) { unmark(c.group()) },
		"with the Secret":    func(c *cloud) { c.children = without(c.children, observed.Object(c.tokenSecret())) },
		"of another cluster": func(c *cloud) { c.clusterID = "cluster-2" },
		"of any cluster":     func(c *cloud) { c.clusterID = "" },
	} {
		t.Run(name, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			id := *c.group().Spec.ReplicationGroupID
			lose(c)
			c.runFor(10 * time.Minute)
			if got := *c.group().Spec.ReplicationGroupID; got != id || len(c.aws.Groups) != 1 {
				t.Errorf("the ID %s became %s, and AWS has %d groups", id, got, len(c.aws.Groups))
			}
			c.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
			c.expectSilence()
		})
	}
}

// An operator that does not know its cluster says so, and creates nothing in AWS.
func TestUnidentifiedClusterIsReported(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	c.clusterID = ""
	c.runFor(10 * time.Minute)
	c.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonClusterUnidentified)
	c.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonClusterUnidentified)
	c.expectMessage(v1alpha1.ConditionReady, "--cluster-id")
	c.expectSilence()
	if len(c.aws.Groups) > 0 {
		t.Error("AWS has a group")
	}
	c.clusterID = "cluster-1"
	c.until("Ready", c.ready)
}

// Clusters that share an AWS account do not take each other's caches.
func TestClustersOfAnAccountHaveDifferentIDs(t *testing.T) {
	first := aReadyCloud(t, withElastiCache(aFlagCache()))
	second := aCloud(t, withElastiCache(aFlagCache()))
	second.clusterID, second.fc.UID = "cluster-2", "uid-2"
	second.aws, second.now = first.aws, first.now
	second.until("Ready", second.ready)
	if len(second.aws.Groups) != 2 {
		t.Errorf("AWS has %d groups, want one of each cluster", len(second.aws.Groups))
	}
}
