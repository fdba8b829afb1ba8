// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// smoke is how many plans are played where FAULT_PLANS does not say: a few
// seconds' worth.
const smoke = 1000

// wanted is about how many plans to play, of all that there are: FAULT_PLANS, a
// number or "all".
func wanted(t *testing.T) int {
	t.Helper()
	text := os.Getenv("FAULT_PLANS")
	switch text {
	case "":
		return smoke
	case "all":
		return math.MaxInt
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("FAULT_PLANS=%s is neither a number of plans nor all", text)
	}
	return n
}

// sweep is a family of plans.
type sweep struct {
	name  string
	plans func(*reference) []plan
}

var sweeps = []sweep{
	{"single faults", (*reference).singleFaults},
	{"events in the middle", (*reference).intruded},
	{"old views", (*reference).skewed},
	{"wake-ups", (*reference).woken},
	{"clock", (*reference).jumped},
	{"order of actors", (*reference).orders},
	{"kept memory", (*reference).remembered},
	{"two at a time", (*reference).paired},
	{"leaders in turn", (*reference).switched},
}

// references are the reference runs, made once.
var references = map[string]*reference{}

func referenceOf(t *testing.T, name string) *reference {
	t.Helper()
	if r, ok := references[name]; ok {
		return r
	}
	s, ok := scenarioNamed(name)
	if !ok {
		t.Fatalf("there is no scenario %q", name)
	}
	r := refer(s, silentLooksThorough)
	references[name] = r
	for _, text := range r.broken {
		t.Errorf("scenario %s, with nothing going wrong: %s", name, text)
	}
	return r
}

// TestConvergence plays plans of every scenario.
func TestConvergence(t *testing.T) {
	total := tally{seed: seed, scenarios: len(scenarios)}
	for _, s := range scenarios {
		r := referenceOf(t, s.name)
		total.points += len(r.trace)
		for _, sw := range sweeps {
			total.of += len(sw.plans(r))
		}
	}
	if t.Failed() {
		return
	}
	share := float64(wanted(t)) / float64(total.of)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			r := referenceOf(t, s.name)
			for _, sw := range sweeps {
				t.Run(sw.name, func(t *testing.T) {
					all := sw.plans(r)
					plans := sampled(all, share)
					wrong := r.playAll(plans)
					total.runs, total.bad = total.runs+len(plans), total.bad+len(wrong)
					t.Logf("%5d of %5d plans, %d bad", len(plans), len(all), len(wrong))
					report(t, wrong)
				})
			}
		})
	}
	fmt.Println(total)
}

// tally is what was done.
type tally struct {
	scenarios, points, runs, of, bad int
	seed                             uint64
}

func (n tally) String() string {
	return fmt.Sprintf("fault: %d scenarios, %d points, %d runs of %d plans (seed %d), %d bad", n.scenarios, n.points, n.runs, n.of, n.seed, n.bad)
}

// sampled are about that share of the plans. Whether a plan is among them
// depends on its line and on the seed alone, so it is in any larger sample too.
func sampled(plans []plan, share float64) []plan {
	var some []plan
	for _, p := range plans {
		h := fnv.New32a()
		fmt.Fprint(h, seed, p)
		if float64(h.Sum32()) < share*(1<<32) {
			some = append(some, p)
		}
	}
	return some
}

// shown is how many failures of a sweep are told in full.
const shown = 3

func report(t *testing.T, wrong []bad) {
	t.Helper()
	for i, b := range wrong {
		if i == shown {
			t.Errorf("and %d more", len(wrong)-shown)
			return
		}
		var text strings.Builder
		for _, f := range b.found {
			fmt.Fprintf(&text, "\n  %s: %s", f.oracle, f.text)
		}
		t.Errorf("%s\nreplay it with its film: FC_PLAN='%s' go test -run TestReplay -v ./test/fault", text.String(), b.plan)
	}
}

// TestReplay plays the plan of FC_PLAN and shows its film.
func TestReplay(t *testing.T) {
	line := os.Getenv("FC_PLAN")
	if line == "" {
		line = "scenario=newRevision;17:applied:1"
	}
	p, err := parsePlan(line)
	if err != nil {
		t.Fatal(err)
	}
	r := referenceOf(t, p.scenario)
	w, film := filmed(r, p)
	if os.Getenv("FC_PLAN") != "" {
		t.Log(p.String() + "\n" + strings.Join(film, "\n"))
	}
	report(t, judged(p, r.judge(p, w)))
}

// filmed plays a plan from the beginning.
func filmed(r *reference, p plan) (*World, []string) {
	var film []string
	w := newWorld(r.scenario, p)
	w.film = &film
	w.run(silentLooks)
	return w, film
}

func judged(p plan, found []finding) []bad {
	if len(found) == 0 {
		return nil
	}
	return []bad{{p, found}}
}

// TestRegressions plays what once went wrong.
func TestRegressions(t *testing.T) {
	for name, line := range regressions {
		t.Run(name, func(t *testing.T) {
			p, err := parsePlan(line)
			if err != nil {
				t.Fatal(err)
			}
			r := referenceOf(t, p.scenario)
			report(t, judged(p, r.play(p)))
		})
	}
}

