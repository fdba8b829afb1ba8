// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

type film struct {
	steps  []v1alpha1.CanaryStep
	spec   func(*v1alpha1.FlagCacheSpec)
	script func(*theatre)
}

// v2 brings a candidate, which is called B, to its first step.
func v2(th *theatre) string {
	th.change(fromImage("flag-service:v2"))
	candidate := th.candidate()
	th.until("the first step", func() bool { return th.weight() > 0 })
	return candidate
}

func films() map[string]film {
	films := map[string]film{}
	for _, group := range []map[string]film{verdictFilms(), evidenceFilms(), blockFilms(), peopleFilms(), revisionFilms(), podFilms()} {
		for name, f := range group {
			films[name] = f
		}
	}
	return films
}

// verdictFilms: what the candidate does decides.
func verdictFilms() map[string]film {
	breach := func(check canary.Check, share float64) film {
		return film{script: func(th *theatre) {
			th.spoil(v2(th), check, share)
			th.until("the rollback", th.rolledBack)
			th.note("the stable revision serves, and nothing more happens")
			th.run(time.Minute)
			th.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRolledBack)
			th.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRolledBack)
			th.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, string(check))
		}}
	}
	return map[string]film{
		"promoted": {script: func(th *theatre) {
			candidate := v2(th)
			th.until("the promotion", th.promoted(candidate))
			th.run(6 * time.Minute)
			th.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		}},
		"promoted-in-three-steps": {
			steps: []v1alpha1.CanaryStep{step(5, 5*time.Minute), step(25, 2*time.Minute), step(50, time.Minute)},
			spec:  func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas = ptr.To[int32](8) },
			script: func(th *theatre) {
				candidate := v2(th)
				th.until("the promotion", th.promoted(candidate))
				th.run(time.Minute)
			},
		},
		"breach-errors":        breach(canary.ErrorRate, 0.02),
		"breach-p95":           breach(canary.LatencyP95, 0.2),
		"breach-p99":           breach(canary.LatencyP99, 0.05),
		"breach-hit-rate":      breach(canary.CacheHitRate, 1),
		"barely-within-limits": {script: func(th *theatre) { barelyWithin(th) }},
		"breach-miss-latency": {script: func(th *theatre) {
			candidate := v2(th)
			th.lookUps = 20
			th.spoil(candidate, canary.CacheHitRate, 0.15)
			th.spoil(candidate, canary.MissLatencyP95, 0.9)
			th.until("the rollback", th.rolledBack)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, "missLatencyP95")
		}},
		"breach-in-the-last-step": {
			steps: []v1alpha1.CanaryStep{step(5, 2*time.Minute), step(50, 2*time.Minute)},
			script: func(th *theatre) {
				candidate := v2(th)
				th.until("the last step", func() bool { return th.weight() == 50 })
				th.spoil(candidate, canary.ErrorRate, 0.01)
				th.until("the rollback", th.rolledBack)
			},
		},
		"breach-while-promoting": {script: func(th *theatre) {
			candidate := v2(th)
			th.until("the last step is passed", func() bool {
				th.lazy = th.lazy || th.fc.Status.Canary.ObservedFor > 580
				return th.fc.Status.Canary.Phase == v1alpha1.CanaryPromoting
			})
			th.spoil(candidate, canary.ErrorRate, 0.05)
			th.until("the rollback", th.rolledBack)
		}},
		"strict": {
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.Strict = true },
			script: func(th *theatre) {
				candidate := v2(th)
				th.note("the duration is over, the interval still reaches over the limit")
				th.run(11 * time.Minute)
				th.note("more requests make it narrow enough")
				th.perSecond, th.lookUps = 2000, 20
				th.until("the promotion", th.promoted(candidate))
			},
		},
	}
}

func barelyWithin(th *theatre) {
	candidate := v2(th)
	th.spoil(candidate, canary.ErrorRate, 0.0009)
	th.spoil(candidate, canary.LatencyP95, 0.045)
	th.spoil(candidate, canary.LatencyP99, 0.009)
	th.until("the promotion", th.promoted(candidate))
}

