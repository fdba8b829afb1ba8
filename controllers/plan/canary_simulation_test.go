// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/service/config"
)

// interval between two reconciles of the scenarios.
const interval = 10 * time.Second

// simulation is a world with traffic, a clock, and pods that become available by
// themselves. It checks the invariants at each reconcile.
type simulation struct {
	*world
	// perSecond are the requests of all clients.
	perSecond float64
	// bad shares of the events of each revision, by check.
	bad map[string]map[canary.Check]float64
	// lookups is how many Redis lookups each revision makes in an interval.
	lookups float64
	// podGeneration is part of the names of streams: pods that restart have another one.
	podGeneration int
	// origin of the evidence; another one has other streams.
	origin string
	// lag of the evidence, and the samples that have not arrived yet.
	lag     time.Duration
	pending []canary.Evidence
	// podsStuck: pods do not become available.
	podsStuck bool
	// lost are revisions without ready pods, partial those with fewer than they should have.
	lost    map[string]bool
	partial map[string]int32
	// conditions: a line has those that report on revisions, too.
	conditions bool
	// metricsDown: there is no evidence.
	metricsDown bool
	counted     map[string]map[canary.Check][2]float64
	local       float64
	names       map[string]string
}

func newSimulation(t *testing.T, fc *v1alpha1.FlagCache) *simulation {
	w := aWorld(t, fc)
	w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache")}}
	sim := &simulation{
		world: w.ready(), perSecond: 200, lookups: 2,
		bad:     map[string]map[canary.Check]float64{},
		counted: map[string]map[canary.Check][2]float64{},
		names:   map[string]string{},
	}
	sim.name(sim.stable())
	return sim
}

func (sim *simulation) stable() string {
	if sim.fc.Status.Revisions == nil {
		return sim.index().Stable
	}
	return sim.fc.Status.Revisions.Stable
}

// name names revisions A, B, C … in the order of their appearance.
func (sim *simulation) name(revision string) string {
	if revision == "" {
		return "-"
	}
	if sim.names[revision] == "" {
		sim.names[revision] = string(rune('A' + len(sim.names)))
	}
	return sim.names[revision]
}

// candidate is the revision that is evaluated.
func (sim *simulation) candidate() string {
	if sim.fc.Status.Revisions == nil {
		return ""
	}
	return sim.fc.Status.Revisions.Candidate
}

// change edits the spec and reconciles once.
func (sim *simulation) change(edit func(*v1alpha1.FlagCacheSpec)) {
	sim.note("the spec changes")
	sim.edit(edit)
	sim.tick()
}

func (sim *simulation) annotate(annotation, value string) {
	sim.note(strings.TrimPrefix(annotation, "flagcache.dev/") + "=" + sim.name(value))
	if sim.fc.Annotations == nil {
		sim.fc.Annotations = map[string]string{}
	}
	sim.fc.Annotations[annotation] = value
}

// expectWarning expects a warning about an annotation, with some texts.
func (sim *simulation) expectWarning(texts ...string) {
	sim.t.Helper()
	warnings := fmt.Sprint(Make(sim.snapshot()).Warnings)
	for _, text := range texts {
		if !strings.Contains(warnings, text) {
			sim.t.Errorf("the warnings %s lack %q", warnings, text)
		}
	}
}

// setBad sets the share of a revision's events that are bad.
func (sim *simulation) setBad(revision string, check canary.Check, share float64) {
	sim.note(fmt.Sprintf("%g %% of %s's %s are bad", share*100, sim.name(revision), check))
	if sim.bad[revision] == nil {
		sim.bad[revision] = map[canary.Check]float64{}
	}
	sim.bad[revision][check] = share
}

// burst is an interval in which a share of a revision's requests fail.
func (sim *simulation) burst(revision string, share float64) {
	sim.setBad(revision, canary.ErrorRate, share)
	sim.tick()
	sim.note("the burst is over")
	delete(sim.bad, revision)
}

// noteBlocks adds a comment with the blocks of the newest canary.
func (sim *simulation) noteBlocks() {
	blocks := readHistory(sim.index()).newest()[0].Canary.Ledger.Blocks
	sim.note(fmt.Sprintf("blocks of requests: %d, and %s of the next", blocks.Complete[canary.ErrorRate].Count, blocks.OpenFor))
}

// runFor reconciles every ten seconds for a duration.
func (sim *simulation) runFor(long time.Duration) {
	for end := sim.now.Add(long); sim.now.Before(end); {
		sim.tick()
	}
}

// until reconciles until a condition holds, for three hours at most.
func (sim *simulation) until(what string, holds func() bool) {
	sim.t.Helper()
	for range 3 * 360 {
		if holds() {
			return
		}
		sim.tick()
	}
	sim.t.Fatalf("%s did not happen within three hours:\n%s", what, strings.Join(sim.trace, "\n"))
}

