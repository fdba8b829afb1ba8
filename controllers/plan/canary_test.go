// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
)

// interval between two looks of the films.
const interval = 10 * time.Second

// withCanary has one step, 5 % for ten minutes, unless there are others.
func withCanary(fc *v1alpha1.FlagCache, steps ...v1alpha1.CanaryStep) *v1alpha1.FlagCache {
	if len(steps) == 0 {
		steps = []v1alpha1.CanaryStep{step(5, 10*time.Minute)}
	}
	fc.Spec.Canary = &v1alpha1.CanarySpec{
		Steps:           steps,
		Traffic:         v1alpha1.TrafficSpec{Type: v1alpha1.TrafficSplit},
		Metrics:         v1alpha1.MetricsSpec{Type: v1alpha1.MetricsPods, Interval: metav1.Duration{Duration: interval}},
		Thresholds:      v1alpha1.ThresholdsSpec{ErrorRate: "0.1%", CacheHitRate: "80%"},
		Confidence:      "99%",
		MinimumRequests: 1000,
		Deadline:        metav1.Duration{Duration: time.Hour},
		OnInconclusive:  v1alpha1.InconclusivePause,
		ScaleDownDelay:  metav1.Duration{Duration: 5 * time.Minute},
	}
	return fc
}

func step(weight int32, duration time.Duration) v1alpha1.CanaryStep {
	return v1alpha1.CanaryStep{Weight: weight, Duration: metav1.Duration{Duration: duration}}
}

// theatre is a world with traffic, a clock, and pods that become available by
// themselves. It checks at each frame what must always hold.
type theatre struct {
	*world
	// perSecond are the requests of all clients.
	perSecond float64
	// bad shares of the events of each revision, by check.
	bad map[string]map[canary.Check]float64
	// lookUps is how many look-ups in Redis each revision makes in a look.
	lookUps float64
	// life is part of the names of streams: pods that start again have another.
	life int
	// origin of the evidence; another one has other streams.
	origin string
	// lag of the evidence, and what is on its way.
	lag     time.Duration
	pending []canary.Evidence
	// lazy pods do not become available.
	lazy bool
	// blind: the evidence cannot be had.
	blind   bool
	counted map[string]map[canary.Check][2]float64
	kept    float64
	names   map[string]string
}

func aTheatre(t *testing.T, fc *v1alpha1.FlagCache) *theatre {
	w := aWorld(t, fc)
	w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache")}}
	th := &theatre{
		world: w.ready(), perSecond: 200, lookUps: 2,
		bad:     map[string]map[canary.Check]float64{},
		counted: map[string]map[canary.Check][2]float64{},
		names:   map[string]string{},
	}
	th.name(th.stable())
	return th
}

func (th *theatre) stable() string {
	if th.fc.Status.Revisions == nil {
		return th.index().Stable
	}
	return th.fc.Status.Revisions.Stable
}

// name calls revisions A, B, C … in the order of their appearance.
func (th *theatre) name(revision string) string {
	if revision == "" {
		return "-"
	}
	if th.names[revision] == "" {
		th.names[revision] = string(rune('A' + len(th.names)))
	}
	return th.names[revision]
}

// candidate is the revision on its way, for scripts to talk about.
func (th *theatre) candidate() string {
	if th.fc.Status.Revisions == nil {
		return ""
	}
	return th.fc.Status.Revisions.Candidate
}

// change edits the spec and looks until the candidate is there.
func (th *theatre) change(edit func(*v1alpha1.FlagCacheSpec)) {
	th.note("the spec changes")
	th.edit(edit)
	th.look()
}

func (th *theatre) annotate(annotation, value string) {
	th.note(strings.TrimPrefix(annotation, "flagcache.dev/") + "=" + th.name(value))
	if th.fc.Annotations == nil {
		th.fc.Annotations = map[string]string{}
	}
	th.fc.Annotations[annotation] = value
}

