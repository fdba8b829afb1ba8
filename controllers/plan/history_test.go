// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// overwriteRecord replaces what is on record about a revision, and returns what was.
func (sim *simulation) overwriteRecord(revision, text string) (before string) {
	annotations := mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+revision).Annotations
	before = annotations[v1alpha1.AnnotationRecord]
	annotations[v1alpha1.AnnotationRecord] = text
	return before
}

// recordText is what is on record about a revision.
func (sim *simulation) recordText(revision string) string {
	return mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+revision).Annotations[v1alpha1.AnnotationRecord]
}

// expectRecordUnreadable expects the stable revision to serve all traffic, and the
// condition to name the ControllerRevision and what to do.
func (sim *simulation) expectRecordUnreadable(stable, revision string) {
	sim.t.Helper()
	if sim.stable() != stable || sim.weight() != 0 || sim.candidate() != "" {
		sim.t.Errorf("revision %s is stable, candidate %q has the weight %d, want %s to serve alone", sim.stable(), sim.candidate(), sim.weight(), stable)
	}
	sim.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonInvalidRevisionRecord)
	sim.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonInvalidRevisionRecord)
	sim.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
	sim.expectMessage(v1alpha1.ConditionRolloutHealthy, "ControllerRevision demo-"+revision, "Restore the annotation", "upgrade the operator", "delete the ControllerRevision")
}

// What cannot be decoded is not taken for nothing on record: the revision may have been
// rejected.
func TestUnreadableRecordIsNeitherPromotedNorRetried(t *testing.T) {
	for name, text := range map[string]string{
		"something that somebody wrote": "none of your business",
		"nothing":                       "",
		"a newer version":               `{"version":2,"revision":"04ad20bc"}`,
		"another revision's record":     canary.NewRecord("ffffffff", noon).Encode(),
	} {
		t.Run(name, func(t *testing.T) {
			sim := newSimulation(t, withCanary(aFlagCache()))
			stable, candidate := sim.stable(), v2(sim)
			sim.runFor(5 * time.Minute)
			before := sim.overwriteRecord(candidate, text)
			sim.annotate(v1alpha1.AnnotationRetry, candidate)
			sim.annotate(v1alpha1.AnnotationPromote, candidate)
			sim.runFor(time.Minute)
			sim.expectRecordUnreadable(stable, candidate)
			if after := sim.recordText(candidate); after != text {
				t.Errorf("the annotation was changed to %q", after)
			}
			sim.fc.Annotations = nil
			sim.overwriteRecord(candidate, before)
			sim.until("the promotion", sim.promoted(candidate))
		})
	}
}

// Who deletes the ControllerRevision decides that the revision is tried as a new one.
func TestDeletingAnUnreadableRecordStartsAgain(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache()))
	stable, candidate := sim.stable(), v2(sim)
	sim.overwriteRecord(candidate, "{")
	sim.tick()
	sim.expectRecordUnreadable(stable, candidate)
	sim.children = without(sim.children, mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+candidate))
	sim.until("the promotion", sim.promoted(candidate))
}

// The record of the revision that serves is not needed for it to go on, also without the
// Service that names it.
func TestUnreadableRecordOfTheStableRevision(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache()))
	stable := sim.stable()
	sim.overwriteRecord(stable, "{")
	sim.tick()
	sim.expectRecordUnreadable(stable, stable)
	sim.children = without(sim.children, mustFind[*corev1.Service](sim.world, "demo"))
	sim.tick()
	sim.tick()
	sim.expectRecordUnreadable(stable, stable)
	if after := sim.recordText(stable); after != "{" {
		t.Errorf("the annotation was changed to %q", after)
	}
	candidate := v2(sim)
	sim.until("the promotion", sim.promoted(candidate))
}

// A canary that an operator without versions of records began goes on.
func TestCanaryGoesOnFromARecordWithoutVersion(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache()))
	candidate := v2(sim)
	started := canary.NewRecord(candidate, sim.now.Add(-20*time.Second)).StartedAt
	sim.overwriteRecord(candidate, `{"revision":"`+candidate+`","startedAt":"`+started.Format(time.RFC3339)+`","trial":{"step":1,"elapsed":570000000000,"observed":570000000000,`+
		`"lookedAt":"`+sim.now.Format(time.RFC3339)+`","sampledAt":"`+sim.now.Format(time.RFC3339)+`",`+
		`"candidate":{"errorRate":{"bad":0,"total":5700},"latencyP95":{"bad":0,"total":5700},"latencyP99":{"bad":0,"total":5700},"cacheHitRate":{"bad":0,"total":100}},`+
		`"policy":{"limits":{"errorRate":0.001,"latencyP95":0.05,"latencyP99":0.01,"cacheHitRate":0.2,"missLatencyP95":0.05},"alpha":0.002,"minimumRequests":1000}}}`)
	sim.runFor(20 * time.Second)
	if got := sim.fc.Status.Canary.ObservedFor; got < 580 || got > 600 {
		t.Errorf("it was observed for %d seconds, want those on record and two intervals", got)
	}
	sim.runFor(time.Minute)
	if sim.stable() != candidate {
		t.Errorf("it is not promoted when its ten minutes are over: %s", sim.condition(v1alpha1.ConditionRolloutHealthy).Message)
	}
}

