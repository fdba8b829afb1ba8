// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
)

// withElastiCache has the smallest group, with the API server's defaults.
func withElastiCache(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Cache.Type = v1alpha1.CacheElastiCache
	fc.Spec.Cache.ElastiCache = &v1alpha1.ElastiCacheSpec{
		Engine: v1alpha1.EngineValkey, EngineVersion: "8.0", NodeType: "cache.t3.micro", Replicas: 1, MultiAZ: v1alpha1.Enabled,
		Authentication:    v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationToken},
		TransitEncryption: v1alpha1.TransitEncryptionRequired,
	}
	return fc
}

// object is the name of the objects of the cache in the spec.
func (w *world) object() string { return w.fc.Name + "-" + elasticache.Identity(w.fc) }

// group is the only ReplicationGroup.
func (w *world) group() *ack.ReplicationGroup {
	w.t.Helper()
	return mustFind[*ack.ReplicationGroup](w, w.object())
}

// What is reported follows from AWS, from the probe and from the pods, in this order.
func TestElastiCacheBecomesReady(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	reasons := map[string][]string{}
	for range 60 {
		c.tick()
		for _, kind := range []string{v1alpha1.ConditionCacheProvisioned, v1alpha1.ConditionConnectionReady} {
			reasons[kind] = slices.Compact(append(reasons[kind], c.condition(kind).Reason))
		}
	}
	want := map[string][]string{
		v1alpha1.ConditionCacheProvisioned: {v1alpha1.ReasonProvisioning, v1alpha1.ReasonVerifying, v1alpha1.ReasonProvisioned},
		v1alpha1.ConditionConnectionReady:  {v1alpha1.ReasonWaitingForCache, v1alpha1.ReasonPublishing, v1alpha1.ReasonPublished},
	}
	if d := cmp.Diff(want, reasons); d != "" {
		t.Errorf("the reasons are (-want +got):\n%s", d)
	}
	c.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	c.expectSilence()
	secret := mustFind[*corev1.Secret](c.world, "demo-connection")
	if uri := string(secret.Data["uri"]); !strings.HasPrefix(uri, "rediss://:") || !strings.Contains(uri, "master.fc-shop-demo-") {
		t.Errorf("the connection Secret has %q", uri)
	}
}

func everyKind() map[string]bool {
	kinds := map[string]bool{}
	for _, k := range ack.Kinds() {
		kinds[k.Kind] = true
	}
	return kinds
}
