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

// commandScenarios: annotations apply to the revision that they name.
func commandScenarios() map[string]scenario {
	return map[string]scenario{
		"pause-and-resume": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.annotate(v1alpha1.AnnotationPause, candidate)
			sim.runFor(30 * time.Minute)
			sim.annotate(v1alpha1.AnnotationResume, candidate)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"a-breach-ends-a-pause": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.annotate(v1alpha1.AnnotationPause, candidate)
			sim.tick()
			sim.setBad(candidate, canary.ErrorRate, 0.05)
			sim.until("the rollback", sim.rolledBack)
		}},
		"promote": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.annotate(v1alpha1.AnnotationPromote, candidate)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"promote-of-another-revision-is-ignored": {script: func(sim *simulation) {
			v2(sim)
			sim.annotate(v1alpha1.AnnotationPromote, sim.stable())
			sim.runFor(time.Minute)
		}},
		"abort": {script: func(sim *simulation) {
			sim.annotate(v1alpha1.AnnotationAbort, v2(sim))
			sim.until("the rollback", sim.rolledBack)
			sim.runFor(time.Minute)
		}},
		"promoted-by-hand-and-back": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.annotate(v1alpha1.AnnotationPromote, candidate)
			sim.until("the promotion", sim.promoted(candidate))
			sim.change(fromImage(""))
			sim.until("the way back", func() bool { return sim.stable() != candidate })
			sim.note("B was never judged, and its pods still run: it gets a canary, and the annotation has no effect")
			sim.change(fromImage("flag-service:v2"))
			sim.expectWarning("promote has no effect", candidate)
			sim.until("the first step", func() bool { return sim.weight() > 0 })
			sim.setBad(candidate, canary.ErrorRate, 0.05)
			sim.until("the rollback", sim.rolledBack)
		}},
		"promote-is-followed-once": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.annotate(v1alpha1.AnnotationPromote, candidate)
			sim.until("the promotion", sim.promoted(candidate))
			sim.change(fromImage(""))
			sim.until("the way back", func() bool { return sim.stable() != candidate })
			v2(sim)
			sim.note("the annotation is removed and set again")
			delete(sim.fc.Annotations, v1alpha1.AnnotationPromote)
			sim.tick()
			sim.annotate(v1alpha1.AnnotationPromote, candidate)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"abort-is-followed-once": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.annotate(v1alpha1.AnnotationAbort, candidate)
			sim.until("the rollback", sim.rolledBack)
			sim.note("the annotation stays in the manifest")
			sim.annotate(v1alpha1.AnnotationRetry, candidate)
			sim.until("the first step", func() bool { return sim.weight() > 0 })
			sim.change(fromImage(""))
			sim.change(fromImage("flag-service:v2"))
			sim.expectWarning("abort has no effect", candidate)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"retry-once": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.setBad(candidate, canary.ErrorRate, 0.05)
			sim.until("the rollback", sim.rolledBack)
			sim.annotate(v1alpha1.AnnotationRetry, candidate)
			sim.until("the next trial", func() bool { return !sim.rolledBack() })
			sim.until("the rollback", sim.rolledBack)
			sim.note("the annotation is not followed twice")
			sim.runFor(5 * time.Minute)
			sim.note("the annotation is removed and set again after the cause was found elsewhere")
			delete(sim.fc.Annotations, v1alpha1.AnnotationRetry)
			sim.tick()
			clear(sim.bad)
			sim.annotate(v1alpha1.AnnotationRetry, candidate)
			sim.until("the promotion", sim.promoted(candidate))
		}},
	}
}