// evidenceFilms: too little of it, none of it, or evidence about something else.
func evidenceFilms() map[string]film {
	quiet := func(policy v1alpha1.InconclusivePolicy, script func(*theatre, string)) film {
		return film{
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.OnInconclusive = policy },
			script: func(th *theatre) {
				th.perSecond = 1
				candidate := v2(th)
				th.note("there is hardly any traffic until the deadline")
				th.run(62 * time.Minute)
				script(th, candidate)
			},
		}
	}
	return map[string]film{
		"inconclusive-pause": quiet(v1alpha1.InconclusivePause, func(th *theatre, candidate string) {
			th.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonCanaryInconclusive)
			th.annotate(v1alpha1.AnnotationResume, candidate)
			th.perSecond = 200
			th.until("the promotion", th.promoted(candidate))
		}),
		"resume-is-followed-once": quiet(v1alpha1.InconclusivePause, func(th *theatre, candidate string) {
			th.annotate(v1alpha1.AnnotationResume, candidate)
			th.run(70 * time.Minute)
			th.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonCanaryInconclusive)
			th.note("it is removed, and set again")
			delete(th.fc.Annotations, v1alpha1.AnnotationResume)
			th.look()
			th.annotate(v1alpha1.AnnotationResume, candidate)
			th.perSecond = 200
			th.until("the promotion", th.promoted(candidate))
		}),
		"inconclusive-rollback": quiet(v1alpha1.InconclusiveRollback, func(th *theatre, _ string) { th.until("the rollback", th.rolledBack) }),
		"inconclusive-promote":  quiet(v1alpha1.InconclusivePromote, func(th *theatre, candidate string) { th.until("the promotion", th.promoted(candidate)) }),
		"no-evidence": {script: func(th *theatre) {
			v2(th)
			th.note("the metrics cannot be had")
			th.blind = true
			th.run(time.Minute)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, "A part of the evidence is missing: no pod answers")
			th.run(61 * time.Minute)
		}},
		"cache-unhealthy": {script: func(th *theatre) {
			candidate := v2(th)
			th.run(time.Minute)
			th.note("the cache that both use fails, and with it the look-ups of both")
			th.probe = observed.Probe{Health: observed.Unhealthy, Reason: "ConnectionRefused", Message: "refused"}
			th.bad[candidate] = map[canary.Check]float64{canary.CacheHitRate: 1}
			th.bad[th.stable()] = map[canary.Check]float64{canary.CacheHitRate: 1}
			th.run(15 * time.Minute)
			th.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonCanaryHeld)
			th.note("and comes back")
			th.probe = observed.Probe{Health: observed.Healthy}
			clear(th.bad)
			th.until("the promotion", th.promoted(candidate))
		}},
		"cache-away-as-the-candidate-starts": {script: func(th *theatre) {
			candidate := v2(th)
			th.note("the cache is away, which the candidate alone noticed yet")
			th.probe.At = th.now
			th.bad[candidate] = map[canary.Check]float64{canary.CacheHitRate: 1}
			th.lookUps = 10
			th.run(30 * time.Second)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, "Waiting for a probe of the cache")
			th.note("a probe fails, too; by the next it is back")
			th.probe.At, th.probe.Failing = th.now, true
			th.run(10 * time.Second)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, "did not answer")
			clear(th.bad)
			th.probe.At, th.probe.Failing = th.now, false
			th.until("the promotion", th.promoted(candidate))
		}},
		"breach-hit-rate-while-the-cache-answers": {script: func(th *theatre) {
			candidate := v2(th)
			th.probe.At = th.now
			th.lookUps = 10
			th.spoil(candidate, canary.CacheHitRate, 1)
			th.run(30 * time.Second)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, "Waiting for a probe of the cache")
			th.note("a probe succeeds")
			th.probe.At = th.now
			th.until("the rollback", th.rolledBack)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, "cacheHitRate")
		}},
		"stable-is-no-better": {script: func(th *theatre) {
			candidate := v2(th)
			th.note("both revisions fail, the stable one as much as the candidate")
			th.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 0.05}
			th.bad[th.stable()] = map[canary.Check]float64{canary.ErrorRate: 0.05}
			th.run(3 * time.Minute)
			th.note("what made them fail is mended")
			clear(th.bad)
			th.until("the promotion", th.promoted(candidate))
		}},
		"stable-fails-too-but-the-candidate-is-worse": {script: func(th *theatre) {
			candidate := v2(th)
			th.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 0.2}
			th.bad[th.stable()] = map[canary.Check]float64{canary.ErrorRate: 0.01}
			th.until("the rollback", th.rolledBack)
		}},
		"operator-down": {script: func(th *theatre) {
			v2(th)
			th.note("three hours without an operator: the traffic goes on, and nobody looks")
			th.now = th.now.Add(3 * time.Hour)
			th.look()
			th.run(30 * time.Second)
			th.note("the step lasts as long as it would have")
			th.until("the end of the step", func() bool { return th.candidate() == "" })
		}},
		"clock-jumps": {script: func(th *theatre) {
			candidate := v2(th)
			for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour, -time.Second, 2 * time.Hour} {
				th.note("the clock jumps by " + jump.String())
				th.now = th.now.Add(jump)
				th.look()
			}
			th.until("the promotion", th.promoted(candidate))
		}},
		"late-evidence": {
			steps: []v1alpha1.CanaryStep{step(5, 5*time.Minute), step(25, time.Minute)},
			script: func(th *theatre) {
				th.lag = 3 * time.Minute
				candidate := v2(th)
				th.until("the second step", func() bool { return th.weight() == 25 })
				th.note("a minute is too short for what happens in it to be known")
				th.run(3 * time.Minute)
				if l := th.trial().Ledger; l.Candidate[canary.ErrorRate] != l.CandidateAtStep[canary.ErrorRate] {
					th.t.Errorf("events of the first step count in the second")
				}
				th.until("the promotion", th.promoted(candidate))
			},
		},
		"late-evidence-of-a-breach": {script: func(th *theatre) {
			th.lag = 3 * time.Minute
			candidate := v2(th)
			th.run(4 * time.Minute)
			th.spoil(candidate, canary.ErrorRate, 0.05)
			th.until("the rollback", th.rolledBack)
		}},
		"late-evidence-of-pods-that-were-away": {script: func(th *theatre) {
			th.lag = 3 * time.Minute
			candidate := v2(th)
			th.run(5 * time.Minute)
			th.lazy = true
			mustFind[*appsv1.Deployment](th.world, "demo-"+candidate).Status.AvailableReplicas = 0
			th.spoil(candidate, canary.ErrorRate, 1)
			th.run(2 * time.Minute)
			th.note("they are back before anything is known about that time")
			th.lazy = false
			clear(th.bad)
			th.until("the promotion", th.promoted(candidate))
		}},
		"another-source-in-the-middle": {script: func(th *theatre) {
			th.origin = "one"
			candidate := v2(th)
			th.run(9 * time.Minute)
			th.note("another source counts: it knows all that happened, and none of it counts twice")
			th.origin = "another"
			th.look()
			if n := th.trial().Ledger.Candidate[canary.ErrorRate].Total; n != 0 {
				th.t.Errorf("%d events of before are counted by the new source", n)
			}
			th.run(9 * time.Minute)
			th.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionTrue, v1alpha1.ReasonCanaryProgressing)
			if n := th.trial().Ledger.Candidate[canary.ErrorRate].Total; n != 10*9*60 {
				th.t.Errorf("%d events are counted in nine minutes of 10 a second", n)
			}
			th.until("the promotion", th.promoted(candidate))
		}},
		"another-source-that-knows-of-errors": {script: func(th *theatre) {
			th.origin = "one"
			candidate := v2(th)
			th.run(time.Minute)
			th.note("a wrong query calls everything an error; it is mended before the next look")
			th.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 1}
			th.now = th.now.Add(interval)
			th.serve()
			clear(th.bad)
			th.origin = "another"
			th.until("the promotion", th.promoted(candidate))
		}},
		"pods-restart-and-lose-their-counters": {script: func(th *theatre) {
			candidate := v2(th)
			for range 3 {
				th.run(90 * time.Second)
				th.note("all pods are replaced")
				th.life++
				clear(th.counted)
				th.kept = 0
			}
			th.until("the promotion", th.promoted(candidate))
		}},
	}
}

