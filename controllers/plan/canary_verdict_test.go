// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// verdictScenarios: the events of the candidate decide.
func verdictScenarios() map[string]scenario {
	breach := func(check canary.Check, share float64) scenario {
		return scenario{script: func(sim *simulation) {
			sim.setBad(v2(sim), check, share)
			sim.until("the rollback", sim.rolledBack)
			sim.note("the stable revision serves all traffic, and nothing else changes")
			sim.runFor(time.Minute)
			sim.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRolledBack)
			sim.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRolledBack)
			sim.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, string(check))
		}}
	}
	return map[string]scenario{
		"promoted": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.until("the promotion", sim.promoted(candidate))
			sim.runFor(6 * time.Minute)
			sim.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		}},
		"promoted-in-three-steps": {
			steps: []v1alpha1.CanaryStep{step(5, 5*time.Minute), step(25, 2*time.Minute), step(50, time.Minute)},
			spec:  func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas = ptr.To[int32](8) },
			script: func(sim *simulation) {
				candidate := v2(sim)
				sim.until("the promotion", sim.promoted(candidate))
				sim.runFor(time.Minute)
			},
		},
		"breach-errors":        breach(canary.ErrorRate, 0.02),
		"breach-p95":           breach(canary.LatencyP95, 0.2),
		"breach-p99":           breach(canary.LatencyP99, 0.05),
		"breach-hit-rate":      breach(canary.CacheHitRate, 1),
		"barely-within-limits": {script: func(sim *simulation) { barelyWithin(sim) }},
		"breach-miss-latency": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.lookups = 20
			sim.setBad(candidate, canary.CacheHitRate, 0.15)
			sim.setBad(candidate, canary.MissLatencyP95, 0.9)
			sim.until("the rollback", sim.rolledBack)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "missLatencyP95")
		}},
		"breach-in-the-last-step": {
			steps: []v1alpha1.CanaryStep{step(5, 2*time.Minute), step(50, 2*time.Minute)},
			script: func(sim *simulation) {
				candidate := v2(sim)
				sim.until("the last step", func() bool { return sim.weight() == 50 })
				sim.setBad(candidate, canary.ErrorRate, 0.01)
				sim.until("the rollback", sim.rolledBack)
			},
		},
		"breach-while-promoting": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.until("the last step is passed", func() bool {
				sim.podsStuck = sim.podsStuck || sim.fc.Status.Canary.ObservedFor > 580
				return sim.fc.Status.Canary.Phase == v1alpha1.CanaryPromoting
			})
			sim.setBad(candidate, canary.ErrorRate, 0.05)
			sim.until("the rollback", sim.rolledBack)
		}},
		"strict": {
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.Strict = true },
			script: func(sim *simulation) {
				candidate := v2(sim)
				sim.note("the duration has passed, but the interval still extends beyond the limit")
				sim.runFor(11 * time.Minute)
				sim.note("more requests narrow it")
				sim.perSecond, sim.lookups = 2000, 20
				sim.until("the promotion", sim.promoted(candidate))
			},
		},
	}
}

func barelyWithin(sim *simulation) {
	candidate := v2(sim)
	sim.setBad(candidate, canary.ErrorRate, 0.0009)
	sim.setBad(candidate, canary.LatencyP95, 0.045)
	sim.setBad(candidate, canary.LatencyP99, 0.009)
	sim.until("the promotion", sim.promoted(candidate))
}

// byBlocks is a canary of half an hour, judged by blocks of a minute.
func byBlocks(script func(*simulation)) scenario {
	return scenario{
		steps:  []v1alpha1.CanaryStep{step(5, 30*time.Minute)},
		spec:   inBlocks,
		script: script,
	}
}

func inBlocks(s *v1alpha1.FlagCacheSpec) {
	s.Canary.Blocks = &v1alpha1.BlocksSpec{Duration: metav1.Duration{Duration: time.Minute}, Minimum: 5}
}