// revisionScenarios: the spec changes during a canary.
func revisionScenarios() map[string]scenario {
	return map[string]scenario{
		"superseded": {script: func(sim *simulation) {
			v2(sim)
			sim.runFor(5 * time.Minute)
			sim.change(fromImage("flag-service:v3"))
			candidate := sim.candidate()
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"back-in-the-middle": {script: func(sim *simulation) {
			v2(sim)
			sim.change(fromImage(""))
			sim.runFor(time.Minute)
		}},
		"back-after-a-promotion": {script: func(sim *simulation) {
			first := sim.stable()
			candidate := v2(sim)
			sim.until("the promotion", sim.promoted(candidate))
			sim.tick()
			sim.note("the previous revision still runs: returning to it takes one reconcile")
			sim.change(fromImage(""))
			sim.until("the way back", sim.promoted(first))
			sim.runFor(6 * time.Minute)
		}},
		"back-much-later": {script: func(sim *simulation) {
			first := sim.stable()
			candidate := v2(sim)
			sim.until("the promotion", sim.promoted(candidate))
			sim.runFor(10 * time.Minute)
			sim.note("the previous revision was removed, but it served lately: no canary")
			sim.change(fromImage(""))
			sim.until("the way back", sim.promoted(first))
		}},
		"back-after-a-week": {script: func(sim *simulation) {
			first := sim.stable()
			candidate := v2(sim)
			sim.until("the promotion", sim.promoted(candidate))
			sim.tick()
			sim.note("a week passes")
			sim.now = sim.now.Add(7 * 24 * time.Hour)
			sim.tick()
			sim.note("the previous revision served too long ago: it gets a canary")
			sim.change(fromImage(""))
			sim.until("the way back", sim.promoted(first))
		}},
		"back-after-four-others": {script: func(sim *simulation) {
			first := sim.stable()
			for _, image := range []string{"flag-service:v2", "flag-service:v3", "flag-service:v4", "flag-service:v5"} {
				sim.change(fromImage(image))
				sim.until("the promotion", sim.promoted(sim.candidate()))
				sim.runFor(6 * time.Minute)
			}
			sim.note("three others were promoted since the previous revision: it gets a canary")
			sim.change(fromImage(""))
			sim.until("the way back", sim.promoted(first))
		}},
		"rejected-then-requested-again": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.setBad(candidate, canary.ErrorRate, 0.05)
			sim.until("the rollback", sim.rolledBack)
			sim.change(fromImage(""))
			sim.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
			clear(sim.bad)
			sim.change(fromImage("flag-service:v2"))
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"scaled-in-the-middle": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.note("40 replicas: 5 % of them are two")
			sim.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas = ptr.To[int32](40) })
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"fewer-steps-in-the-middle": {
			steps: []v1alpha1.CanaryStep{step(5, time.Minute), step(10, time.Minute), step(50, time.Hour)},
			script: func(sim *simulation) {
				candidate := v2(sim)
				sim.until("the third step", func() bool { return sim.weight() == 50 })
				sim.note("the spec has only two steps now: the third ends")
				sim.edit(func(s *v1alpha1.FlagCacheSpec) { s.Canary.Steps = s.Canary.Steps[:2] })
				sim.until("the promotion", sim.promoted(candidate))
			},
		},
		"record-lost": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.runFor(9 * time.Minute)
			sim.note("the candidate's ControllerRevision is deleted: the canary starts again")
			sim.children = without(sim.children, mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+candidate))
			sim.runFor(9 * time.Minute)
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"status-lost": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.runFor(5 * time.Minute)
			sim.note("the status is lost, as after restoring a backup")
			sim.fc.Status = v1alpha1.FlagCacheStatus{}
			trace := sim.trace
			sim.reconcile() // the FlagCache is claimed again
			sim.trace = trace
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"switched-off-in-the-middle": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.note("no steps: a change only waits for its pods")
			sim.edit(func(s *v1alpha1.FlagCacheSpec) { s.Canary.Steps = nil })
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"a-wrong-password": {
			spec: func(s *v1alpha1.FlagCacheSpec) {
				s.Cache.Type, s.Cache.External = v1alpha1.CacheExternal, &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "my-redis"}}
			},
			script: wrongPassword,
		},
	}
}