// byBlocks has a canary of half an hour judged by blocks of a minute.
func byBlocks(script func(*theatre)) film {
	return film{
		steps:  []v1alpha1.CanaryStep{step(5, 30*time.Minute)},
		spec:   inBlocks,
		script: script,
	}
}

func inBlocks(s *v1alpha1.FlagCacheSpec) {
	s.Canary.Blocks = &v1alpha1.BlocksSpec{Duration: metav1.Duration{Duration: time.Minute}, Minimum: 5}
}

// blockFilms: failures come in bursts, and events are judged by the minute.
func blockFilms() map[string]film {
	// One burst in which 15 of 100 requests fail, in half an hour with 18,000: that is
	// within the limit of 0.1 %.
	burst := func(th *theatre) (candidate string) {
		candidate = v2(th)
		th.run(2 * time.Minute)
		th.burst(candidate, 0.15)
		return candidate
	}
	return map[string]film{
		"burst-by-events": {
			steps: []v1alpha1.CanaryStep{step(5, 30*time.Minute)},
			script: func(th *theatre) {
				burst(th)
				th.until("the rollback", th.rolledBack)
			},
		},
		"burst-by-blocks": byBlocks(func(th *theatre) {
			candidate := burst(th)
			th.until("the promotion", th.promoted(candidate))
		}),
		"bursts-in-every-block": byBlocks(func(th *theatre) {
			candidate := v2(th)
			for range 2 {
				th.burst(candidate, 0.3)
				th.run(50 * time.Second)
			}
			th.spoil(candidate, canary.ErrorRate, 0.3)
			th.look()
			clear(th.bad)
			th.until("the rollback", th.rolledBack)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, "errorRate: on average of", "blocks of 1m0s")
		}),
		"breach-by-blocks": byBlocks(func(th *theatre) {
			th.spoil(v2(th), canary.ErrorRate, 0.01)
			th.run(time.Minute)
			th.noteBlocks()
			th.until("the rollback", th.rolledBack)
			th.noteBlocks()
			th.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		}),
		"blocks-are-too-few": {
			steps: []v1alpha1.CanaryStep{step(5, 2*time.Minute)}, spec: inBlocks,
			script: func(th *theatre) {
				candidate := v2(th)
				th.note("the duration of the step is over after two blocks")
				th.run(3 * time.Minute)
				th.expectMessage(v1alpha1.ConditionRolloutHealthy, "Waiting for more evidence: errorRate, latencyP95, latencyP99")
				th.until("the promotion", th.promoted(candidate))
				th.noteBlocks()
			},
		},
		"blocks-operator-restarts": byBlocks(func(th *theatre) {
			candidate := v2(th)
			th.run(150 * time.Second)
			th.noteBlocks()
			th.note("no operator for twenty minutes, and a burst meanwhile; a new one begins without a sample")
			th.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 0.15}
			th.serve()
			clear(th.bad)
			for range 119 {
				th.serve()
			}
			th.now = th.now.Add(20 * time.Minute)
			th.evidence = canary.Evidence{}
			th.reconcileOnce()
			th.noteBlocks()
			th.look()
			th.noteBlocks()
			th.note("what was counted meanwhile is in the block under way, of which no more than two intervals were observed")
			th.run(20 * time.Second)
			th.noteBlocks()
			th.until("the promotion", th.promoted(candidate))
			th.noteBlocks()
		}),
		"blocks-no-evidence": byBlocks(func(th *theatre) {
			candidate := v2(th)
			th.run(150 * time.Second)
			th.noteBlocks()
			th.note("the metrics cannot be had for ten minutes: no block ends")
			th.blind = true
			th.run(10 * time.Minute)
			th.noteBlocks()
			th.blind = false
			th.until("the promotion", th.promoted(candidate))
			th.noteBlocks()
		}),
		"blocks-clock-jumps": byBlocks(func(th *theatre) {
			candidate := v2(th)
			for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour, -time.Second, 2 * time.Hour} {
				th.note("the clock jumps by " + jump.String())
				th.now = th.now.Add(jump)
				th.look()
				th.noteBlocks()
			}
			th.until("the promotion", th.promoted(candidate))
			th.noteBlocks()
		}),
		"blocks-cache-unhealthy": byBlocks(func(th *theatre) {
			candidate := v2(th)
			th.run(80 * time.Second)
			th.noteBlocks()
			th.note("the cache that both use fails: what is counted meanwhile is in no block")
			th.probe = observed.Probe{Health: observed.Unhealthy, Reason: "ConnectionRefused", Message: "refused"}
			th.bad[candidate] = map[canary.Check]float64{canary.CacheHitRate: 1}
			th.bad[th.stable()] = map[canary.Check]float64{canary.CacheHitRate: 1}
			th.run(15 * time.Minute)
			th.noteBlocks()
			th.note("and comes back")
			th.probe = observed.Probe{Health: observed.Healthy}
			clear(th.bad)
			th.until("the promotion", th.promoted(candidate))
			th.noteBlocks()
		}),
		"blocks-stable-is-no-better": byBlocks(func(th *theatre) {
			candidate := v2(th)
			th.note("both revisions fail at the beginning of a block: it does not count")
			th.bad[candidate] = map[canary.Check]float64{canary.ErrorRate: 1}
			th.bad[th.stable()] = map[canary.Check]float64{canary.ErrorRate: 1}
			th.run(40 * time.Second)
			clear(th.bad)
			th.run(20 * time.Second)
			th.noteBlocks()
			th.until("the promotion", th.promoted(candidate))
			th.noteBlocks()
		}),
		"blocks-asked-for-in-the-middle": {
			steps: []v1alpha1.CanaryStep{step(5, 10*time.Minute)},
			script: func(th *theatre) {
				candidate := v2(th)
				th.run(8 * time.Minute)
				th.note("five blocks are wanted from now on")
				th.edit(inBlocks)
				th.look()
				th.noteBlocks()
				th.until("the promotion", th.promoted(candidate))
				th.noteBlocks()
			},
		},
	}
}

