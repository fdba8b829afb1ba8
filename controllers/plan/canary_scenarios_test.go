// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"math"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// withCanary has one step, 5 % for ten minutes, unless there are others.
func withCanary(fc *v1alpha1.FlagCache, steps ...v1alpha1.CanaryStep) *v1alpha1.FlagCache {
	if len(steps) == 0 {
		steps = []v1alpha1.CanaryStep{step(5, 10*time.Minute)}
	}
	fc.Spec.Canary = &v1alpha1.CanarySpec{
		Steps:           steps,
		Traffic:         v1alpha1.TrafficSpec{Type: v1alpha1.TrafficSplit},
		Metrics:         v1alpha1.MetricsSpec{Type: v1alpha1.MetricsPods, Interval: metav1.Duration{Duration: interval}},
		Thresholds:      v1alpha1.ThresholdsSpec{ErrorRate: "0.1%", CacheHitRate: "80%"},
		Confidence:      "99%",
		MinimumRequests: 1000,
		Deadline:        metav1.Duration{Duration: time.Hour},
		OnInconclusive:  v1alpha1.InconclusivePause,
		ScaleDownDelay:  metav1.Duration{Duration: 5 * time.Minute},
	}
	return fc
}

func step(weight int32, duration time.Duration) v1alpha1.CanaryStep {
	return v1alpha1.CanaryStep{Weight: weight, Duration: metav1.Duration{Duration: duration}}
}

func fromImage(image string) func(*v1alpha1.FlagCacheSpec) {
	return func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = image }
}

// A scenario is a canary from its start to its end, with one line for each change of state.
func TestCanaryScenarios(t *testing.T) {
	for name, scenario := range canaryScenarios() {
		t.Run(name, func(t *testing.T) {
			fc := withCanary(aFlagCache(), scenario.steps...)
			if scenario.spec != nil {
				scenario.spec(&fc.Spec)
			}
			sim := newSimulation(t, fc)
			scenario.script(sim)
			expectGolden(t, "canary-"+name+".golden", strings.Join(sim.trace, "\n")+"\n")
		})
	}
}

// The verdict depends on the recorded counts alone: it can be recomputed from the record.
func TestVerdictIsRecomputedFromTheRecord(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache()))
	sim.change(fromImage("flag-service:v2"))
	sim.runFor(5 * time.Minute)
	trial := readHistory(sim.index()).records[sim.candidate()].Canary
	if d := math.Abs(float64(trial.Ledger.Candidate[canary.ErrorRate].Total) - 0.05*200*290); d > 300 {
		t.Errorf("%d requests were counted in five minutes of 10 a second", trial.Ledger.Candidate[canary.ErrorRate].Total)
	}
	repeated := trial.Judge()
	for i, c := range sim.fc.Status.Canary.Checks {
		if string(repeated[i].Verdict) != c.Verdict || percent(repeated[i].Limit) != c.Limit {
			t.Errorf("the record leads to %v, the status has %v", repeated[i], c)
		}
	}
}

// scenario is a script with the spec that it starts with.
type scenario struct {
	steps  []v1alpha1.CanaryStep
	spec   func(*v1alpha1.FlagCacheSpec)
	script func(*simulation)
}

// v2 brings a candidate, which is called B, to its first step.
func v2(sim *simulation) string {
	sim.change(fromImage("flag-service:v2"))
	candidate := sim.candidate()
	sim.until("the first step", func() bool { return sim.weight() > 0 })
	return candidate
}

func canaryScenarios() map[string]scenario {
	scenarios := map[string]scenario{}
	for _, group := range []map[string]scenario{verdictScenarios(), evidenceScenarios(), blockScenarios(), commandScenarios(), revisionScenarios(), podScenarios()} {
		for name, s := range group {
			scenarios[name] = s
		}
	}
	return scenarios
}