// wrongPassword is a change of the Secret that only the candidate receives.
func wrongPassword(sim *simulation) {
	before := mustFind[*appsv1.Deployment](sim.world, "demo-"+sim.stable()).Spec.Template.Spec.Volumes[1].Secret.SecretName
	sim.note("the external Secret gets a wrong password")
	sim.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache"), "password": []byte("wrong")}}
	sim.tick()
	sim.note("the Secrets of the stable revision are edited, one after the other")
	for _, name := range []string{"demo-connection", before} {
		mustFind[*corev1.Secret](sim.world, name).Data["host"] = []byte("evil")
		sim.tick()
		if host := sim.index().SecretValue(name, "host").Reveal(); host != "cache" {
			sim.t.Errorf("Secret %s names the host %q", name, host)
		}
	}
	sim.setBad(sim.candidate(), canary.CacheHitRate, 1)
	sim.until("the rollback", sim.rolledBack)
	sim.runFor(time.Minute)
	if password := sim.index().SecretValue("demo-connection", "password").Reveal(); password != "" {
		sim.t.Errorf("applications were given the password %q that no revision could use", password)
	}
	if password := sim.index().SecretValue(before, "password").Reveal(); password != "" {
		sim.t.Errorf("the stable pods were given the password %q", password)
	}
}