// peopleFilms: what a person says counts, for the revision it is about.
func peopleFilms() map[string]film {
	return map[string]film{
		"pause-and-resume": {script: func(th *theatre) {
			candidate := v2(th)
			th.annotate(v1alpha1.AnnotationPause, candidate)
			th.run(30 * time.Minute)
			th.annotate(v1alpha1.AnnotationResume, candidate)
			th.until("the promotion", th.promoted(candidate))
		}},
		"a-breach-ends-a-pause": {script: func(th *theatre) {
			candidate := v2(th)
			th.annotate(v1alpha1.AnnotationPause, candidate)
			th.look()
			th.spoil(candidate, canary.ErrorRate, 0.05)
			th.until("the rollback", th.rolledBack)
		}},
		"promote": {script: func(th *theatre) {
			candidate := v2(th)
			th.annotate(v1alpha1.AnnotationPromote, candidate)
			th.until("the promotion", th.promoted(candidate))
		}},
		"promote-of-another-revision-is-void": {script: func(th *theatre) {
			v2(th)
			th.annotate(v1alpha1.AnnotationPromote, th.stable())
			th.run(time.Minute)
		}},
		"abort": {script: func(th *theatre) {
			th.annotate(v1alpha1.AnnotationAbort, v2(th))
			th.until("the rollback", th.rolledBack)
			th.run(time.Minute)
		}},
		"retry-once": {script: func(th *theatre) {
			candidate := v2(th)
			th.spoil(candidate, canary.ErrorRate, 0.05)
			th.until("the rollback", th.rolledBack)
			th.annotate(v1alpha1.AnnotationRetry, candidate)
			th.until("the next trial", func() bool { return !th.rolledBack() })
			th.until("the rollback", th.rolledBack)
			th.note("the annotation is not followed twice")
			th.run(5 * time.Minute)
			th.note("it is removed, and set again after the fault was found elsewhere")
			delete(th.fc.Annotations, v1alpha1.AnnotationRetry)
			th.look()
			clear(th.bad)
			th.annotate(v1alpha1.AnnotationRetry, candidate)
			th.until("the promotion", th.promoted(candidate))
		}},
	}
}