// spoil has a share of a revision's events be bad.
func (th *theatre) spoil(revision string, check canary.Check, share float64) {
	th.note(fmt.Sprintf("%g %% of %s's %s are bad", share*100, th.name(revision), check))
	if th.bad[revision] == nil {
		th.bad[revision] = map[canary.Check]float64{}
	}
	th.bad[revision][check] = share
}

// burst is a look in which a share of a revision's requests fail.
func (th *theatre) burst(revision string, share float64) {
	th.spoil(revision, canary.ErrorRate, share)
	th.look()
	th.note("the burst is over")
	delete(th.bad, revision)
}

// noteBlocks puts into the film how far the newest trial's blocks are.
func (th *theatre) noteBlocks() {
	blocks := readHistory(th.index()).newest()[0].Canary.Ledger.Blocks
	th.note(fmt.Sprintf("blocks of requests: %d, and %s of the next", blocks.Complete[canary.ErrorRate].Count, blocks.OpenFor))
}

// run looks every ten seconds for as long, until then.
func (th *theatre) run(long time.Duration) {
	for end := th.now.Add(long); th.now.Before(end); {
		th.look()
	}
}

// until looks until something holds, for three hours at the most.
func (th *theatre) until(what string, holds func() bool) {
	th.t.Helper()
	for range 3 * 360 {
		if holds() {
			return
		}
		th.look()
	}
	th.t.Fatalf("%s did not happen within three hours:\n%s", what, strings.Join(th.film, "\n"))
}

