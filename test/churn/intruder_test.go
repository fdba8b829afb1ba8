// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

const (
	hugeFlagsName = "huge"
	silentName    = "silent"
	silentPort    = 9090
	// maxSilent is how many canaries on silent servers there are at most.
	maxSilent = 32
	// hugeFlags and hugeComparisons make a document of almost 1 MiB.
	hugeFlags, hugeComparisons = 13_000, 380
)

// intruder is the hostile tenant.
type intruder struct {
	*editor
	tenant *tenant
	// changes counts the changes of the huge flags.
	changes int
	// started are the FlagCaches whose canaries were started.
	started map[string]bool
}

// invade creates the hostile tenant's FlagCaches: half of them have canaries on a server that
// never responds, some have flags that cost much to validate, some have pods with harmful
// metrics, and the others are as those of the teams.
func (i *intruder) invade(n int) {
	i.t.Helper()
	t := i.tenant
	i.create(i.hugeFlags(), t.deployment(silentName, corev1.Container{Name: silentName, Image: imageHostile}), t.service(silentName, silentName, silentPort))
	silent := min(maxSilent, max(4, n/2))
	for k := range silent {
		i.createHostile(fmt.Sprintf("silent-%d", k), i.silentCanary)
	}
	for k := range max(1, n/15) {
		i.createHostile(fmt.Sprintf("huge-%d", k), func(spec *v1alpha1.FlagCacheSpec) { spec.Flags.ConfigMap.Name = hugeFlagsName })
		for _, metrics := range []string{"families", "endless"} {
			i.createHostile(fmt.Sprintf("%s-%d", metrics, k), i.harmfulMetrics(metrics))
		}
	}
	for range max(0, n-i.watch.count(t.namespace)) {
		i.createFlagCache(t, simulated)
	}
}

// createHostile creates a FlagCache that nobody waits for.
func (i *intruder) createHostile(name string, with func(*v1alpha1.FlagCacheSpec)) {
	i.t.Helper()
	fc := i.tenant.flagCache(simulated)
	fc.Name = name
	with(&fc.Spec)
	i.create(fc)
}

// canary is one that lasts longer than the test, with a sample in each second.
func (i *intruder) canary() *v1alpha1.CanarySpec {
	return &v1alpha1.CanarySpec{
		Steps:   []v1alpha1.CanaryStep{{Weight: 5, Duration: metav1.Duration{Duration: time.Hour}}},
		Metrics: v1alpha1.MetricsSpec{Type: v1alpha1.MetricsPods, Interval: metav1.Duration{Duration: time.Second}},
	}
}

func (i *intruder) silentCanary(spec *v1alpha1.FlagCacheSpec) {
	spec.Canary = i.canary()
	spec.Canary.Metrics.Type = v1alpha1.MetricsPrometheus
	spec.Canary.Metrics.Prometheus = &v1alpha1.PrometheusSpec{
		Address: fmt.Sprintf("http://%s.%s.svc.cluster.local:%d", silentName, i.tenant.namespace, silentPort),
	}
}

func (i *intruder) harmfulMetrics(kind string) func(*v1alpha1.FlagCacheSpec) {
	return func(spec *v1alpha1.FlagCacheSpec) {
		spec.Canary = i.canary()
		spec.Service.Image = imageHostile
		spec.Service.NodeSelector, spec.Service.Tolerations = nil, nil
		spec.Service.Env = []v1alpha1.EnvVar{{Name: "METRICS", Value: kind}}
	}
}

// hugeFlags share an evaluator, so that a document of 1 MiB has millions of nodes if it is
// expanded. Each change makes another document, which has to be validated again.
func (i *intruder) hugeFlags() *corev1.ConfigMap {
	var text strings.Builder
	text.WriteString(`{"$evaluators":{"e":{"or":[`)
	for k := range hugeComparisons {
		if k > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `{"==":[{"var":"a"},%d]}`, k)
	}
	text.WriteString(`]}},"flags":{`)
	for k := range hugeFlags {
		if k > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `"f%d":{"state":"ENABLED","variants":{"a":%d},"targeting":{"$ref":"e"}}`, k, i.changes)
	}
	text.WriteString(`}}`)
	return &corev1.ConfigMap{ObjectMeta: i.tenant.meta(hugeFlagsName), Data: map[string]string{"flags.json": text.String()}}
}

// attackInterval is the time between two changes of the huge flags.
const attackInterval = 2 * time.Second

// run attacks until ctx is done: it starts canaries on what became Ready, and changes the huge
// flags so that they are validated again.
func (i *intruder) run(ctx context.Context) {
	ticks := time.NewTicker(attackInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			i.changeHugeFlags(ctx)
			i.startCanaries(ctx)
		}
	}
}

// startCanaries changes the FlagCaches with canaries that are Ready, once. Errors are of no
// interest: others follow.
func (i *intruder) startCanaries(ctx context.Context) {
	for _, fc := range i.watch.idle(i.tenant.namespace) {
		if i.started[fc.Name] || len(fc.Spec.Canary.Steps) == 0 || !settled(fc) {
			continue
		}
		fc.Spec.Service.Env = append(fc.Spec.Service.Env, v1alpha1.EnvVar{Name: "RELEASE", Value: "2"})
		i.started[fc.Name] = i.Client.Update(ctx, fc) == nil
	}
}

func (i *intruder) changeHugeFlags(ctx context.Context) {
	i.changes++
	_ = i.Client.Update(ctx, i.hugeFlags()) // as above
}

// expectActive waits until each kind of attack does what it is meant to: the operator has read
// the huge flags, and evaluates canaries on the evidence of silent and of harmful servers.
func (i *intruder) expectActive() {
	i.t.Helper()
	i.await("waiting for the attacks", func(context.Context) (bool, error) {
		active := map[string]bool{}
		for _, fc := range i.watch.idle(i.tenant.namespace) {
			kind, _, _ := strings.Cut(fc.Name, "-")
			stepping := fc.Status.Canary != nil && fc.Status.Canary.Phase == v1alpha1.CanaryStepping
			if stepping || meta.IsStatusConditionFalse(fc.Status.Conditions, v1alpha1.ConditionFlagsValid) {
				active[kind] = true
			}
		}
		for _, kind := range []string{"silent", "huge", "families", "endless"} {
			if !active[kind] {
				return false, fmt.Errorf("no attack of kind %s is active", kind)
			}
		}
		return true, nil
	})
}
