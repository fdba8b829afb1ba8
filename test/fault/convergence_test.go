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

// defaultPlans is how many plans are run without FAULT_PLANS, in a few seconds.
const defaultPlans = 1000

// planCount returns approximately how many plans to run: FAULT_PLANS, a number or "all".
func planCount(t *testing.T) int {
	t.Helper()
	text := os.Getenv("FAULT_PLANS")
	switch text {
	case "":
		return defaultPlans
	case "all":
		return math.MaxInt
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("FAULT_PLANS=%s must be a number or all", text)
	}
	return n
}

// planFamily is a family of plans.
type planFamily struct {
	name  string
	plans func(*reference) []plan
}

var planFamilies = []planFamily{
	{"single faults", (*reference).singleFaults},
	{"concurrent events", (*reference).withEvents},
	{"stale caches", (*reference).withStaleViews},
	{"watch events", (*reference).withQueueFaults},
	{"clock", (*reference).withClockJumps},
	{"order of controllers", (*reference).withOrders},
	{"retained memory", (*reference).withMemory},
	{"pairs", (*reference).withTwoFaults},
	{"leader changes", (*reference).withLeaderChanges},
}

// references caches the reference runs.
var references = map[string]*reference{}

func referenceOf(t *testing.T, name string) *reference {
	t.Helper()
	if r, ok := references[name]; ok {
		return r
	}
	s, ok := findScenario(name)
	if !ok {
		t.Fatalf("unknown scenario %q", name)
	}
	r := newReference(s, steadyReconcilesThorough)
	references[name] = r
	for _, text := range r.violations {
		t.Errorf("reference run of scenario %s: %s", name, text)
	}
	return r
}

// TestConvergence runs plans of every scenario.
func TestConvergence(t *testing.T) {
	total := summary{seed: seed, scenarios: len(scenarios)}
	for _, s := range scenarios {
		r := referenceOf(t, s.name)
		total.points += len(r.trace)
		for _, sw := range planFamilies {
			total.of += len(sw.plans(r))
		}
	}
	if t.Failed() {
		return
	}
	share := float64(planCount(t)) / float64(total.of)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			r := referenceOf(t, s.name)
			for _, sw := range planFamilies {
				t.Run(sw.name, func(t *testing.T) {
					all := sw.plans(r)
					plans := samplePlans(all, share)
					wrong := r.checkAll(plans)
					total.runs, total.bad = total.runs+len(plans), total.bad+len(wrong)
					t.Logf("%5d of %5d plans, %d failed", len(plans), len(all), len(wrong))
					report(t, wrong)
				})
			}
		})
	}
	fmt.Println(total)
}

// summary counts what was run.
type summary struct {
	scenarios, points, runs, of, bad int
	seed                             uint64
}

func (n summary) String() string {
	return fmt.Sprintf("fault: %d scenarios, %d points, %d runs of %d plans (seed %d), %d failed", n.scenarios, n.points, n.runs, n.of, n.seed, n.bad)
}

// samplePlans returns a share of the plans. The selection depends only on the text of a plan and on
// the seed, so a larger sample includes a smaller one.
func samplePlans(plans []plan, share float64) []plan {
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

// maxReported is how many failures of a family are printed.
const maxReported = 3

func report(t *testing.T, wrong []failure) {
	t.Helper()
	for i, b := range wrong {
		if i == maxReported {
			t.Errorf("and %d more", len(wrong)-maxReported)
			return
		}
		var text strings.Builder
		for _, f := range b.findings {
			fmt.Fprintf(&text, "\n  %s: %s", f.oracle, f.text)
		}
		t.Errorf("%s\nreplay it with its log: FC_PLAN='%s' go test -run TestReplay -v ./test/fault", text.String(), b.plan)
	}
}

// TestReplay runs the plan in FC_PLAN and prints its log.
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
	w, log := runWithLog(r, p)
	if os.Getenv("FC_PLAN") != "" {
		t.Log(p.String() + "\n" + strings.Join(log, "\n"))
	}
	report(t, asFailures(p, r.compare(p, w)))
}

// runWithLog runs a plan from the beginning of its scenario.
func runWithLog(r *reference, p plan) (*World, []string) {
	var log []string
	w := newWorld(r.scenario, p)
	w.log = &log
	w.runToEnd(steadyReconciles)
	return w, log
}

func asFailures(p plan, found []finding) []failure {
	if len(found) == 0 {
		return nil
	}
	return []failure{{p, found}}
}

// TestRegressions runs plans that once failed.
func TestRegressions(t *testing.T) {
	for name, line := range regressions {
		t.Run(name, func(t *testing.T) {
			p, err := parsePlan(line)
			if err != nil {
				t.Fatal(err)
			}
			r := referenceOf(t, p.scenario)
			report(t, asFailures(p, r.check(p)))
		})
	}
}

