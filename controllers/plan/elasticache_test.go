// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
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

// ackReports has ACK sync the group, one second after the previous sync.
func (w *world) ackReports(state string, ready bool) {
	w.t.Helper()
	w.now = w.now.Add(time.Second)
	at := metav1.NewTime(w.now)
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	g := w.group()
	g.Status.Status = &state
	g.Status.Conditions = []*ack.Condition{
		{Type: ack.ConditionSynced, Status: status, LastTransitionTime: &at},
		{Type: ack.ConditionReady, Status: status, LastTransitionTime: &at},
	}
	if state != ack.GroupCreating {
		g.Status.NodeGroups = []*ack.NodeGroup{{PrimaryEndpoint: &ack.Endpoint{Address: ptr.To("primary." + *g.Spec.ReplicationGroupID + ".example"), Port: ptr.To[int64](6379)}}}
		g.Status.MemberClusters = ack.Pointers(*g.Spec.ReplicationGroupID+"-001", *g.Spec.ReplicationGroupID+"-002")
	}
}

// nextProbeSucceeds has the probe of the next connection succeed.
func (w *world) nextProbeSucceeds() {
	w.t.Helper()
	p := w.reconcile()
	if p.ProbeNext == nil {
		w.t.Fatal("no connection is probed")
	}
	w.nextProbe = observed.Probe{Health: observed.Healthy, Of: p.ProbeNext.ID}
}

func TestElastiCacheBecomesReady(t *testing.T) {
	w := anEmptyWorld(t, withElastiCache(aFlagCache()))
	w.ack = everyKind()
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonProvisioning)
	w.reconcile()
	w.ackReports(ack.GroupCreating, false)
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonProvisioning)
	w.ackReports(ack.GroupAvailable, false)
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonProvisioning)
	w.ackReports(ack.GroupAvailable, true)
	w.reconcile()
	w.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonVerifying)
	w.nextProbeSucceeds()
	w.reconcile()
	w.expect(v1alpha1.ConditionConnectionReady, metav1.ConditionFalse, v1alpha1.ReasonPublishing)
	w.podsAvailable()
	w.probe = observed.Probe{Health: observed.Healthy}
	w.reconcile()
	w.reconcile()
	w.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	w.expectSilence()
	secret := mustFind[*corev1.Secret](w, "demo-connection")
	if uri := string(secret.Data["uri"]); !strings.HasPrefix(uri, "rediss://:") || !strings.Contains(uri, "primary.fc-shop-demo-") {
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