// podScenarios: pods that do not run end a canary without any traffic.
func podScenarios() map[string]scenario {
	failing := func(reason string) scenario {
		return scenario{script: func(sim *simulation) {
			sim.perSecond = 0
			sim.change(fromImage("flag-service:v2"))
			sim.note("the candidate's pods: " + reason)
			sim.pods = map[string]observed.PodFailure{sim.candidate(): {Reason: reason, Message: "pod demo-1: " + reason, Fatal: true}}
			sim.until("the rollback", sim.rolledBack)
			sim.runFor(30 * time.Second)
		}}
	}
	// pull begins a release whose image cannot be pulled.
	pull := func(sim *simulation) (candidate string) {
		sim.podsStuck = true
		sim.change(fromImage("flag-service:v2"))
		candidate = sim.candidate()
		sim.note("the candidate's image cannot be pulled")
		sim.pods = map[string]observed.PodFailure{candidate: {Reason: "ImagePullBackOff", Message: "flag-service:v2 is in ImagePullBackOff: check that it exists"}}
		sim.runFor(4 * time.Minute)
		sim.expectMessage(v1alpha1.ConditionReady, "flag-service:v2 is in ImagePullBackOff: check that it exists")
		return candidate
	}
	return map[string]scenario{
		"crash-loop":         failing("CrashLoopBackOff"),
		"invalid-image-name": failing("InvalidImageName"),
		"image-pull-resolves": {script: func(sim *simulation) {
			candidate := pull(sim)
			sim.note("the registry is back")
			sim.pods, sim.podsStuck = nil, false
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"image-pull-lasts": {script: func(sim *simulation) {
			pull(sim)
			sim.candidateStuck()
			sim.until("the rollback", sim.rolledBack)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "ProgressDeadlineExceeded", "flag-service:v2 is in ImagePullBackOff: check that it exists")
		}},
		"progress-deadline": {script: func(sim *simulation) {
			sim.podsStuck = true
			sim.change(fromImage("flag-service:v2"))
			sim.candidateStuck()
			sim.until("the rollback", sim.rolledBack)
		}},
		"pods-unavailable-for-two-minutes": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.note("a node is drained: the candidate's pods are unavailable for two minutes, in which nothing counts")
			sim.podsStuck = true
			mustFind[*appsv1.Deployment](sim.world, "demo-"+candidate).Status.AvailableReplicas = 0
			sim.runFor(2 * time.Minute)
			sim.podsStuck = false
			sim.until("the promotion", sim.promoted(candidate))
		}},
		"pods-unavailable-for-long": {script: func(sim *simulation) {
			candidate := v2(sim)
			sim.podsStuck = true
			mustFind[*appsv1.Deployment](sim.world, "demo-"+candidate).Status.AvailableReplicas = 0
			sim.until("the rollback", sim.rolledBack)
		}},
		"load-test-passes": {
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.LoadTest = &v1alpha1.LoadTestSpec{Concurrency: 50} },
			script: func(sim *simulation) {
				sim.change(fromImage("flag-service:v2"))
				sim.runFor(time.Minute)
				sim.note("the load test passes")
				sim.loadTestEnds(batchv1.JobComplete, observed.LoadTest{Ended: true, Passed: true, Report: `{"passed":true}`})
				candidate := sim.candidate()
				sim.until("the promotion", sim.promoted(candidate))
			},
		},
		"load-test-fails": {
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.LoadTest = &v1alpha1.LoadTestSpec{Concurrency: 50} },
			script: func(sim *simulation) {
				sim.change(fromImage("flag-service:v2"))
				sim.runFor(time.Minute)
				sim.note("the load test fails before any client is served")
				sim.loadTestEnds(batchv1.JobFailed, observed.LoadTest{Ended: true, Report: `{"requests":12000,"errorRate":0.023,"latency":{"p95Ms":81}}`})
				sim.until("the rollback", sim.rolledBack)
				sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "LoadTestFailed", "of 12000 requests 2.3% failed, and the P95 was 81.0 ms")
				candidate := sim.fc.Status.Revisions.Rejected
				sim.tick()
				sim.note("retried: another Job runs, the first result is not used")
				sim.annotate(v1alpha1.AnnotationRetry, candidate)
				sim.runFor(time.Minute)
				sim.loadTestEnds(batchv1.JobComplete, observed.LoadTest{Ended: true, Passed: true, Report: `{"passed":true}`})
				sim.until("the promotion", sim.promoted(candidate))
				sim.tick()
				if jobs := sim.jobs(); len(jobs) > 0 {
					sim.t.Errorf("%v is left after the canary", jobs[0].Name)
				}
			},
		},
		"load-test-beside-a-proxy": {
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.LoadTest = &v1alpha1.LoadTestSpec{Concurrency: 50} },
			script: func(sim *simulation) {
				sim.change(fromImage("flag-service:v2"))
				sim.runFor(time.Minute)
				sim.note("the load test passes, and the proxy of a mesh in its pod goes on: the Job does not end")
				sim.loadTestPod(observed.LoadTest{Ended: true, Passed: true, Report: `{"passed":true}`})
				candidate := sim.candidate()
				sim.until("the promotion", sim.promoted(candidate))
				sim.runFor(time.Minute)
				if jobs := sim.jobs(); len(jobs) > 0 {
					sim.t.Errorf("%v is left after the canary", jobs[0].Name)
				}
			},
		},
		"load-test-does-not-start": {
			spec: func(s *v1alpha1.FlagCacheSpec) { s.Canary.LoadTest = &v1alpha1.LoadTestSpec{Concurrency: 50} },
			script: func(sim *simulation) {
				sim.change(fromImage("flag-service:v2"))
				sim.runFor(30 * time.Second)
				sim.note("no node can run the load test")
				sim.loadTestPod(observed.LoadTest{Failure: observed.PodFailure{Reason: "Unschedulable", Message: "no node can run a pod: 0/3 nodes are available"}})
				sim.runFor(2 * time.Minute)
				sim.expectMessage(v1alpha1.ConditionReady, "Waiting for the load test: no node can run a pod: 0/3 nodes are available")
				sim.until("the rollback", sim.rolledBack)
				sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "LoadTestFailed", "the load test did not finish: no node can run a pod: 0/3 nodes are available")
			},
		},
		"by-replicas": {
			steps: []v1alpha1.CanaryStep{step(25, 5*time.Minute)},
			spec: func(s *v1alpha1.FlagCacheSpec) {
				s.Canary.Traffic.Type = v1alpha1.TrafficReplicas
				s.Service.Replicas = ptr.To[int32](3)
			},
			script: func(sim *simulation) {
				candidate := v2(sim)
				sim.until("the promotion", sim.promoted(candidate))
			},
		},
	}
}
