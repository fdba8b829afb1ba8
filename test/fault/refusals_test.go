// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// story is a World whose user and AWS act by hand, and what a user and AWS see of it, a line for
// each change.
type story struct {
	t *testing.T
	*World
	lines []string
	// seen are the lines of the conditions.
	seen map[string]string
}

// toldConditions are those that a story shows.
var toldConditions = []string{
	v1alpha1.ConditionCacheProvisioned, v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled,
}

// aStory begins with a FlagCache that is Ready, unless AWS keeps it from that within five minutes.
func aStory(t *testing.T, created step, before ...step) *story {
	t.Helper()
	s := scenario{name: t.Name(), inCloud: true}
	w := newWorld(s, plan{scenario: s.name})
	w.log = &[]string{}
	story := &story{t: t, World: w, seen: map[string]string{}}
	for _, b := range append(before, created) {
		w.as("user", func() { b.do(w) })
	}
	story.run(5 * time.Minute)
	story.lines = nil
	return story
}

// fork continues in a copy.
func (s *story) fork(t *testing.T) *story {
	w := s.World.fork(s.plan)
	w.log = &[]string{}
	return &story{t: t, World: w, seen: maps.Clone(s.seen)}
}

// do lets somebody act, and runs the World for a time.
func (s *story) do(what string, act func(*World), long time.Duration) {
	s.lines = append(s.lines, "# "+what)
	s.setTime(s.time.Add(10 * tick))
	s.as("user", func() { act(s.World) })
	s.nextTick = s.time.Add(tick)
	s.run(long)
}

// run advances the World for a time.
func (s *story) run(long time.Duration) {
	s.t.Helper()
	for end := s.time.Add(long); s.time.Before(end); {
		s.advance(false)
		s.tell()
	}
	for _, violation := range s.violations {
		s.t.Error(violation)
	}
	s.violations = nil
}

// tell adds the calls to AWS and the conditions that have changed.
func (s *story) tell() {
	for _, line := range *s.log {
		if call, ok := strings.CutPrefix(strings.TrimSpace(line), "AWS "); ok {
			s.lines = append(s.lines, strings.TrimSpace("AWS "+call))
		}
	}
	*s.log = nil
	fc, ok := live[*v1alpha1.FlagCache](&s.api.store, flagCaches, name)
	if !ok {
		if len(s.seen) > 0 {
			s.lines = append(s.lines, "the FlagCache does not exist")
		}
		s.seen = map[string]string{}
		return
	}
	for _, kind := range toldConditions {
		line := "-"
		if c := meta.FindStatusCondition(fc.Status.Conditions, kind); c != nil {
			line = fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
		if kind == v1alpha1.ConditionStalled || kind == v1alpha1.ConditionReconciling {
			line, _, _ = strings.Cut(line, ":") // the message is that of Ready or of CacheProvisioned
		}
		if s.seen[kind] != line {
			s.lines = append(s.lines, "  "+kind+" "+line)
			s.seen[kind] = line
		}
	}
}

// condition returns a condition of the FlagCache.
func (s *story) condition(kind string) metav1.Condition {
	s.t.Helper()
	fc, ok := live[*v1alpha1.FlagCache](&s.api.store, flagCaches, name)
	if !ok {
		s.t.Fatal("the FlagCache does not exist")
	}
	c := meta.FindStatusCondition(fc.Status.Conditions, kind)
	if c == nil {
		return metav1.Condition{Status: metav1.ConditionUnknown}
	}
	return *c
}

// expect checks a condition.
func (s *story) expect(kind string, status metav1.ConditionStatus, reason string) {
	s.t.Helper()
	if c := s.condition(kind); c.Status != status || c.Reason != reason {
		s.t.Errorf("%s is %s (%s: %s), want %s (%s)", kind, c.Status, c.Reason, c.Message, status, reason)
	}
}

// expectReady checks that the spec is carried out.
func (s *story) expectReady() {
	s.t.Helper()
	s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionTrue, v1alpha1.ReasonProvisioned)
	s.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	s.expect(v1alpha1.ConditionReconciling, metav1.ConditionUnknown, "")
}

// expectGolden compares what was told with a golden file.
func expectGolden(t *testing.T, file string, lines []string) {
	t.Helper()
	path, got := filepath.Join("testdata", file), strings.Join(lines, "\n")+"\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading the golden file (write it with -update): %v", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("differs from %s (-want +got), rewrite it with -update if that is right:\n%s", path, d)
	}
}

// reasonOf a refusal is in CacheProvisioned, whether or not the group is in use.
func TestRefusedChangeOfAGroupInUse(t *testing.T) {
	ready := aStory(t, createElastiCache)
	ready.expectReady()
	const denied = "User: arn:aws:iam::123456789012:user/ack is not authorized to perform: elasticache:ModifyReplicationGroup"
	for name, test := range map[string]struct {
		refuse func(*World)
		reason string
		// ready is the status of Ready meanwhile.
		ready metav1.ConditionStatus
	}{
		"denied":    {func(w *World) { w.cloud.Refuse("ModifyReplicationGroup", "AccessDenied", denied, -1) }, v1alpha1.ReasonAWSAccessDenied, metav1.ConditionFalse},
		"throttled": {func(w *World) { w.cloud.Refuse("ModifyReplicationGroup", "Throttling", "Rate exceeded", -1) }, v1alpha1.ReasonAWSRetrying, metav1.ConditionTrue},
		"over quota": {func(w *World) {
			w.cloud.Refuse("ModifyReplicationGroup", "NodeQuotaForCustomerExceeded", "Too many nodes.", -1)
		}, v1alpha1.ReasonAWSQuotaExceeded, metav1.ConditionFalse},
		"rolled back": {func(w *World) { w.cloud.RollBack = 1 }, v1alpha1.ReasonAWSRejected, metav1.ConditionFalse},
	} {
		t.Run(name, func(t *testing.T) {
			s := ready.fork(t)
			s.events = nil
			s.do("request larger nodes", func(w *World) { test.refuse(w); requestNodes("cache.t3.small")(w) }, 3*time.Minute)
			s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, test.reason)
			if c := s.condition(v1alpha1.ConditionReady); c.Status != test.ready {
				t.Errorf("Ready is %s (%s)", c.Status, c.Reason)
			}
			s.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
			if !slices.ContainsFunc(s.events, func(e string) bool { return strings.Contains(e, test.reason) }) {
				t.Errorf("there is no event with the reason: %q", s.events)
			}
			s.do("take that back, while AWS still refuses", requestNodes("cache.t3.micro"), 3*time.Minute)
			s.expectReady()
			expectGolden(t, "refused-change-"+strings.ReplaceAll(name, " ", "-")+".golden", s.lines)
		})
	}
}