// revisionFilms: the spec changes in the middle.
func revisionFilms() map[string]film {
	return map[string]film{
		"superseded": {script: func(th *theatre) {
			v2(th)
			th.run(5 * time.Minute)
			th.change(fromImage("flag-service:v3"))
			candidate := th.candidate()
			th.until("the promotion", th.promoted(candidate))
		}},
		"back-in-the-middle": {script: func(th *theatre) {
			v2(th)
			th.change(fromImage(""))
			th.run(time.Minute)
		}},
		"back-after-a-promotion": {script: func(th *theatre) {
			first := th.stable()
			candidate := v2(th)
			th.until("the promotion", th.promoted(candidate))
			th.look()
			th.note("the old revision is still there: going back takes one look")
			th.change(fromImage(""))
			th.until("the way back", th.promoted(first))
			th.run(6 * time.Minute)
		}},
		"back-much-later": {script: func(th *theatre) {
			first := th.stable()
			candidate := v2(th)
			th.until("the promotion", th.promoted(candidate))
			th.run(10 * time.Minute)
			th.note("the old revision is gone, but it has passed before: no canary")
			th.change(fromImage(""))
			th.until("the way back", th.promoted(first))
		}},
		"rejected-then-asked-for-again": {script: func(th *theatre) {
			candidate := v2(th)
			th.spoil(candidate, canary.ErrorRate, 0.05)
			th.until("the rollback", th.rolledBack)
			th.change(fromImage(""))
			th.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
			clear(th.bad)
			th.change(fromImage("flag-service:v2"))
			th.until("the promotion", th.promoted(candidate))
		}},
		"scaled-in-the-middle": {script: func(th *theatre) {
			candidate := v2(th)
			th.note("forty replicas: 5 % of them are two")
			th.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas = ptr.To[int32](40) })
			th.until("the promotion", th.promoted(candidate))
		}},
		"fewer-steps-in-the-middle": {
			steps: []v1alpha1.CanaryStep{step(5, time.Minute), step(10, time.Minute), step(50, time.Hour)},
			script: func(th *theatre) {
				candidate := v2(th)
				th.until("the third step", func() bool { return th.weight() == 50 })
				th.note("the spec has but two steps now: the third is over")
				th.edit(func(s *v1alpha1.FlagCacheSpec) { s.Canary.Steps = s.Canary.Steps[:2] })
				th.until("the promotion", th.promoted(candidate))
			},
		},
		"record-lost": {script: func(th *theatre) {
			candidate := v2(th)
			th.run(9 * time.Minute)
			th.note("somebody deletes the candidate's ControllerRevision: the canary begins anew")
			th.children = without(th.children, mustFind[*appsv1.ControllerRevision](th.world, "demo-"+candidate))
			th.run(9 * time.Minute)
			th.until("the promotion", th.promoted(candidate))
		}},
		"status-lost": {script: func(th *theatre) {
			candidate := v2(th)
			th.run(5 * time.Minute)
			th.note("the status is gone, as after a restored backup")
			th.fc.Status = v1alpha1.FlagCacheStatus{}
			th.until("the promotion", th.promoted(candidate))
		}},
		"switched-off-in-the-middle": {script: func(th *theatre) {
			candidate := v2(th)
			th.note("no steps: a change waits for its pods alone")
			th.edit(func(s *v1alpha1.FlagCacheSpec) { s.Canary.Steps = nil })
			th.until("the promotion", th.promoted(candidate))
		}},
		"a-wrong-password": {
			spec: func(s *v1alpha1.FlagCacheSpec) {
				s.Cache.Type, s.Cache.External = v1alpha1.CacheExternal, &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "my-redis"}}
			},
			script: wrongPassword,
		},
	}
}

