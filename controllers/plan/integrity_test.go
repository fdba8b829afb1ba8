// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// keyStory reconciles while the integrity key is rotated.
type keyStory struct {
	*world
	period time.Duration
	// drawn counts the keys that were drawn, of which few are used.
	drawn int
	plan  Plan
	lines []string
}

func aKeyStory(t *testing.T, period time.Duration) *keyStory {
	return &keyStory{world: aWorld(t, aFlagCache()).ready(), period: period}
}

// reconcile applies a plan with rotation, and another key each time.
func (s *keyStory) reconcile() {
	s.drawn++
	snapshot := s.snapshot()
	snapshot.Operator.KeyPeriod = s.period
	snapshot.Fresh.IntegrityKey = secret.New(fmt.Sprintf("key-%d", s.drawn))
	s.plan = Make(snapshot)
	for _, o := range s.plan.Apply {
		s.put(o)
	}
	s.fc.Status = s.plan.Status
}

// keys are the keys of cached values in the Secret: the one to seal with, and the others.
func (s *keyStory) keys() (seals string, accepts []string) {
	data := mustFind[*corev1.Secret](s.world, "demo-integrity").Data
	for _, name := range []string{"hmac-key", "hmac-key-next", "hmac-key-previous"} {
		if data[name] != nil {
			accepts = append(accepts, string(data[name]))
		}
	}
	return string(data["hmac-key"]), accepts
}

// step reconciles after a time, and records the Secret.
func (s *keyStory) step(after time.Duration, what string) {
	s.now = s.now.Add(after)
	s.reconcile()
	o := mustFind[*corev1.Secret](s.world, "demo-integrity")
	var keys []string
	for _, name := range slices.Sorted(maps.Keys(o.Data)) {
		keys = append(keys, fmt.Sprintf("%s=%s", name, o.Data[name]))
	}
	s.lines = append(s.lines, fmt.Sprintf("%-46s %s since %s, again in %s", what, strings.Join(keys, " "), o.Annotations[v1alpha1.AnnotationKeyStep], s.plan.RequeueAfter))
}

// TestIntegrityKeyIsReplacedInTwoSteps: the next key is announced, and used a period later.
func TestIntegrityKeyIsReplacedInTwoSteps(t *testing.T) {
	s := aKeyStory(t, 24*time.Hour)
	s.step(0, "the operator is upgraded")
	stable, template := s.fc.Status.Revisions.Stable, mustFind[*appsv1.Deployment](s.world, "demo-"+s.fc.Status.Revisions.Stable).Spec.Template
	s.step(0, "the time is on record")
	s.step(23*time.Hour, "too early")
	s.step(4*time.Hour, "the next key is announced")
	s.step(time.Second, "nothing else is due")
	s.step(27*time.Hour, "it is used")
	s.step(27*time.Hour, "another one is announced, the previous one ends")
	s.step(-2*time.Hour, "the clock was wrong: it begins again")
	s.step(10*24*time.Hour, "the operator was down: one step")
	s.step(0, "and no other at once")
	mustFind[*corev1.Secret](s.world, "demo-integrity").Annotations = nil
	s.step(100*24*time.Hour, "the time was lost: it begins again")
	s.fc.Spec.Suspend = true
	s.step(27*time.Hour, "suspended: nothing changes")
	s.fc.Spec.Suspend = false
	s.step(time.Minute, "resumed")
	s.period = 0
	s.step(100*24*time.Hour, "switched off")
	expectGolden(t, "integrity-key.golden", strings.Join(s.lines, "\n")+"\n")

	if got := s.fc.Status.Revisions.Stable; got != stable || observed.ToJSON(mustFind[*appsv1.Deployment](s.world, "demo-"+got).Spec.Template) != observed.ToJSON(template) {
		t.Error("the rotation replaces pods")
	}
	s.children = without(s.children, mustFind[*appsv1.Deployment](s.world, "demo-"+stable))
	s.fc.Spec.Service.Image = "flag-service:v2"
	s.reconcile()
	if got := observed.ToJSON(mustFind[*appsv1.Deployment](s.world, "demo-"+stable).Spec.Template); got != observed.ToJSON(template) {
		t.Errorf("the Deployment of the stable revision is not made again from its record: %s", got)
	}
}

// TestReadersKnowKeysBeforeWritersUseThem: whatever version of the Secret any two pods have,
// each accepts what the other one seals, while kubelets are behind by most of a period, and
// the operator reconciles at any times.
func TestReadersKnowKeysBeforeWritersUseThem(t *testing.T) {
	type version struct {
		since   time.Time
		seals   string
		accepts []string
	}
	const period = 10 * time.Minute
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := aKeyStory(t, period)
		var versions []version
		for range 200 {
			s.now = s.now.Add(time.Duration(random.Int64N(int64(period))))
			s.reconcile()
			seals, accepts := s.keys()
			versions = append(versions, version{s.now, seals, accepts})
		}
		used := map[string]bool{}
		for i, now := range versions {
			used[now.seals] = true
			for j := i; j >= 0; j-- {
				behind := versions[j]
				if !slices.Contains(behind.accepts, now.seals) || !slices.Contains(now.accepts, behind.seals) {
					t.Fatalf("seed %d: a pod with %+v and one with %+v do not accept each other's documents", seed, behind, now)
				}
				if now.since.Sub(behind.since) > period {
					break // behind was replaced at most a period before
				}
			}
		}
		if len(used) < 10 {
			t.Fatalf("seed %d: %d keys were used", seed, len(used))
		}
	}
}
