// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// A record that cannot be decoded is never taken for none: the cache is left as it is
// until somebody corrects or removes the annotation, and serves meanwhile.
func TestInvalidRecordLeavesTheCacheAsItIs(t *testing.T) {
	for annotation, holder := range map[string]func(*cloud) metav1.Object{
		v1alpha1.AnnotationChange:   func(c *cloud) metav1.Object { return c.group() },
		v1alpha1.AnnotationFailures: func(c *cloud) metav1.Object { return c.tokenSecret() },
		v1alpha1.AnnotationToken:    func(c *cloud) metav1.Object { return c.tokenSecret() },
	} {
		t.Run(annotation, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			holder(c).GetAnnotations()[annotation] = "{"
			token := c.token()
			c.annotateFlagCache(v1alpha1.AnnotationRotateToken, "1")
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.m5.large" })
			c.runFor(10 * time.Minute)
			c.expect(v1alpha1.ConditionCacheProvisioned, "Unknown", v1alpha1.ReasonInvalidRecord)
			c.expectMessage(v1alpha1.ConditionCacheProvisioned, annotation, "correct the annotation, or remove it")
			c.expect(v1alpha1.ConditionReady, "Unknown", v1alpha1.ReasonInvalidRecord)
			c.expect(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonInvalidRecord)
			c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
			c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
			if len(c.changedClasses) > 0 || c.token() != token || holder(c).GetAnnotations()[annotation] != "{" {
				t.Errorf("the group was changed by %v, the token is %s, was %s", c.changedClasses, c.token(), token)
			}
			c.expectSilence()
			delete(holder(c).GetAnnotations(), annotation)
			c.until("the rotation", c.rotated(token))
			c.runFor(10 * time.Minute)
			if _, aws := c.onlyGroup(); *aws.Spec.CacheNodeType != "cache.m5.large" {
				t.Errorf("AWS has nodes of type %s", *aws.Spec.CacheNodeType)
			}
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		})
	}
}

// A cache with an invalid record is deleted like every other.
func TestInvalidRecordDoesNotPreventDeletion(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.group().Annotations[v1alpha1.AnnotationChange] = "{"
	c.tokenSecret().Annotations[v1alpha1.AnnotationFailures] = "{"
	c.deleteFlagCache()
	if len(c.aws.Groups) > 0 {
		t.Errorf("AWS has %d groups", len(c.aws.Groups))
	}
}
