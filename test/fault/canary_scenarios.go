// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// canaries are the stories of canaries. Their users are patient: they act in the
// middle of a canary, or when it is over.
var canaries = patiently([]scenario{
	{name: "canaryPromoted", steps: []step{createCanaried(20), newImage("flag-service:v2")}},
	{name: "canaryInTwoSteps", steps: []step{createCanaried(10, 50), newImage("flag-service:v2")}},
	{name: "canaryRolledBack", steps: []step{createCanaried(20), newImage("flag-service:" + failingImage)}, without: []fault{respecified}},
	{name: "canarySuperseded", steps: []step{createCanaried(20), newImage("flag-service:v2"), annotate(v1alpha1.AnnotationPause), newImage("flag-service:v3")},
		moments: moments{2: onTrial, 3: afterAWhile}},
	{name: "canaryTakenBack", steps: []step{createCanaried(20), newImage("flag-service:v2"), newImage("")}, moments: moments{2: onTrial}},
	{name: "canaryPausedAndResumed", steps: []step{createCanaried(20), newImage("flag-service:v2"),
		annotate(v1alpha1.AnnotationPause), annotate(v1alpha1.AnnotationResume)}, moments: moments{2: onTrial, 3: afterAWhile}},
	{name: "canaryPromotedByHand", steps: []step{create(unprovable(canaried(20))), newImage("flag-service:v2"),
		annotate(v1alpha1.AnnotationPromote)}, moments: moments{2: onTrial}, without: []fault{respecified}},
	{name: "canaryAborted", steps: []step{createCanaried(20), newImage("flag-service:v2"), annotate(v1alpha1.AnnotationAbort)},
		moments: moments{2: onTrial}, without: []fault{respecified}},
	{name: "canaryRetried", steps: []step{createCanaried(20), newImage("flag-service:" + failingImage),
		annotate(v1alpha1.AnnotationRetry),
		{"mend what made it fail, and take the annotation away", func(w *World) {
			w.mended = true
			edit(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { delete(fc.Annotations, v1alpha1.AnnotationRetry) })
		}},
		annotate(v1alpha1.AnnotationRetry)}, without: []fault{respecified}},
	{name: "canaryInconclusive", steps: []step{create(givenUp(unprovable(canaried(20)))), newImage("flag-service:v2")}, without: []fault{respecified}},
	{name: "canaryCrashes", steps: []step{createCanaried(20), newImage("flag-service:" + crashingImage)}, without: []fault{respecified}},
	{name: "canaryDeleted", steps: []step{createCanaried(20), newImage("flag-service:v2"), {"delete the FlagCache", (*World).deleteFlagCache}},
		moments: moments{2: onTrial}},
	{name: "canaryByReplicas", steps: []step{create(byReplicas(canaried(25, 50))), newImage("flag-service:v2")}},
	{name: "canaryByReplicasRolledBack", steps: []step{create(byReplicas(canaried(25, 50))), newImage("flag-service:" + failingImage)}, without: []fault{respecified}},
	{name: "canaryByReplicasSuperseded", steps: []step{create(byReplicas(canaried(25))), newImage("flag-service:v2"), newImage("flag-service:v3")},
		moments: moments{2: onTrial}},
	{name: "canaryByGateway", steps: []step{createRoute, create(routed(canaried(10, 50))), newImage("flag-service:v2")}},
	{name: "canaryByGatewayRolledBack", steps: []step{createRoute, create(routed(canaried(20))), newImage("flag-service:" + failingImage)}, without: []fault{respecified}},
	{name: "canaryByGatewayDeleted", steps: []step{createRoute, create(routed(canaried(20))), newImage("flag-service:v2"),
		{"delete the FlagCache", (*World).deleteFlagCache}}, moments: moments{3: onTrial}},
	{name: "canaryLoadTested", steps: []step{create(loadTested(canaried(20))), newImage("flag-service:v2")}},
	{name: "canaryLoadTestFails", steps: []step{create(loadTested(canaried(20))), newImage("flag-service:" + slowImage)}, without: []fault{respecified}},
})

// canaryEnds are how the stories end with nothing going wrong: what all plans are
// compared with is the right end.
var canaryEnds = map[string]struct {
	// serves is what the image of the revision that serves ends in.
	serves string
	// outcome of the revision that was tried last.
	outcome canary.Outcome
}{
	"canaryPromoted":             {"v2", canary.Promoted},
	"canaryInTwoSteps":           {"v2", canary.Promoted},
	"canaryRolledBack":           {"v1", canary.RolledBack},
	"canarySuperseded":           {"v3", canary.Promoted},
	"canaryTakenBack":            {"v1", canary.Superseded},
	"canaryPausedAndResumed":     {"v2", canary.Promoted},
	"canaryPromotedByHand":       {"v2", canary.Promoted},
	"canaryAborted":              {"v1", canary.RolledBack},
	"canaryRetried":              {failingImage, canary.Promoted},
	"canaryInconclusive":         {"v1", canary.RolledBack},
	"canaryCrashes":              {"v1", canary.RolledBack},
	"canaryDeleted":              {"", ""},
	"canaryByReplicas":           {"v2", canary.Promoted},
	"canaryByReplicasRolledBack": {"v1", canary.RolledBack},
	"canaryByReplicasSuperseded": {"v3", canary.Promoted},
	"canaryByGateway":            {"v2", canary.Promoted},
	"canaryByGatewayRolledBack":  {"v1", canary.RolledBack},
	"canaryByGatewayDeleted":     {"", ""},
	"canaryLoadTested":           {"v2", canary.Promoted},
	"canaryLoadTestFails":        {"v1", canary.RolledBack},
}

