// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// writesIn counts the changes of records and of the status in a time.
func (sim *simulation) writesIn(long time.Duration) (records, statuses int) {
	texts := func() map[string]string {
		all := map[string]string{}
		for _, holder := range observed.All[*appsv1.ControllerRevision](sim.index()) {
			all[holder.Name] = holder.Annotations[v1alpha1.AnnotationRecord]
		}
		return all
	}
	for end := sim.now.Add(long); sim.now.Before(end); {
		before, status := texts(), *sim.fc.Status.DeepCopy()
		sim.tick()
		if !cmp.Equal(before, texts()) {
			records++
		}
		if !cmp.Equal(status, sim.fc.Status) {
			statuses++
		}
	}
	return records, statuses
}

// TestWritesAtRest: a canary that waits for a person, or for pods, writes nothing that
// only moves a clock, and counts once a minute.
func TestWritesAtRest(t *testing.T) {
	inconclusive := func(sim *simulation) string {
		sim.fc.Spec.Canary.MinimumRequests = 1_000_000_000
		candidate := v2(sim)
		sim.until("the deadline", func() bool {
			return sim.condition(v1alpha1.ConditionRolloutHealthy).Reason == v1alpha1.ReasonCanaryInconclusive
		})
		return candidate
	}
	paused := func(sim *simulation) string {
		candidate := v2(sim)
		sim.runFor(time.Minute)
		sim.annotate(v1alpha1.AnnotationPause, candidate)
		return candidate
	}
	stuck := func(sim *simulation) string {
		sim.podsStuck = true
		sim.change(fromImage("flag-service:v2"))
		return sim.candidate()
	}
	for name, test := range map[string]struct {
		begin     func(*simulation) string
		perSecond float64
		max       int
	}{
		"inconclusive, without traffic": {begin: inconclusive},
		"inconclusive, with traffic":    {begin: inconclusive, perSecond: 200, max: 11},
		"paused, without traffic":       {begin: paused},
		"paused, with traffic":          {begin: paused, perSecond: 200, max: 11},
		"waiting for pods":              {begin: stuck, perSecond: 200, max: 11},
	} {
		t.Run(name, func(t *testing.T) {
			sim := newSimulation(t, withCanary(aFlagCache()))
			candidate := test.begin(sim)
			sim.perSecond, sim.lookups = test.perSecond, 0
			sim.runFor(2 * time.Minute) // what was counted before is recorded
			records, statuses := sim.writesIn(10 * time.Minute)
			if records > test.max || statuses > test.max {
				t.Errorf("%d records and %d statuses are written in ten minutes, want at most %d", records, statuses, test.max)
			}
			if test.perSecond > 0 && !sim.podsStuck {
				sim.setBad(candidate, canary.ErrorRate, 0.5)
				sim.runFor(30 * time.Second)
				if !sim.rolledBack() {
					t.Error("a breach is not noticed")
				}
			}
		})
	}
}

// TestDeadlineOfAStep: the deadline in the status is not before the duration of the step,
// which no policy for too little evidence cuts short.
func TestDeadlineOfAStep(t *testing.T) {
	for name, test := range map[string]struct{ deadline, duration, want time.Duration }{
		"the deadline is later": {deadline: 6 * time.Hour, duration: time.Hour, want: 6 * time.Hour},
		"the step is longer":    {deadline: time.Hour, duration: 2 * time.Hour, want: 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			sim := newSimulation(t, withCanary(aFlagCache()))
			spec := sim.fc.Spec.Canary
			spec.Deadline.Duration, spec.Steps[0].Duration.Duration = test.deadline, test.duration
			v2(sim)
			sim.runFor(time.Minute)
			shown := sim.fc.Status.Canary
			if got := shown.DeadlineAt.Sub(shown.StepStartedAt.Time); got != test.want {
				t.Errorf("the deadline is %s after the beginning of the step, want %s", got, test.want)
			}
		})
	}
}