// jobs are those that exist.
func (th *theatre) jobs() (jobs []*batchv1.Job) {
	for _, c := range th.children {
		if job, ok := c.(*batchv1.Job); ok {
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// loadTestEnds has the Job of the load test end.
func (th *theatre) loadTestEnds(how batchv1.JobConditionType, report string) {
	th.t.Helper()
	jobs := th.jobs()
	if len(jobs) != 1 {
		th.t.Fatalf("there are %d Jobs, want the load test's", len(jobs))
	}
	jobs[0].Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue}}
	th.report = report
}

// trial of the candidate, as it is on record.
func (th *theatre) trial() *canary.State {
	return readHistory(th.index()).records[th.candidate()].Canary
}

func (th *theatre) promoted(revision string) func() bool {
	return func() bool { return th.stable() == revision }
}

func (th *theatre) rolledBack() bool {
	return th.fc.Status.Revisions.Rejected != ""
}

// look lets one interval pass and looks once.
func (th *theatre) look() {
	th.now = th.now.Add(interval)
	if !th.lazy {
		th.podsAvailable()
	}
	th.serve()
	th.reconcileOnce()
}

// reconcileOnce takes one look, checks what must always hold, and keeps the frame
// if it shows something new.
func (th *theatre) reconcileOnce() {
	weight, rejected := th.weight(), th.recordedOutcome()
	film := len(th.film)
	p := th.reconcile()
	th.film = th.film[:film]
	th.invariants(p, weight, rejected)
	if line := th.frame(); len(th.film) == 0 || th.film[len(th.film)-1] != line {
		th.film = append(th.film, line)
	}
}

// serve counts one interval's traffic as the pods do.
func (th *theatre) serve() {
	weight := float64(th.weight()) / 100
	candidate := th.candidate()
	all := th.perSecond * interval.Seconds()
	th.count(th.stable(), all*(1-weight))
	if candidate != "" && weight > 0 {
		th.kept += all * (1 - weight)
		th.count(candidate, all*weight)
	}
	if th.blind {
		th.evidence.Missing = "no pod answers"
		return
	}
	th.evidence = canary.Evidence{At: th.now, Origin: th.origin}
	for _, revision := range slices.Sorted(maps.Keys(th.counted)) {
		stream := canary.Stream{ID: fmt.Sprintf("%s/%s%d", revision, th.origin, th.life), Revision: revision, Counts: canary.Counters{}}
		for check, c := range th.counted[revision] {
			stream.Counts[check] = analysis.Counts{Bad: int64(c[0]), Total: int64(c[1])}
		}
		if revision == th.stable() {
			stream.Local = int64(th.kept)
		}
		th.evidence.Streams = append(th.evidence.Streams, stream)
	}
	th.arrive()
}

// arrive delivers evidence late.
func (th *theatre) arrive() {
	if th.lag == 0 {
		return
	}
	th.pending = append(th.pending, th.evidence)
	th.evidence = canary.Evidence{}
	for _, e := range th.pending {
		if !e.At.Add(th.lag).After(th.now) {
			th.evidence, th.evidence.Lag = e, th.lag+interval
		}
	}
}

func (th *theatre) count(revision string, requests float64) {
	if th.counted[revision] == nil {
		th.counted[revision] = map[canary.Check][2]float64{}
	}
	for check, n := range map[canary.Check]float64{
		canary.ErrorRate: requests, canary.LatencyP95: requests, canary.LatencyP99: requests,
		canary.CacheHitRate: th.lookUps, canary.MissLatencyP95: th.lookUps * th.bad[revision][canary.CacheHitRate],
	} {
		c := th.counted[revision][check]
		th.counted[revision][check] = [2]float64{c[0] + n*th.bad[revision][check], c[1] + n}
	}
}

// split is what the stable pods read.
type split struct {
	Revision, Address string
	Weight            int32
}

// share is the split that the stable pods have.
func (th *theatre) share() (file split) {
	if kept, ok := observed.Get[*corev1.ConfigMap](th.index(), "demo-traffic"); ok {
		if err := json.Unmarshal([]byte(kept.Data[config.SplitKey]), &file); err != nil {
			th.t.Fatal(err)
		}
	}
	return file
}

// weight is the candidate's share of the traffic in percent, as it really is.
func (th *theatre) weight() int32 {
	if c := th.fc.Spec.Canary; c != nil && c.Traffic.HTTPRouteRef != nil {
		return th.routedWeight()
	}
	svc, ok := observed.Get[*corev1.Service](th.index(), "demo")
	if !ok || svc.Spec.Selector[v1alpha1.LabelRevision] != "" {
		return th.share().Weight
	}
	stable := mustFind[*appsv1.Deployment](th.world, "demo-"+th.stable()).Status.AvailableReplicas
	candidate := mustFind[*appsv1.Deployment](th.world, "demo-"+th.candidate()).Status.AvailableReplicas
	return 100 * candidate / (candidate + stable)
}

func (th *theatre) recordedOutcome() map[string]canary.Outcome {
	outcomes := map[string]canary.Outcome{}
	for revision, r := range readHistory(th.index()).records {
		outcomes[revision] = r.Outcome
	}
	return outcomes
}

// invariants are what must hold at each frame, whatever happened.
func (th *theatre) invariants(p Plan, weightBefore int32, outcomesBefore map[string]canary.Outcome) {
	th.t.Helper()
	again := Make(th.snapshot())
	if !reflectEqual(p.Status.Canary, again.Status.Canary) && th.share().Revision == again.Status.Revisions.Candidate && len(p.Apply) == 0 {
		th.t.Errorf("a decision at the same time from the same evidence differs")
	}
	most := int32(0)
	for _, s := range th.fc.Spec.Canary.Steps {
		most = max(most, s.Weight)
	}
	if w := th.weight(); w > most {
		th.t.Errorf("the weight %d is over that of every step", w)
	}
	share := th.share()
	if r := readHistory(th.index()).records[share.Revision]; r.Outcome == canary.RolledBack && share.Weight != 0 {
		th.t.Errorf("revision %s was rolled back and has the weight %d", th.name(share.Revision), share.Weight)
	}
	if weightBefore > 0 && outcomesBefore[share.Revision] == canary.RolledBack {
		th.t.Errorf("the frame after a breach has the weight %d", weightBefore)
	}
	for revision, r := range readHistory(th.index()).records {
		if r.Outcome == canary.RolledBack && r.Reason != th.pods[revision].Reason && !slices.Contains(RollbackReasons(), r.Reason) {
			th.t.Errorf("revision %s was rolled back for %q, which is no reason that we know", th.name(revision), r.Reason)
		}
	}
	th.capacity()
}

// capacity: the stable revision is always at full size, and beside it there is
// one candidate at the most.
func (th *theatre) capacity() {
	th.t.Helper()
	others := 0
	for _, c := range th.children {
		d, ok := c.(*appsv1.Deployment)
		if !ok {
			continue
		}
		replicas := ptr.Deref(d.Spec.Replicas, 1)
		revision := d.Labels[v1alpha1.LabelRevision]
		switch {
		case revision == th.stable() && replicas < ptr.Deref(th.fc.Spec.Service.Replicas, defaultReplicas):
			th.t.Errorf("the stable revision %s has %d replicas", th.name(revision), replicas)
		case revision != th.stable() && readHistory(th.index()).records[revision].Outcome != canary.Promoted:
			others++
		}
	}
	if others > 1 {
		th.t.Errorf("there are %d candidates", others)
	}
}

func reflectEqual(a, b *v1alpha1.CanaryStatus) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// frame is what a person sees, and what traffic does. Counts are left out: they
// would make every frame another.
func (th *theatre) frame() string {
	serves := "A+B"
	if svc, ok := observed.Get[*corev1.Service](th.index(), "demo"); ok && svc.Spec.Selector[v1alpha1.LabelRevision] != "" {
		serves = th.name(svc.Spec.Selector[v1alpha1.LabelRevision])
	}
	var pods []string
	for _, c := range th.children {
		if d, ok := c.(*appsv1.Deployment); ok {
			pods = append(pods, fmt.Sprintf("%s×%d", th.name(d.Labels[v1alpha1.LabelRevision]), ptr.Deref(d.Spec.Replicas, 1)))
		}
	}
	line := fmt.Sprintf("service→%s  weight %d  pods %s", serves, th.weight(), strings.Join(pods, " "))
	st := th.fc.Status
	if st.Canary != nil {
		line += fmt.Sprintf("  canary %s step %d", st.Canary.Phase, st.Canary.Step)
		for _, c := range st.Canary.Checks {
			if c.Verdict == string(canary.Breach) {
				line += " " + c.Name + "!"
			}
		}
	}
	ready := th.condition(v1alpha1.ConditionReady)
	return line + fmt.Sprintf("  Ready=%s %s", ready.Status, ready.Reason)
}

func fromImage(image string) func(*v1alpha1.FlagCacheSpec) {
	return func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = image }
}