// wrongPassword is a change of the Secret that a candidate alone gets to see.
func wrongPassword(th *theatre) {
	before := mustFind[*appsv1.Deployment](th.world, "demo-"+th.stable()).Spec.Template.Spec.Volumes[1].Secret.SecretName
	th.note("the external Secret gets a wrong password")
	th.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache"), "password": []byte("wrong")}}
	th.look()
	th.note("and somebody edits the Secrets of the stable revision, one after the other")
	for _, name := range []string{"demo-connection", before} {
		mustFind[*corev1.Secret](th.world, name).Data["host"] = []byte("evil")
		th.look()
		if host := th.index().SecretValue(name, "host"); host != "cache" {
			th.t.Errorf("Secret %s names the host %q", name, host)
		}
	}
	th.spoil(th.candidate(), canary.CacheHitRate, 1)
	th.until("the rollback", th.rolledBack)
	th.run(time.Minute)
	if password := th.index().SecretValue("demo-connection", "password"); password != "" {
		th.t.Errorf("applications were given the password %q that no revision could use", password)
	}
	if password := th.index().SecretValue(before, "password"); password != "" {
		th.t.Errorf("the stable pods were given the password %q", password)
	}
}

// podFilms: pods that do not run end a canary without any traffic.
func podFilms() map[string]film {
	trouble := func(reason string) film {
		return film{script: func(th *theatre) {
			th.perSecond = 0
			th.change(fromImage("flag-service:v2"))
			th.note("the candidate's pods: " + reason)
			th.pods = map[string]observed.PodTrouble{th.candidate(): {Reason: reason, Message: "pod demo-1: " + reason}}
			th.until("the rollback", th.rolledBack)
			th.run(30 * time.Second)
		}}
	}
	return map[string]film{
		"crash-loop": trouble("CrashLoopBackOff"),
		"image-pull": trouble("ImagePullBackOff"),
		"progress-deadline": {script: func(th *theatre) {
			th.lazy = true
			th.change(fromImage("flag-service:v2"))
			th.candidateStuck()
			th.until("the rollback", th.rolledBack)
		}},
		"pods-gone-for-a-while": {script: func(th *theatre) {
			candidate := v2(th)
			th.note("a node is drained: the candidate's pods are away for two minutes, in which nothing counts")
			th.lazy = true
			mustFind[*appsv1.Deployment](th.world, "demo-"+candidate).Status.AvailableReplicas = 0
			th.run(2 * time.Minute)
			th.lazy = false
			th.until("the promotion", th.promoted(candidate))
		}},
		"pods-gone-for-good": {script: func(th *theatre) {
			candidate := v2(th)
			th.lazy = true
			mustFind[*appsv1.Deployment](th.world, "demo-"+candidate).Status.AvailableReplicas = 0
			th.until("the rollback", th.rolledBack)
		}},
		"load-test-passes": {
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.LoadTest = &v1alpha1.LoadTestSpec{Concurrency: 50} },
			script: func(th *theatre) {
				th.change(fromImage("flag-service:v2"))
				th.run(time.Minute)
				th.note("the load test passes")
				th.loadTestEnds(batchv1.JobComplete, `{"passed":true}`)
				candidate := th.candidate()
				th.until("the promotion", th.promoted(candidate))
			},
		},
		"load-test-fails": {
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.LoadTest = &v1alpha1.LoadTestSpec{Concurrency: 50} },
			script: func(th *theatre) {
				th.change(fromImage("flag-service:v2"))
				th.run(time.Minute)
				th.note("the load test fails before any user is served")
				th.loadTestEnds(batchv1.JobFailed, `{"requests":12000,"errorRate":0.023,"latency":{"p95Ms":81}}`)
				th.until("the rollback", th.rolledBack)
				th.expectMessage(v1alpha1.ConditionRolloutHealthy, "LoadTestFailed", "of 12000 requests 2.3% failed, and the P95 was 81.0 ms")
				candidate := th.fc.Status.Revisions.Rejected
				th.look()
				th.note("retried: another Job, not the result of the first")
				th.annotate(v1alpha1.AnnotationRetry, candidate)
				th.run(time.Minute)
				th.loadTestEnds(batchv1.JobComplete, `{"passed":true}`)
				th.until("the promotion", th.promoted(candidate))
				th.look()
				if jobs := th.jobs(); len(jobs) > 0 {
					th.t.Errorf("%v is left after the canary", jobs[0].Name)
				}
			},
		},
		"by-replicas": {
			steps: []v1alpha1.CanaryStep{step(25, 5*time.Minute)},
			spec: func(s *v1alpha1.FlagCacheSpec) {
				s.Canary.Traffic.Type = v1alpha1.TrafficReplicas
				s.Service.Replicas = ptr.To[int32](3)
			},
			script: func(th *theatre) {
				candidate := v2(th)
				th.until("the promotion", th.promoted(candidate))
			},
		},
	}
}