// blockScenarios: failures come in bursts, and events are judged by the minute.
func blockScenarios() map[string]scenario {
	// One burst in which 15 of 100 requests fail, in half an hour with 18,000: that is
	// within the limit of 0.1 %.
	burst := func(sim *simulation) (candidate string) {
		candidate = v2(sim)
		sim.runFor(2 * time.Minute)
		sim.burst(candidate, 0.15)
		return candidate
	}
	return map[string]scenario{
		"burst-by-events": {
			steps: []v1alpha1.CanaryStep{step(5, 30*time.Minute)},
			script: func(sim *simulation) {
				burst(sim)
				sim.until("the rollback", sim.rolledBack)
			},
		},
		"burst-by-blocks": byBlocks(func(sim *simulation) {
			candidate := burst(sim)
			sim.until("the promotion", sim.promoted(candidate))
		}),
		"bursts-in-every-block": byBlocks(func(sim *simulation) {
			candidate := v2(sim)
			for range 2 {
				sim.burst(candidate, 0.3)
				sim.runFor(50 * time.Second)
			}
			sim.setBad(candidate, canary.ErrorRate, 0.3)
			sim.tick()
			clear(sim.bad)
			sim.until("the rollback", sim.rolledBack)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "errorRate: on average of", "blocks of 1m0s")
		}),
		"breach-by-blocks": byBlocks(func(sim *simulation) {
			sim.setBad(v2(sim), canary.ErrorRate, 0.01)
			sim.runFor(time.Minute)
			sim.noteBlocks()
			sim.until("the rollback", sim.rolledBack)
			sim.noteBlocks()
			sim.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		}),
		"blocks-are-too-few": {
			steps: []v1alpha1.CanaryStep{step(5, 2*time.Minute)}, spec: inBlocks,
			script: func(sim *simulation) {
				candidate := v2(sim)
				sim.note("the duration of the step has passed after two blocks")
				sim.runFor(3 * time.Minute)
				sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "Waiting for more evidence: errorRate, latencyP95, latencyP99")
				sim.until("the promotion", sim.promoted(candidate))
				sim.noteBlocks()
			},
		},
		"blocks-operator-restarts": byBlocks(func(sim *simulation) {
			candidate := v2(sim)
			sim.runFor(150 * time.Second)
			sim.noteBlocks()
			sim.note("the operator is down for twenty minutes, with a burst in between; it restarts without a sample")
			sim.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 0.15}
			sim.countTraffic()
			clear(sim.bad)
			for range 119 {
				sim.countTraffic()
			}
			sim.now = sim.now.Add(20 * time.Minute)
			sim.evidence = canary.Evidence{}
			sim.reconcileOnce()
			sim.noteBlocks()
			sim.tick()
			sim.noteBlocks()
			sim.note("events of the outage are in the open block, of which at most two intervals count as observed")
			sim.runFor(20 * time.Second)
			sim.noteBlocks()
			sim.until("the promotion", sim.promoted(candidate))
			sim.noteBlocks()
		}),
		"blocks-no-evidence": byBlocks(func(sim *simulation) {
			candidate := v2(sim)
			sim.runFor(150 * time.Second)
			sim.noteBlocks()
			sim.note("the metrics are unavailable for ten minutes: no block is completed")
			sim.metricsDown = true
			sim.runFor(10 * time.Minute)
			sim.noteBlocks()
			sim.metricsDown = false
			sim.until("the promotion", sim.promoted(candidate))
			sim.noteBlocks()
		}),
		"blocks-clock-jumps": byBlocks(func(sim *simulation) {
			candidate := v2(sim)
			for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour, -time.Second, 2 * time.Hour} {
				sim.note("the clock jumps by " + jump.String())
				sim.now = sim.now.Add(jump)
				sim.tick()
				sim.noteBlocks()
			}
			sim.until("the promotion", sim.promoted(candidate))
			sim.noteBlocks()
		}),
		"blocks-cache-unhealthy": byBlocks(func(sim *simulation) {
			candidate := v2(sim)
			sim.runFor(80 * time.Second)
			sim.noteBlocks()
			sim.note("the shared cache fails: events of that time are in no block")
			sim.probe = observed.Probe{Health: observed.Unhealthy, Reason: "ConnectionRefused", Message: "refused"}
			sim.bad[candidate] = map[canary.Check]float64{canary.CacheHitRate: 1}
			sim.bad[sim.stable()] = map[canary.Check]float64{canary.CacheHitRate: 1}
			sim.runFor(15 * time.Minute)
			sim.noteBlocks()
			sim.note("the cache recovers")
			sim.probe = observed.Probe{Health: observed.Healthy}
			clear(sim.bad)
			sim.until("the promotion", sim.promoted(candidate))
			sim.noteBlocks()
		}),
		"blocks-stable-is-no-better": byBlocks(func(sim *simulation) {
			candidate := v2(sim)
			sim.note("both revisions fail at the start of a block: it does not count")
			sim.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 1}
			sim.bad[sim.stable()] = map[canary.Check]float64{canary.ErrorRate: 1}
			sim.runFor(40 * time.Second)
			clear(sim.bad)
			sim.runFor(20 * time.Second)
			sim.noteBlocks()
			sim.until("the promotion", sim.promoted(candidate))
			sim.noteBlocks()
		}),
		"blocks-enabled-in-the-middle": {
			steps: []v1alpha1.CanaryStep{step(5, 10*time.Minute)},
			script: func(sim *simulation) {
				candidate := v2(sim)
				sim.runFor(8 * time.Minute)
				sim.note("five blocks are required from now on")
				sim.edit(inBlocks)
				sim.tick()
				sim.noteBlocks()
				sim.until("the promotion", sim.promoted(candidate))
				sim.noteBlocks()
			},
		},
	}
}
