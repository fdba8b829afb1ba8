// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// evidenceScenarios: too little evidence, none, or evidence about something else.
func evidenceScenarios() map[string]scenario {
	quiet := func(policy v1alpha1.InconclusivePolicy, script func(*simulation, string)) scenario {
		return scenario{
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.OnInconclusive = policy },
			script: func(sim *simulation) {
				sim.perSecond = 1
				candidate := v2(sim)
				sim.note("there is hardly any traffic until the deadline")
				sim.runFor(62 * time.Minute)
				script(sim, candidate)
			},
		}
	}
	return map[string]scenario{
		"inconclusive-pause": quiet(v1alpha1.InconclusivePause, func(sim *simulation, candidate string) {
			sim.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonCanaryInconclusive)
			sim.annotate(v1alpha1.AnnotationResume, candidate)
			sim.perSecond = 200
			sim.until("the promotion", sim.promoted(candidate))
		}),
		"resume-is-followed-once": quiet(v1alpha1.InconclusivePause, func(sim *simulation, candidate string) {
			sim.annotate(v1alpha1.AnnotationResume, candidate)
			sim.runFor(70 * time.Minute)
			sim.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonCanaryInconclusive)
			sim.note("the annotation is removed and set again")
			delete(sim.fc.Annotations, v1alpha1.AnnotationResume)
			sim.tick()
			sim.annotate(v1alpha1.AnnotationResume, candidate)
			sim.perSecond = 200
			sim.until("the promotion", sim.promoted(candidate))
		}),
		"inconclusive-rollback": quiet(v1alpha1.InconclusiveRollback, func(sim *simulation, _ string) { sim.until("the rollback", sim.rolledBack) }),
		"inconclusive-promote":  quiet(v1alpha1.InconclusivePromote, func(sim *simulation, candidate string) { sim.until("the promotion", sim.promoted(candidate)) }),
		"no-evidence": {script: func(sim *simulation) {
			v2(sim)
			sim.note("the metrics are unavailable")
			sim.metricsDown = true
			sim.runFor(time.Minute)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "A part of the evidence is missing: no pod answers")
			sim.runFor(61 * time.Minute)
		}},
		"cache-unhealthy": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.runFor(time.Minute)
			sim.note("the shared cache fails, and with it the lookups of both revisions")
			sim.probe = observed.Probe{Health: observed.Unhealthy, Reason: "ConnectionRefused", Message: "refused"}
			sim.bad[candidate] = map[canary.Check]float64{canary.CacheHitRate: 1}
			sim.bad[sim.stable()] = map[canary.Check]float64{canary.CacheHitRate: 1}
			sim.runFor(15 * time.Minute)
			sim.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonCanaryHeld)
			sim.note("the cache recovers")
			sim.probe = observed.Probe{Health: observed.Healthy}
			clear(sim.bad)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"cache-down-as-the-candidate-starts": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.note("the cache is down, which only the candidate has noticed")
			sim.probe.At = sim.now
			sim.bad[candidate] = map[canary.Check]float64{canary.CacheHitRate: 1}
			sim.lookups = 10
			sim.runFor(30 * time.Second)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "Waiting for a probe of the cache")
			sim.note("a probe fails as well; the cache recovers before the next one")
			sim.probe.At, sim.probe.Failing = sim.now, true
			sim.runFor(10 * time.Second)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "did not answer")
			clear(sim.bad)
			sim.probe.At, sim.probe.Failing = sim.now, false
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"breach-hit-rate-while-the-cache-answers": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.probe.At = sim.now
			sim.lookups = 10
			sim.setBad(candidate, canary.CacheHitRate, 1)
			sim.runFor(30 * time.Second)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "Waiting for a probe of the cache")
			sim.note("a probe succeeds")
			sim.probe.At = sim.now
			sim.until("the rollback", sim.rolledBack)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "cacheHitRate")
		}},
		"stable-is-no-better": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.note("both revisions fail at the same rate")
			sim.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 0.05}
			sim.bad[sim.stable()] = map[canary.Check]float64{canary.ErrorRate: 0.05}
			sim.runFor(3 * time.Minute)
			sim.note("the cause is fixed")
			clear(sim.bad)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"stable-fails-too-but-the-candidate-is-worse": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 0.2}
			sim.bad[sim.stable()] = map[canary.Check]float64{canary.ErrorRate: 0.01}
			sim.until("the rollback", sim.rolledBack)
		}},
		"operator-down": {script: func(sim *simulation) {
			v2(sim)
			sim.note("the operator is down for three hours while traffic continues")
			sim.now = sim.now.Add(3 * time.Hour)
			sim.tick()
			sim.runFor(30 * time.Second)
			sim.note("the step takes its full duration")
			sim.until("the end of the step", func() bool { return sim.candidate() == "" })
		}},
		"clock-jumps": {script: func(sim *simulation) {
			candidate := v2(sim)
			for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour, -time.Second, 2 * time.Hour} {
				sim.note("the clock jumps by " + jump.String())
				sim.now = sim.now.Add(jump)
				sim.tick()
			}
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"late-evidence": {
			steps: []v1alpha1.CanaryStep{step(5, 5*time.Minute), step(25, time.Minute)},
			script: func(sim *simulation) {
				sim.lag = 3 * time.Minute
				candidate := v2(sim)
				sim.until("the second step", func() bool { return sim.weight() == 25 })
				sim.note("the step is shorter than the lag of the evidence")
				sim.runFor(3 * time.Minute)
				if l := sim.recordedState().Ledger; l.Candidate[canary.ErrorRate] != l.CandidateAtStep[canary.ErrorRate] {
					sim.t.Errorf("events of the first step count in the second")
				}
				sim.until("the promotion", sim.promoted(candidate))
			},
		},
		"late-evidence-of-a-breach": {script: func(sim *simulation) {
			sim.lag = 3 * time.Minute
			candidate := v2(sim)
			sim.runFor(4 * time.Minute)
			sim.setBad(candidate, canary.ErrorRate, 0.05)
			sim.until("the rollback", sim.rolledBack)
		}},
		"late-evidence-of-unavailable-pods": {script: func(sim *simulation) {
			sim.lag = 3 * time.Minute
			candidate := v2(sim)
			sim.runFor(5 * time.Minute)
			sim.podsStuck = true
			mustFind[*appsv1.Deployment](sim.world, "demo-"+candidate).Status.AvailableReplicas = 0
			sim.setBad(candidate, canary.ErrorRate, 1)
			sim.runFor(2 * time.Minute)
			sim.note("the pods recover before the evidence of that time arrives")
			sim.podsStuck = false
			clear(sim.bad)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"source-changes": {script: func(sim *simulation) {
			sim.origin = "one"
			candidate := v2(sim)
			sim.runFor(9 * time.Minute)
			sim.note("another source takes over: it knows the same events, and none of them counts twice")
			sim.origin = "another"
			sim.tick()
			if n := sim.recordedState().Ledger.Candidate[canary.ErrorRate].Total; n != 0 {
				sim.t.Errorf("%d events of before are counted by the new source", n)
			}
			sim.runFor(9 * time.Minute)
			sim.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionTrue, v1alpha1.ReasonCanaryProgressing)
			if n := sim.recordedState().Ledger.Candidate[canary.ErrorRate].Total; n != 10*9*60 {
				sim.t.Errorf("%d events are counted in nine minutes of 10 a second", n)
			}
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"source-changes-after-a-wrong-query": {script: func(sim *simulation) {
			sim.origin = "one"
			candidate := v2(sim)
			sim.runFor(time.Minute)
			sim.note("a wrong query reports everything as an error, and is fixed before the next reconcile")
			sim.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 1}
			sim.now = sim.now.Add(interval)
			sim.countTraffic()
			clear(sim.bad)
			sim.origin = "another"
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"pods-restart-and-lose-their-counters": {script: func(sim *simulation) {
			candidate := v2(sim)
			for range 3 {
				sim.runFor(90 * time.Second)
				sim.note("all pods are replaced")
				sim.podGeneration++
				clear(sim.counted)
				sim.local = 0
			}
			sim.until("the promotion", sim.promoted(candidate))
		}},
	}
}