// jobs are the existing Jobs.
func (sim *simulation) jobs() (jobs []*batchv1.Job) {
	for _, c := range sim.children {
		if job, ok := c.(*batchv1.Job); ok {
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// loadTestEnds finishes the Job of the load test.
func (sim *simulation) loadTestEnds(how batchv1.JobConditionType, test observed.LoadTest) {
	sim.t.Helper()
	sim.loadTestPod(test)
	sim.jobs()[0].Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue}}
}

// loadTestPod sets the state of the pod of the only load test.
func (sim *simulation) loadTestPod(test observed.LoadTest) {
	sim.t.Helper()
	jobs := sim.jobs()
	if len(jobs) != 1 {
		sim.t.Fatalf("there are %d Jobs, want the load test's", len(jobs))
	}
	mustFind[*networkingv1.NetworkPolicy](sim.world, jobs[0].Name)
	sim.loadTests = map[types.UID]observed.LoadTest{jobs[0].UID: test}
}

// recordedState of the candidate's canary.
func (sim *simulation) recordedState() *canary.State {
	return readHistory(sim.index()).records[sim.candidate()].Canary
}

func (sim *simulation) promoted(revision string) func() bool {
	return func() bool { return sim.stable() == revision }
}

func (sim *simulation) rolledBack() bool {
	return sim.fc.Status.Revisions.Rejected != ""
}

// tick lets one interval pass and reconciles once.
func (sim *simulation) tick() {
	sim.now = sim.now.Add(interval)
	if !sim.podsStuck {
		sim.podsAvailable()
	}
	for revision := range sim.lost {
		if d := sim.index().Revisions[revision]; d != nil {
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: ptr.Deref(d.Spec.Replicas, 1)}
		}
	}
	for revision, ready := range sim.partial {
		if d := sim.index().Revisions[revision]; d != nil {
			d.Status.ReadyReplicas, d.Status.AvailableReplicas = ready, ready
		}
	}
	sim.countTraffic()
	sim.reconcileOnce()
}

// reconcileOnce reconciles, checks the invariants, and adds a line to the trace if the
// state changed.
func (sim *simulation) reconcileOnce() {
	weight, rejected := sim.weight(), sim.recordedOutcome()
	before := len(sim.trace)
	p := sim.reconcile()
	sim.trace = sim.trace[:before]
	sim.invariants(p, weight, rejected)
	if line := sim.frame(); len(sim.trace) == 0 || sim.trace[len(sim.trace)-1] != line {
		sim.trace = append(sim.trace, line)
	}
}

// countTraffic counts the traffic of one interval as the pods do.
func (sim *simulation) countTraffic() {
	weight := float64(sim.weight()) / 100
	candidate, serves := sim.candidate(), sim.stable()
	if selected := sim.index().Selected; sim.index().ReadyPods(selected) > 0 {
		serves = selected
	}
	all := sim.perSecond * interval.Seconds()
	if serves == candidate {
		weight = 0
	}
	sim.count(serves, all*(1-weight))
	if candidate != "" && weight > 0 {
		sim.local += all * (1 - weight)
		sim.count(candidate, all*weight)
	}
	if sim.metricsDown {
		sim.evidence.Missing = "no pod answers"
		return
	}
	sim.evidence = canary.Evidence{At: sim.now, Origin: sim.origin}
	for _, revision := range slices.Sorted(maps.Keys(sim.counted)) {
		stream := canary.Stream{ID: fmt.Sprintf("%s/%s%d", revision, sim.origin, sim.podGeneration), Revision: revision, Counts: canary.Counters{}}
		for check, c := range sim.counted[revision] {
			stream.Counts[check] = analysis.Counts{Bad: int64(c[0]), Total: int64(c[1])}
		}
		if revision == sim.index().Baseline {
			stream.Local = int64(sim.local)
		}
		sim.evidence.Streams = append(sim.evidence.Streams, stream)
	}
	sim.deliverLate()
}

// deliverLate delays the evidence.
func (sim *simulation) deliverLate() {
	if sim.lag == 0 {
		return
	}
	sim.pending = append(sim.pending, sim.evidence)
	sim.evidence = canary.Evidence{}
	for _, e := range sim.pending {
		if !e.At.Add(sim.lag).After(sim.now) {
			sim.evidence, sim.evidence.Lag = e, sim.lag+interval
		}
	}
}

func (sim *simulation) count(revision string, requests float64) {
	if sim.counted[revision] == nil {
		sim.counted[revision] = map[canary.Check][2]float64{}
	}
	for check, n := range map[canary.Check]float64{
		canary.ErrorRate: requests, canary.LatencyP95: requests, canary.LatencyP99: requests,
		canary.CacheHitRate: sim.lookups, canary.MissLatencyP95: sim.lookups * sim.bad[revision][canary.CacheHitRate],
	} {
		c := sim.counted[revision][check]
		sim.counted[revision][check] = [2]float64{c[0] + n*sim.bad[revision][check], c[1] + n}
	}
}

// splitFile is what the stable pods read.
type splitFile struct {
	Revision, Address string
	Weight            int32
}

// split is the file that the stable pods have.
func (sim *simulation) split() (file splitFile) {
	if kept, ok := observed.Get[*corev1.ConfigMap](sim.index(), "demo-traffic"); ok {
		if err := json.Unmarshal([]byte(kept.Data[config.SplitKey]), &file); err != nil {
			sim.t.Fatal(err)
		}
	}
	return file
}