// regressions are plans that detected a defect, by its symptom. The numbers of calls and
// reconciliations shift when scenarios or the operator change; the seeded bugs preserve the defects
// themselves.
var regressions = map[string]string{
	"a permanent conflict is retried with back-off":                                    "scenario=createExternal;30:conflict:0",
	"a stale cache of Secrets does not create Deployments endlessly":                   "scenario=createInCluster;stale=3:Secret:3:false",
	"a stale cache of Deployments does not switch traffic to starting pods":            "scenario=newRevision;stale=10:Deployment:5:false",
	"a Deployment that was just deleted gets no traffic":                               "scenario=revisionReverted;stale=14:Deployment:1:false",
	"a stale cache of Services does not delete the stable revision":                    "scenario=revisionReverted;stale=17:Service:3:false",
	"a stale spec does not scale down the stable revision":                             "scenario=scale;stale=11:FlagCache:3:false",
	"no children are created for a deleted FlagCache":                                  "scenario=delete;stale=16:FlagCache:8:false",
	"a delayed leader does not overwrite its successor":                                "scenario=childrenDeleted;185:leaderChanged:1",
	"removed labels are restored":                                                      "scenario=childrenEdited",
	"a deleted Secret does not disconnect the pods from their cache":                   "scenario=externalSecretDeleted",
	"a rejection that cannot be recorded does not scale the candidate up and down":     "scenario=canaryRolledBack;224:cancelled:3;279:conflict:0",
	"a rejection that cannot be recorded is not withdrawn":                             "scenario=canaryRolledBack;268:forbidden:0",
	"a step that cannot be recorded does not scale the candidate up and down":          "scenario=canaryPromoted;373:lost:0",
	"a load test is not restarted repeatedly":                                          "scenario=canaryLoadTested;139:unavailable:0",
	"with Replicas no candidate has a share before its canary starts":                  "scenario=canaryByReplicasSuperseded",
	"a clock that is set back does not block the creation of a cache":                  "scenario=elastiCacheOverQuota;jump=13:-24h0m0s",
	"a clock that is set back does not keep the previous revision":                     "scenario=canaryPromoted;jump=31:-24h0m0s",
	"a retry is not evaluated with the end of the previous canary":                     "scenario=canaryRetried;466:internal:1;memory=retained",
	"the result of a load test is not lost":                                            "scenario=canaryLoadTestFails;262:internal:1",
	"a step that is not recorded does not trigger the operator":                        "scenario=canaryByGatewayDeleted;147:forbidden:0",
	"an inconclusive rollback that cannot be recorded is not withdrawn":                "scenario=canaryInconclusive;505:conflict:0",
	"an outcome that cannot be recorded does not write the status repeatedly":          "scenario=canarySuperseded;353:tooMany:0",
	"a canary whose start cannot be recorded does not restart its counters repeatedly": "scenario=canaryCrashes;147:quota:0",
	"a rollback before the candidate's share was written ends like any other":          "scenario=canaryInconclusive;149:quota:0",
	"a removed retry annotation retries nothing":                                       "scenario=canaryRetried;stale=37:FlagCache:2:true",
	"the time before a step has its share does not count":                              "scenario=canaryByReplicas;659:tooMany:0;692:unavailable:3",
	"flags that were not seen for a while are not missing for good":                    "scenario=createBeforeDependencies;stale=10:ConfigMap:2:true",
	"Redis is not restarted with a configuration that could not be stored":             "scenario=reconfigured;182:internal:0;215:invalid:0",
}

// TestRunsAreDeterministic verifies that a plan can be replayed.
func TestRunsAreDeterministic(t *testing.T) {
	for _, line := range []string{"scenario=createInCluster;20:applied:1", "scenario=autoscaled;100:crashAfter:3", "scenario=newRevision;stale=6:all:3:true", "scenario=canaryByGateway;300:lost:3", "scenario=elastiCacheRotated;500:crashAfter:1"} {
		p, err := parsePlan(line)
		if err != nil {
			t.Fatal(err)
		}
		if p.String() != line {
			t.Errorf("plan %q is printed as %q", line, p)
		}
		r := referenceOf(t, p.scenario)
		_, first := runWithLog(r, p)
		_, second := runWithLog(r, p)
		if d := lineDiff(strings.Join(first, "\n"), strings.Join(second, "\n")); d != "" {
			t.Errorf("%s: two runs of one plan differ:\n%s", line, d)
		}
	}
}

// TestMemoMatchesExecution compares runs that ended early because their result was known with
// complete runs.
func TestMemoMatchesExecution(t *testing.T) {
	for _, name := range []string{"newRevision", "keysRotated", "publishedFlagsForged", "canaryInTwoSteps", "canaryRetried", "canaryByGateway", "canaryLoadTested", "canaryRecordRepaired", "canaryRejectionOverwritten", "elastiCacheReplaced", "elastiCacheChangeOverwritten", "elastiCacheFailsOnce", "elastiCacheOverspending", "elastiCacheRotated", "elastiCacheWithoutACK", "elastiCacheLost"} {
		t.Run(name, func(t *testing.T) { compareWithMemo(t, referenceOf(t, name)) })
	}
}

// comparedPlans is approximately how many plans of a scenario are compared.
const comparedPlans = 40

func compareWithMemo(t *testing.T, r *reference) {
	t.Helper()
	plans := r.singleFaults()
	for i := 0; i < len(plans); i += len(plans)/comparedPlans + 1 {
		memoized := r.fork(plans[i])
		memoized.memo, memoized.common = r.memo, r.common
		memoized.runToEnd(steadyReconciles)
		complete := newWorld(r.scenario, plans[i])
		complete.runToEnd(steadyReconciles)
		if memoized.final != complete.final || memoized.effort.reconciles != complete.effort.reconciles {
			t.Errorf("%s: %d reconciliations with the memo, %d without; final states:\n%s", plans[i], memoized.effort.reconciles, complete.effort.reconciles,
				lineDiff(complete.final, memoized.final))
		}
	}
}