// checkEnd: a story with nothing going wrong ends as told.
func (w *World) checkEnd() {
	want, told := canaryEnds[w.scenario.name]
	if !told {
		return
	}
	var last canary.Record
	for _, o := range w.api.now(controllerRevisions) {
		if record, _ := readRecord(o); record.StartedAt.After(last.StartedAt) {
			last = record
		}
	}
	if last.Outcome != want.outcome {
		w.violate("L1 end: revision %s is on record as %q, want %q", last.Revision, last.Outcome, want.outcome)
	}
	if image := w.imageOf(w.serving()); !strings.HasSuffix(image, want.serves) || (image == "") != (want.serves == "") {
		w.violate("L1 end: clients are served by image %q, want %q", image, want.serves)
	}
	if shares := w.shares(); len(shares) > 0 || len(w.promised) > 0 {
		w.violate("L1 end: candidates have a share of the traffic, %v, or are to have one, %v", shares, w.promised)
	}
}

// moments are when a user takes a step, by its number.
type moments map[int]func(*World) bool

// onTrial: a candidate answers clients.
func onTrial(w *World) bool { return len(w.shares()) > 0 && w.upReplicas(w.shares()[0].revision) > 0 }

// afterAWhile: half a minute after the last step.
func afterAWhile(w *World) bool { return !w.time.Before(w.stepped.Add(30 * time.Second)) }

func patiently(stories []scenario) []scenario {
	for i := range stories {
		stories[i].patient, stories[i].canaried = true, true
	}
	return stories
}

// Times of canaries, short enough to be played often.
const (
	sampleInterval = 10 * time.Second
	stepDuration   = 40 * time.Second
	stays          = 20 * time.Second
)

// canaried is a FlagCache whose changes are tried in steps.
func canaried(weights ...int32) *v1alpha1.FlagCache {
	fc := external(aFlagCache())
	of := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	fc.Spec.Canary = &v1alpha1.CanarySpec{
		Traffic: v1alpha1.TrafficSpec{Type: v1alpha1.TrafficSplit}, Metrics: v1alpha1.MetricsSpec{Type: v1alpha1.MetricsPods, Interval: of(sampleInterval)},
		Confidence: "99%", MinimumRequests: 500, Deadline: of(6 * time.Hour), OnInconclusive: v1alpha1.InconclusivePause, ScaleDownDelay: of(stays),
		Thresholds: v1alpha1.ThresholdsSpec{ErrorRate: "0.1%", CacheHitRate: "80%", LatencyP95: of(time.Second), LatencyP99: of(time.Second), MissLatencyP95: of(time.Second)},
	}
	for _, weight := range weights {
		fc.Spec.Canary.Steps = append(fc.Spec.Canary.Steps, v1alpha1.CanaryStep{Weight: weight, Duration: of(stepDuration)})
	}
	return fc
}

// byReplicas has the number of pods be the share, which three of them make exact.
func byReplicas(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Service.Replicas = ptr.To[int32](3)
	fc.Spec.Canary.Traffic.Type = v1alpha1.TrafficReplicas
	return fc
}

// unprovable asks for more requests than there are.
func unprovable(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.MinimumRequests = 1 << 40
	return fc
}

// givenUp rolls back what cannot be proven in time.
func givenUp(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.Deadline, fc.Spec.Canary.OnInconclusive = metav1.Duration{Duration: time.Minute}, v1alpha1.InconclusiveRollback
	return fc
}

// createCanaried creates a FlagCache whose changes are tried in steps.
func createCanaried(weights ...int32) step { return create(canaried(weights...)) }

// create creates a FlagCache with an external cache, and what it refers to.
func create(fc *v1alpha1.FlagCache) step {
	return step{"create the FlagCache with a canary", func(w *World) {
		w.servers[externalHost+externalPort] = takes(externalPassword)
		w.make(flagsFile(goodFlags))
		w.make(externalSecret(externalHost))
		w.make(fc)
	}}
}

var createRoute = step{"create the route", func(w *World) { w.make(aRoute()) }}

// annotate says something about the canary.
func annotate(key string) step {
	return step{"annotate " + strings.TrimPrefix(key, v1alpha1.GroupVersion.Group+"/"), func(w *World) {
		edit(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { note(fc, key, w.candidate()) })
	}}
}