// Constants of the API and of package canary are the same words.
func TestCanaryWordsAreThoseOfTheAPI(t *testing.T) {
	for api, own := range map[v1alpha1.CanaryPhase]canary.Phase{
		v1alpha1.CanaryStarting: canary.Starting, v1alpha1.CanaryLoadTesting: canary.LoadTesting, v1alpha1.CanaryStepping: canary.Stepping,
		v1alpha1.CanaryHeld: canary.Held, v1alpha1.CanaryPaused: canary.Paused, v1alpha1.CanaryPromoting: canary.Promoting,
	} {
		if string(api) != string(own) {
			t.Errorf("the phase %s is %s in package canary", api, own)
		}
	}
	for api, own := range map[v1alpha1.InconclusivePolicy]canary.InconclusivePolicy{
		v1alpha1.InconclusivePause: canary.PauseInconclusive, v1alpha1.InconclusivePromote: canary.PromoteInconclusive,
		v1alpha1.InconclusiveRollback: canary.RollbackInconclusive,
	} {
		if string(api) != string(own) {
			t.Errorf("the policy %s is %s in package canary", api, own)
		}
	}
}

// What the API server fills in is what the table of checks has.
func TestDefaultPolicyIsThatOfTheChecks(t *testing.T) {
	defaults := canaryPolicy(&v1alpha1.CanarySpec{Thresholds: v1alpha1.ThresholdsSpec{ErrorRate: "0.1%", CacheHitRate: "80%"}, Confidence: "99%"})
	nothing := canaryPolicy(&v1alpha1.CanarySpec{})
	for check, limit := range canary.DefaultLimits() {
		if math.Abs(defaults.Limits[check]-limit) > 1e-12 || nothing.Limits[check] != limit {
			t.Errorf("the limit of %s is %g, without thresholds %g, want %g", check, defaults.Limits[check], nothing.Limits[check], limit)
		}
	}
	if defaults.Alpha != nothing.Alpha || math.Abs(defaults.Alpha-0.002) > 1e-12 {
		t.Errorf("alpha is %g, without a confidence %g, want 0.002", defaults.Alpha, nothing.Alpha)
	}
}

// A revision that brought its own cache is recognized as rejected by what its record says.
// Where that cannot be decoded its cache is not created again, and one that exists stays.
func TestUnreadableRecordCreatesNoCache(t *testing.T) {
	t.Run("after a rollback", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()), step(5, 2*time.Minute))
		c.name(c.stable())
		stable := c.stable()
		candidate := startReplacement(c, toRedis)
		c.failCandidate(candidate)
		before := c.overwriteRecord(candidate, "{")
		c.runFor(time.Hour)
		c.expectRecordUnreadable(stable, candidate)
		if len(c.aws.Groups) != 1 {
			t.Errorf("there are %d groups, want that of the stable revision", len(c.aws.Groups))
		}
		c.overwriteRecord(candidate, before)
		c.runFor(time.Minute)
		c.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionFalse, v1alpha1.ReasonRolledBack)
	})
	t.Run("during a canary", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()), step(5, 2*time.Minute))
		c.name(c.stable())
		stable := c.stable()
		candidate := startReplacement(c, toRedis)
		before := c.overwriteRecord(candidate, "{")
		c.runFor(time.Minute)
		c.expectRecordUnreadable(stable, candidate)
		if len(c.aws.Groups) != 2 {
			t.Errorf("there are %d groups, want those of both revisions", len(c.aws.Groups))
		}
		c.overwriteRecord(candidate, before)
		c.until("the promotion", c.promoted(candidate))
	})
}

// The stable revision was not rejected, also while no Service names it: its pods stay as
// they are, and a cache that the spec requests is created.
func TestUnreadableRecordOfTheStableRevisionHoldsNoCacheBack(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()), step(5, 2*time.Minute))
	stable := c.stable()
	before := mustFind[*appsv1.Deployment](c.world, "demo-"+stable).DeepCopy()
	c.overwriteRecord(stable, "{")
	c.children = without(c.children, mustFind[*corev1.Service](c.world, "demo"))
	c.change(toRedis)
	c.reconcile()
	after := mustFind[*appsv1.Deployment](c.world, "demo-"+stable)
	if d := cmp.Diff(before.Spec, after.Spec); d != "" {
		t.Errorf("the Deployment of the stable revision was changed (-before +after):\n%s", d)
	}
	c.until("the second group", func() bool { return len(c.aws.Groups) == 2 })
}