// weight is the candidate's actual share of the traffic in percent.
func (sim *simulation) weight() int32 {
	if c := sim.fc.Spec.Canary; c != nil && c.Traffic.HTTPRouteRef != nil {
		return sim.routedWeight()
	}
	svc, ok := observed.Get[*corev1.Service](sim.index(), "demo")
	if !ok || svc.Spec.Selector[v1alpha1.LabelRevision] != "" {
		return sim.split().Weight
	}
	stable := mustFind[*appsv1.Deployment](sim.world, "demo-"+sim.index().Baseline).Status.AvailableReplicas
	candidate := mustFind[*appsv1.Deployment](sim.world, "demo-"+sim.candidate()).Status.AvailableReplicas
	return 100 * candidate / (candidate + stable)
}

func (sim *simulation) recordedOutcome() map[string]canary.Outcome {
	outcomes := map[string]canary.Outcome{}
	for revision, r := range readHistory(sim.index()).records {
		outcomes[revision] = r.Outcome
	}
	return outcomes
}

// invariants checks what must hold after every reconcile.
func (sim *simulation) invariants(p Plan, weightBefore int32, outcomesBefore map[string]canary.Outcome) {
	sim.t.Helper()
	again := Make(sim.snapshot())
	if !reflectEqual(p.Status.Canary, again.Status.Canary) && sim.split().Revision == again.Status.Revisions.Candidate && len(p.Apply) == 0 {
		sim.t.Errorf("the same observations lead to another decision")
	}
	most := int32(0)
	for _, s := range sim.fc.Spec.Canary.Steps {
		most = max(most, s.Weight)
	}
	if w := sim.weight(); w > most {
		sim.t.Errorf("the weight %d exceeds that of every step", w)
	}
	share := sim.split()
	if r := readHistory(sim.index()).records[share.Revision]; r.Outcome == canary.RolledBack && share.Weight != 0 {
		sim.t.Errorf("revision %s was rolled back and has the weight %d", sim.name(share.Revision), share.Weight)
	}
	if weightBefore > 0 && outcomesBefore[share.Revision] == canary.RolledBack {
		sim.t.Errorf("the weight after a breach is %d", weightBefore)
	}
	for revision, r := range readHistory(sim.index()).records {
		if r.Outcome == canary.RolledBack && r.Reason != sim.pods[revision].Reason && !slices.Contains(RollbackReasons(), r.Reason) {
			sim.t.Errorf("revision %s was rolled back for the unknown reason %q", sim.name(revision), r.Reason)
		}
	}
	sim.capacity()
}

// capacity checks that the stable revision has its full size, and that there is at most
// one candidate.
func (sim *simulation) capacity() {
	sim.t.Helper()
	others := 0
	for _, c := range sim.children {
		d, ok := c.(*appsv1.Deployment)
		if !ok {
			continue
		}
		replicas := ptr.Deref(d.Spec.Replicas, 1)
		name := d.Labels[v1alpha1.LabelRevision]
		switch {
		case name == sim.stable() && replicas < ptr.Deref(sim.fc.Spec.Service.Replicas, revision.DefaultReplicas):
			sim.t.Errorf("the stable revision %s has %d replicas", sim.name(name), replicas)
		case name != sim.stable() && readHistory(sim.index()).records[name].Outcome != canary.Promoted:
			others++
		}
	}
	if others > 1 {
		sim.t.Errorf("there are %d candidates", others)
	}
}

func reflectEqual(a, b *v1alpha1.CanaryStatus) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// frame is the state as users and clients observe it, without counts, which would change
// every line.
func (sim *simulation) frame() string {
	serves := "A+B"
	if svc, ok := observed.Get[*corev1.Service](sim.index(), "demo"); ok && svc.Spec.Selector[v1alpha1.LabelRevision] != "" {
		serves = sim.name(svc.Spec.Selector[v1alpha1.LabelRevision])
	}
	var pods []string
	for _, c := range sim.children {
		if d, ok := c.(*appsv1.Deployment); ok {
			pods = append(pods, fmt.Sprintf("%s×%d", sim.name(d.Labels[v1alpha1.LabelRevision]), ptr.Deref(d.Spec.Replicas, 1)))
		}
	}
	line := fmt.Sprintf("service→%s  weight %d  pods %s", serves, sim.weight(), strings.Join(pods, " "))
	st := sim.fc.Status
	if st.Canary != nil {
		line += fmt.Sprintf("  canary %s step %d", st.Canary.Phase, st.Canary.Step)
		for _, c := range st.Canary.Checks {
			if c.Verdict == string(canary.Breach) {
				line += " " + c.Name + "!"
			}
		}
	}
	if sim.conditions {
		for _, kind := range []string{v1alpha1.ConditionServing, v1alpha1.ConditionRolloutHealthy} {
			c := sim.condition(kind)
			line += fmt.Sprintf("  %s=%s %s", kind, c.Status, c.Reason)
		}
	}
	ready := sim.condition(v1alpha1.ConditionReady)
	return line + fmt.Sprintf("  Ready=%s %s", ready.Status, ready.Reason)
}