// A film is a canary from its beginning to its end.
func TestCanaryFilms(t *testing.T) {
	for name, film := range films() {
		t.Run(name, func(t *testing.T) {
			fc := withCanary(aFlagCache(), film.steps...)
			if film.spec != nil {
				film.spec(&fc.Spec)
			}
			th := aTheatre(t, fc)
			film.script(th)
			expectGolden(t, "canary-"+name+".golden", strings.Join(th.film, "\n")+"\n")
		})
	}
}

// Between a healthy release and its limit there is no rollback by bad luck alone:
// the same events in many orders lead to the same verdict.
func TestTheVerdictRestsOnCountsAlone(t *testing.T) {
	th := aTheatre(t, withCanary(aFlagCache()))
	th.change(fromImage("flag-service:v2"))
	th.run(5 * time.Minute)
	trial := readHistory(th.index()).records[th.candidate()].Canary
	if d := math.Abs(float64(trial.Ledger.Candidate[canary.ErrorRate].Total) - 0.05*200*290); d > 300 {
		t.Errorf("%d requests were counted in five minutes of 10 a second", trial.Ledger.Candidate[canary.ErrorRate].Total)
	}
	repeated := trial.Judge()
	for i, c := range th.fc.Status.Canary.Checks {
		if string(repeated[i].Verdict) != c.Verdict || percent(repeated[i].Limit) != c.Limit {
			t.Errorf("the record does not lead to the verdict of the status: %v, %v", repeated[i], c)
		}
	}
}