// regressions are plans that found a defect, by what a user would have seen.
// Numbers of calls and looks move when scenarios or the operator change; the
// mutants keep the defects themselves.
var regressions = map[string]string{
	"a conflict that lasts is not retried five times a second":                           "scenario=createExternal;30:conflict:0",
	"an old view of Secrets makes no Deployments without end":                            "scenario=createInCluster;skew=3:Secret:3:false",
	"an old view of Deployments moves no traffic to pods that start":                     "scenario=newRevision;skew=10:Deployment:5:false",
	"a Deployment that was just deleted gets no traffic":                                 "scenario=revisionAndBack;skew=14:Deployment:1:false",
	"an old view of the Service does not delete the revision that serves":                "scenario=revisionAndBack;skew=17:Service:3:false",
	"an old spec does not scale down what serves":                                        "scenario=scale;skew=11:FlagCache:3:false",
	"no children are made for a FlagCache that is gone":                                  "scenario=delete;skew=16:FlagCache:8:false",
	"a leader that was held up does not have the last word":                              "scenario=childrenDeleted;185:overtaken:1",
	"labels that were taken away come back":                                              "scenario=childrenEdited",
	"a lost Secret does not cut the pods off their cache":                                "scenario=externalSecretDeleted",
	"a rejected candidate does not come and go while that cannot be recorded":            "scenario=canaryRolledBack;224:cancelled:3;279:conflict:0",
	"a rejection that cannot be recorded is not taken back":                              "scenario=canaryRolledBack;268:forbidden:0",
	"a candidate does not grow and shrink while nothing can be recorded":                 "scenario=canaryPromoted;373:lost:0",
	"a load test does not begin again and again":                                         "scenario=canaryLoadTested;139:unavailable:0",
	"by Replicas no candidate has a share before its trial":                              "scenario=canaryByReplicasSuperseded",
	"a clock that went back does not keep a cache from being made":                       "scenario=elastiCacheOverQuota;jump=13:-24h0m0s",
	"a clock that went back does not keep the old revision":                              "scenario=canaryPromoted;jump=31:-24h0m0s",
	"a retry is not judged by the end of the trial before":                               "scenario=canaryRetried;466:internal:1;memory=kept",
	"the result of a load test is not lost":                                              "scenario=canaryLoadTestFails;262:internal:1",
	"a step that is not on record does not wake the operator":                            "scenario=canaryByGatewayDeleted;147:forbidden:0",
	"a rollback for want of evidence is not taken back while it cannot be recorded":      "scenario=canaryInconclusive;505:conflict:0",
	"an end that cannot be recorded does not write the status again and again":           "scenario=canarySuperseded;353:tooMany:0",
	"a trial whose beginning cannot be recorded does not begin to count again and again": "scenario=canaryCrashes;147:quota:0",
	"a rollback before its candidate's share could be written ends like any other":       "scenario=canaryInconclusive;149:quota:0",
	"a retry that was taken away tries nothing again":                                    "scenario=canaryRetried;skew=31:FlagCache:2:true",
}

// TestARunIsTheSameEveryTime is what replaying rests on.
func TestARunIsTheSameEveryTime(t *testing.T) {
	for _, line := range []string{"scenario=createInCluster;20:applied:1", "scenario=autoscaled;100:crashAfter:3", "scenario=newRevision;skew=6:all:3:true", "scenario=canaryByGateway;300:lost:3", "scenario=elastiCacheRotated;500:crashAfter:1"} {
		p, err := parsePlan(line)
		if err != nil {
			t.Fatal(err)
		}
		if p.String() != line {
			t.Errorf("plan %q is written as %q", line, p)
		}
		r := referenceOf(t, p.scenario)
		_, first := filmed(r, p)
		_, second := filmed(r, p)
		if d := lineDiff(strings.Join(first, "\n"), strings.Join(second, "\n")); d != "" {
			t.Errorf("%s: two runs of one plan differ:\n%s", line, d)
		}
	}
}

// TestForeseeing compares what a run comes to when its end is taken from memory
// with what it comes to when it is played.
func TestForeseeing(t *testing.T) {
	for _, name := range []string{"newRevision", "canaryInTwoSteps", "canaryRetried", "canaryByGateway", "canaryLoadTested", "elastiCacheReplaced", "elastiCacheFailsOnce", "elastiCacheRotated", "elastiCacheWithoutACK", "elastiCacheLost"} {
		t.Run(name, func(t *testing.T) { foresee(t, referenceOf(t, name)) })
	}
}

// foreseen is about how many plans of a scenario are compared.
const foreseen = 40

func foresee(t *testing.T, r *reference) {
	t.Helper()
	plans := r.singleFaults()
	for i := 0; i < len(plans); i += len(plans)/foreseen + 1 {
		remembering := r.begin(plans[i])
		remembering.memo, remembering.common = r.memo, r.common
		remembering.run(silentLooks)
		played := newWorld(r.scenario, plans[i])
		played.run(silentLooks)
		if remembering.final != played.final || remembering.effort.looks != played.effort.looks {
			t.Errorf("%s: foreseen %d looks, played %d; final states differ:\n%s", plans[i], remembering.effort.looks, played.effort.looks,
				lineDiff(played.final, remembering.final))
		}
	}
}
