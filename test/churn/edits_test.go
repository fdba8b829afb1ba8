// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

// trafficInterval is the time between two requests to a FlagCache with canaries.
const trafficInterval = 100 * time.Millisecond

// editor edits the FlagCaches of some tenants at random.
type editor struct {
	*rig
	watch   *readiness
	tenants []*tenant
	random  *rand.Rand
	// edits counts the edits.
	edits int
}

// The kinds of changes, as they are measured.
const (
	kindCreate = "create"
	kindDelete = "delete"
	kindEdit   = "edit"
	kindScale  = "scale"
)

// fill creates FlagCaches until each tenant has n.
func (e *editor) fill(n int) {
	e.t.Helper()
	for i := range n {
		for _, t := range e.tenants {
			e.createFlagCache(t, variantOf(i))
		}
	}
}

func (e *editor) createFlagCache(t *tenant, v variant) {
	e.t.Helper()
	fc := t.flagCache(v)
	e.watch.begin(keyOf(fc), kindCreate+" "+string(v), 1)
	e.create(fc)
	if v == tried {
		e.startTraffic(fc)
	}
}

// startTraffic sends requests to a FlagCache until the test ends, so that its canaries have
// evidence. Requests fail while it has no pods.
func (e *editor) startTraffic(fc *v1alpha1.FlagCache) {
	endpoint := cluster.Endpoint{URL: fmt.Sprintf("http://%s.%s.svc.cluster.local", fc.Name, fc.Namespace), HTTP: e.HTTPClient(false)}
	traffic := cluster.StartTraffic(endpoint, "colour", nil, trafficInterval)
	e.t.Cleanup(func() { traffic.Stop() })
}

// run makes an edit at each interval until ctx is done.
func (e *editor) run(ctx context.Context) {
	e.t.Helper()
	ticks := time.NewTicker(editInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			e.edit()
		}
	}
}

// edit makes one edit, of a FlagCache that completed the last one.
func (e *editor) edit() {
	e.t.Helper()
	e.edits++
	t := e.tenants[e.random.IntN(len(e.tenants))]
	idle := e.watch.idle(t.namespace)
	if len(idle) == 0 {
		return
	}
	fc := idle[e.random.IntN(len(idle))]
	v := variantNamed(fc.Name)
	switch n := e.random.IntN(100); {
	case n < 50:
		e.change(fc, kindEdit+" "+string(v), func(spec *v1alpha1.FlagCacheSpec) {
			spec.Service.Env = []v1alpha1.EnvVar{{Name: "RELEASE", Value: fmt.Sprint(e.edits)}}
		})
	case n < 65:
		replicas := 3 - *fc.Spec.Service.Replicas
		e.change(fc, kindScale+" "+string(v), func(spec *v1alpha1.FlagCacheSpec) { spec.Service.Replicas = ptr.To(replicas) })
	case n < 80:
		e.watch.begin(keyOf(fc), kindDelete+" "+string(v), 0)
		e.do("deleting a FlagCache", func(ctx context.Context) error {
			return client.IgnoreNotFound(e.Client.Delete(ctx, fc))
		})
		e.createFlagCache(t, v)
	case n < 90:
		e.deleteChild(fc)
	default:
		colour := []string{"blue", "red"}[e.random.IntN(2)]
		e.do("changing flags", func(ctx context.Context) error { return e.Client.Update(ctx, t.flags(colour)) })
	}
}

// change changes the spec of a FlagCache, which leads to its next generation. If the response
// of the API server was lost, the spec may already be as the change would make it.
func (e *editor) change(fc *v1alpha1.FlagCache, kind string, change func(*v1alpha1.FlagCacheSpec)) {
	e.t.Helper()
	e.do("changing a FlagCache", func(ctx context.Context) error {
		if err := e.Client.Get(ctx, keyOf(fc), fc); err != nil {
			return err
		}
		before := fc.DeepCopy()
		change(&fc.Spec)
		if equality.Semantic.DeepEqual(before.Spec, fc.Spec) {
			return nil
		}
		e.watch.begin(keyOf(fc), kind, fc.Generation+1)
		return e.Client.Update(ctx, fc)
	})
}

// deleteChild deletes a child of a FlagCache, which the operator restores.
func (e *editor) deleteChild(fc *v1alpha1.FlagCache) {
	e.t.Helper()
	child := []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &corev1.ConfigMap{}}[e.random.IntN(3)]
	e.do("deleting a child", func(ctx context.Context) error {
		return e.Client.DeleteAllOf(ctx, child, client.InNamespace(fc.Namespace),
			client.MatchingLabels{v1alpha1.LabelName: fc.Name}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	})
}
