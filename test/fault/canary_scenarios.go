// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// canaryScenarios are the scenarios with canaries. Their steps are run at a given time during a
// canary, or after it has ended.
var canaryScenarios = withCanaries([]scenario{
	{name: "canaryPromoted", steps: []step{createWithCanary(20), newImage("flag-service:v2")}},
	{name: "canaryInTwoSteps", steps: []step{createWithCanary(10, 50), newImage("flag-service:v2")}},
	{name: "canaryRolledBack", steps: []step{createWithCanary(20), newImage("flag-service:" + failingImage)}, excludedEvents: []fault{specChanged}},
	{name: "canarySuperseded", steps: []step{createWithCanary(20), newImage("flag-service:v2"), annotate(v1alpha1.AnnotationPause), newImage("flag-service:v3")},
		triggers: stepTriggers{2: candidateServes, 3: halfAMinuteLater}},
	{name: "canaryReverted", steps: []step{createWithCanary(20), newImage("flag-service:v2"), newImage("")}, triggers: stepTriggers{2: candidateServes}},
	{name: "canaryPausedAndResumed", steps: []step{createWithCanary(20), newImage("flag-service:v2"),
		annotate(v1alpha1.AnnotationPause), annotate(v1alpha1.AnnotationResume)}, triggers: stepTriggers{2: candidateServes, 3: halfAMinuteLater}},
	{name: "canaryPromotedManually", steps: []step{createFlagCache(withUnreachableMinimum(withCanary(20))), newImage("flag-service:v2"),
		annotate(v1alpha1.AnnotationPromote)}, triggers: stepTriggers{2: candidateServes}, excludedEvents: []fault{specChanged}},
	{name: "canaryAborted", steps: []step{createWithCanary(20), newImage("flag-service:v2"), annotate(v1alpha1.AnnotationAbort)},
		triggers: stepTriggers{2: candidateServes}, excludedEvents: []fault{specChanged}},
	{name: "canaryAbortedAndReleasedAgain", steps: []step{createWithCanary(20), newImage("flag-service:v2"), annotate(v1alpha1.AnnotationAbort),
		newImage(""), newImage("flag-service:v2")}, triggers: stepTriggers{2: candidateServes}, excludedEvents: []fault{specChanged}},
	{name: "canaryRetried", steps: []step{createWithCanary(20), newImage("flag-service:" + failingImage),
		annotate(v1alpha1.AnnotationRetry),
		{"fix the cause of the failures, and remove the annotation", func(w *World) {
			w.imageFixed = true
			updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { delete(fc.Annotations, v1alpha1.AnnotationRetry) })
		}},
		annotate(v1alpha1.AnnotationRetry)}, excludedEvents: []fault{specChanged}},
	{name: "canaryInconclusive", steps: []step{createFlagCache(withInconclusiveRollback(withUnreachableMinimum(withCanary(20)))), newImage("flag-service:v2")}, excludedEvents: []fault{specChanged}},
	{name: "canaryCrashes", steps: []step{createWithCanary(20), newImage("flag-service:" + crashingImage)}, excludedEvents: []fault{specChanged}},
	{name: "canaryDeleted", steps: []step{createWithCanary(20), newImage("flag-service:v2"), {"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }}},
		triggers: stepTriggers{2: candidateServes}},
	{name: "canaryByReplicas", steps: []step{createFlagCache(withReplicas(withCanary(25, 50))), newImage("flag-service:v2")}},
	{name: "canaryByReplicasRolledBack", steps: []step{createFlagCache(withReplicas(withCanary(25, 50))), newImage("flag-service:" + failingImage)}, excludedEvents: []fault{specChanged}},
	{name: "canaryByReplicasSuperseded", steps: []step{createFlagCache(withReplicas(withCanary(25))), newImage("flag-service:v2"), newImage("flag-service:v3")},
		triggers: stepTriggers{2: candidateServes}},
	{name: "canaryByGateway", steps: []step{createRoute, createFlagCache(withGateway(withCanary(10, 50))), newImage("flag-service:v2")}},
	{name: "canaryByGatewayRolledBack", steps: []step{createRoute, createFlagCache(withGateway(withCanary(20))), newImage("flag-service:" + failingImage)}, excludedEvents: []fault{specChanged}},
	{name: "canaryByGatewayDeleted", steps: []step{createRoute, createFlagCache(withGateway(withCanary(20))), newImage("flag-service:v2"),
		{"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }}}, triggers: stepTriggers{3: candidateServes}},
	{name: "canaryLoadTested", steps: []step{createFlagCache(withLoadTest(withCanary(20))), newImage("flag-service:v2")}},
	{name: "canaryLoadTestFails", steps: []step{createFlagCache(withLoadTest(withCanary(20))), newImage("flag-service:" + slowImage)}, excludedEvents: []fault{specChanged}},
	{name: "canaryRecordRepaired", steps: []step{createWithCanary(20), newImage("flag-service:v2"), damageRecord, repairRecords}, triggers: stepTriggers{2: candidateServes}},
	{name: "canaryRejectionOverwritten", steps: []step{createWithCanary(20), newImage("flag-service:" + failingImage), overwriteRecord}, excludedEvents: []fault{specChanged}},
	{name: "canaryConfidenceChanged", steps: []step{createWithCanary(20), newImage("flag-service:v2"), {"change the confidence to 95%", func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Canary.Confidence = "95%" })
	}}}, triggers: stepTriggers{2: candidateServes}},
})

// expectedOutcome is the expected end of a reference run.
type expectedOutcome struct {
	// serves is the suffix of the stable revision's image.
	serves string
	// outcome of the revision that was evaluated last, among those with a valid record.
	outcome canary.Outcome
}

// canaryOutcomes are the expected ends of reference runs, with which all plans are compared.
var canaryOutcomes = map[string]expectedOutcome{
	"canaryPromoted":                {"v2", canary.Promoted},
	"canaryInTwoSteps":              {"v2", canary.Promoted},
	"canaryRolledBack":              {"v1", canary.RolledBack},
	"canarySuperseded":              {"v3", canary.Promoted},
	"canaryReverted":                {"v1", canary.Superseded},
	"canaryPausedAndResumed":        {"v2", canary.Promoted},
	"canaryPromotedManually":        {"v2", canary.Promoted},
	"canaryAborted":                 {"v1", canary.RolledBack},
	"canaryAbortedAndReleasedAgain": {"v2", canary.Promoted},
	"canaryRetried":                 {failingImage, canary.Promoted},
	"canaryInconclusive":            {"v1", canary.RolledBack},
	"canaryCrashes":                 {"v1", canary.RolledBack},
	"canaryDeleted":                 {"", ""},
	"canaryByReplicas":              {"v2", canary.Promoted},
	"canaryByReplicasRolledBack":    {"v1", canary.RolledBack},
	"canaryByReplicasSuperseded":    {"v3", canary.Promoted},
	"canaryByGateway":               {"v2", canary.Promoted},
	"canaryByGatewayRolledBack":     {"v1", canary.RolledBack},
	"canaryByGatewayDeleted":        {"", ""},
	"canaryLoadTested":              {"v2", canary.Promoted},
	"canaryLoadTestFails":           {"v1", canary.RolledBack},
	"canaryRecordRepaired":          {"v2", canary.Promoted},
	"canaryRejectionOverwritten":    {"v1", canary.Promoted},
	"canaryConfidenceChanged":       {"v2", canary.Promoted},
}

// rolloutReasons are the expected reasons of the condition RolloutHealthy at the ends of reference
// runs in which a record was not valid.
var rolloutReasons = map[string]string{
	"canaryRecordRepaired":       v1alpha1.ReasonStable,
	"canaryRejectionOverwritten": v1alpha1.ReasonInvalidRevisionRecord,
}

// checkOutcome verifies the end of a reference run.
func (w *World) checkOutcome() {
	want, ok := canaryOutcomes[w.scenario.name]
	if !ok {
		want, ok = stableOutcomes[w.scenario.name]
	}
	if !ok {
		return
	}
	var last canary.Record
	for _, o := range w.api.now(controllerRevisions) {
		if record, _ := readRecord(o); record.StartedAt.After(last.StartedAt) {
			last = record
		}
	}
	if last.Outcome != want.outcome {
		w.violation("L1 end: the outcome of revision %s is %q, want %q", last.Revision, last.Outcome, want.outcome)
	}
	if image := w.load().imageOf(w.canaryOracle().stable()); !strings.HasSuffix(image, want.serves) || (image == "") != (want.serves == "") {
		w.violation("L1 end: the stable image is %q, want %q", image, want.serves)
	}
	if fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name); ok && rolloutReasons[w.scenario.name] != "" {
		if c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionRolloutHealthy); c == nil || c.Reason != rolloutReasons[w.scenario.name] {
			w.violation("L1 end: the condition RolloutHealthy is %v, want reason %s", c, rolloutReasons[w.scenario.name])
		}
	}
	if shares := w.load().traffic(); len(shares) > 0 || len(w.assigned) > 0 {
		w.violation("L1 end: candidates still have a share of the traffic: %v, assigned: %v", shares, w.assigned)
	}
}

// stepTriggers determine the times of steps, by their index.
type stepTriggers map[int]func(*World) bool

// candidateServes reports whether a candidate serves clients.
func candidateServes(w *World) bool {
	return len(w.load().traffic()) > 0 && w.load().availableReplicas(w.load().traffic()[0].revision) > 0
}

// halfAMinuteLater reports whether the previous step was half a minute ago.
func halfAMinuteLater(w *World) bool { return !w.time.Before(w.lastStep.Add(30 * time.Second)) }

// isStable returns a trigger that reports whether the revision with an image was promoted last.
func isStable(image string) func(*World) bool {
	return func(w *World) bool { return w.load().imageOf(w.canaryOracle().lastPromoted()) == image }
}

func withCanaries(list []scenario) []scenario {
	for i := range list {
		list[i].waitsForRest, list[i].hasCanary = true, true
	}
	return list
}

// Durations of canaries, short enough to run many of them.
const (
	sampleInterval = 10 * time.Second
	stepDuration   = 40 * time.Second
	scaleDownDelay = 20 * time.Second
)

// withCanary returns a FlagCache with a canary.
func withCanary(weights ...int32) *v1alpha1.FlagCache {
	fc := external(aFlagCache())
	of := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	fc.Spec.Canary = &v1alpha1.CanarySpec{
		Traffic: v1alpha1.TrafficSpec{Type: v1alpha1.TrafficSplit}, Metrics: v1alpha1.MetricsSpec{Type: v1alpha1.MetricsPods, Interval: of(sampleInterval)},
		Confidence: "99%", MinimumRequests: 500, Deadline: of(6 * time.Hour), OnInconclusive: v1alpha1.InconclusivePause, ScaleDownDelay: of(scaleDownDelay),
		Thresholds: v1alpha1.ThresholdsSpec{ErrorRate: "0.1%", CacheHitRate: "80%", LatencyP95: of(time.Second), LatencyP99: of(time.Second), MissLatencyP95: of(time.Second)},
	}
	for _, weight := range weights {
		fc.Spec.Canary.Steps = append(fc.Spec.Canary.Steps, v1alpha1.CanaryStep{Weight: weight, Duration: of(stepDuration)})
	}
	return fc
}

// withReplicas sets traffic routing by the number of pods; with three of them, shares are exact.
func withReplicas(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Service.Replicas = ptr.To[int32](3)
	fc.Spec.Canary.Traffic.Type = v1alpha1.TrafficReplicas
	return fc
}

// withUnreachableMinimum requires more requests than clients make.
func withUnreachableMinimum(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.MinimumRequests = 1 << 40
	return fc
}

// withInconclusiveRollback rolls back canaries that are inconclusive at their deadline.
func withInconclusiveRollback(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.Deadline, fc.Spec.Canary.OnInconclusive = metav1.Duration{Duration: time.Minute}, v1alpha1.InconclusiveRollback
	return fc
}

// createWithCanary creates a FlagCache with a canary.
func createWithCanary(weights ...int32) step { return createFlagCache(withCanary(weights...)) }

// createFlagCache creates a FlagCache with an external cache, and the objects to which it refers.
func createFlagCache(fc *v1alpha1.FlagCache) step {
	return step{"create the FlagCache with a canary", func(w *World) {
		w.servers[externalHost+externalPort] = externalPassword
		w.user().mustCreate(flagsFile(goodFlags))
		w.user().mustCreate(externalSecret(externalHost))
		w.user().mustCreate(fc)
	}}
}

var createRoute = step{"create the route", func(w *World) { w.user().mustCreate(aRoute()) }}

// annotate sets an annotation that controls the canary.
func annotate(key string) step {
	return step{"annotate " + strings.TrimPrefix(key, v1alpha1.GroupVersion.Group+"/"), func(w *World) {
		updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { setAnnotation(fc, key, w.canaryOracle().annotationTarget()) })
	}}
}

// notJSON is what users write into records by mistake.
const notJSON = "not JSON"

// damageRecord makes the record of the candidate invalid, and repairRecords reverts that.
var (
	damageRecord = step{"damage the record of the candidate", func(w *World) {
		editRecord(w, w.canaryOracle().annotationTarget(), func(text string) string { return notJSON + text })
	}}
	repairRecords = step{"repair the records", func(w *World) {
		for _, o := range w.api.now(controllerRevisions) {
			editRecord(w, o.GetLabels()[v1alpha1.LabelRevision], func(text string) string { return strings.TrimPrefix(text, notJSON) })
		}
	}}
)

// overwriteRecord loses the record of the candidate or of the rejected revision.
var overwriteRecord = step{"overwrite the record of the rejected revision", func(w *World) {
	editRecord(w, w.canaryOracle().annotationTarget(), func(string) string { return notJSON })
}}

func editRecord(w *World, revision string, edit func(text string) string) {
	updateAs(&w.api, controllerRevisions, name+"-"+revision, func(r *appsv1.ControllerRevision) {
		setAnnotation(r, v1alpha1.AnnotationRecord, edit(r.Annotations[v1alpha1.AnnotationRecord]))
	})
}

// Reports of load tests.
const (
	goodReport = `{"passed":true,"requests":12000,"errorRate":0,"latency":{"p95Ms":8}}`
	badReport  = `{"passed":false,"requests":12000,"errorRate":0,"latency":{"p95Ms":810}}`
)

// loadTestDuration is the duration of a load test.
const loadTestDuration = 10 * time.Second

// withLoadTest sets a load test that candidates have to pass before they get traffic.
func withLoadTest(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.LoadTest = &v1alpha1.LoadTestSpec{
		Concurrency: 50, Duration: metav1.Duration{Duration: loadTestDuration}, LatencyP95: metav1.Duration{Duration: 50 * time.Millisecond},
	}
	return fc
}

// stableScenarios are the scenarios in which the stable revision stops serving, or never does: its
// pods do not start, its Deployment is deleted, or the labels that name it are edited.
var stableScenarios = withCanaries([]scenario{
	{name: "stableNeverReady", waitsForDeadline: true, steps: []step{createFlagCache(fromBrokenImage(withInconclusiveRollback(withCanary(20)))), newImage("flag-service:v2")}},
	{name: "stableNeverReadyByReplicas", waitsForDeadline: true, steps: []step{createFlagCache(fromBrokenImage(withReplicas(withCanary(25)))), newImage("flag-service:v2")}},
	{name: "stableNeverReadyByGateway", waitsForDeadline: true, steps: []step{createRoute, createFlagCache(fromBrokenImage(withGateway(withCanary(20)))), newImage("flag-service:v2")}},
	{name: "stableNeverReadyWithoutCanary", waitsForDeadline: true, steps: []step{createFlagCache(fromBrokenImage(withCanary())), newImage("flag-service:v2")}},
	{name: "stableLosesItsPods", waitsForDeadline: true, steps: []step{createWithCanary(20), losePods, newImage("flag-service:v2")}},
	{name: "stableLosesItsPodsForLong", waitsForDeadline: true, steps: []step{createWithCanary(20), newImage("flag-service:v2"), losePods},
		triggers: stepTriggers{2: candidateServes}},
	{name: "stableLosesItsPodsBriefly", steps: []step{createFlagCache(withUnreachableMinimum(withCanary(20))), newImage("flag-service:v2"), losePods, returnPods,
		annotate(v1alpha1.AnnotationAbort)}, triggers: stepTriggers{2: candidateServes, 3: halfAMinuteLater, 4: halfAMinuteLater}, excludedEvents: []fault{specChanged}},
	{name: "stableDeleted", steps: []step{createWithCanary(20), newImage("flag-service:v2"), deleteStable}, triggers: stepTriggers{2: candidateServes}},
	{name: "stableDeletedByReplicas", steps: []step{createFlagCache(withReplicas(withCanary(25, 50))), newImage("flag-service:v2"), deleteStable},
		triggers: stepTriggers{2: candidateServes}},
	{name: "stableDeletedByGateway", steps: []step{createRoute, createFlagCache(withGateway(withCanary(20))), newImage("flag-service:v2"), deleteStable},
		triggers: stepTriggers{3: candidateServes}},
	{name: "stableDeletedAfterRollback", steps: []step{createWithCanary(20), newImage("flag-service:" + failingImage), deleteStable}, excludedEvents: []fault{specChanged}},
	{name: "stableReplacedByPrevious", waitsForDeadline: true, steps: []step{createWithCanary(20), newImage("flag-service:v2"), losePodsOf("flag-service:v2"), newImage("flag-service:v3")},
		triggers: stepTriggers{2: isStable("flag-service:v2"), 3: halfAMinuteLater}, excludedEvents: []fault{specChanged}},
	{name: "stableReturnsInPart", waitsForDeadline: true, steps: []step{createWithCanary(20), newImage("flag-service:v2"), losePods, returnOnePod},
		triggers: stepTriggers{2: candidateServes, 3: halfAMinuteLater}, excludedEvents: []fault{specChanged}},
	{name: "stableLosesItsPodsAutoscaled", waitsForDeadline: true, steps: []step{createWithCanary(20), autoscale, newImage("flag-service:v2"), losePods, increaseLoad},
		triggers: stepTriggers{3: candidateServes, 4: halfAMinuteLater}},
	{name: "selectorEdited", steps: []step{createWithCanary(20), newImage("flag-service:v2"), selectRevision("deadbeef")}, triggers: stepTriggers{2: candidateServes}},
	{name: "selectorEditedToTheCandidate", steps: []step{createFlagCache(withUnreachableMinimum(withCanary(20))), newImage("flag-service:v2"),
		{"select the candidate", func(w *World) { selectRevision(w.canaryOracle().annotationTarget()).do(w) }}, annotate(v1alpha1.AnnotationAbort)},
		triggers: stepTriggers{2: candidateServes, 3: halfAMinuteLater}, excludedEvents: []fault{specChanged}},
	{name: "selectorExtended", steps: []step{createWithCanary(20), newImage("flag-service:v2"), {"add a label to the selector", func(w *World) {
		updateAs(&w.api, services, name, func(s *corev1.Service) { s.Spec.Selector["release"] = "blue" })
	}}}, triggers: stepTriggers{2: candidateServes}},
	{name: "stableRelabelled", steps: []step{createWithCanary(20), newImage("flag-service:v2"), relabelStable("")}, triggers: stepTriggers{2: candidateServes}},
	{name: "stableRelabelledAsAnother", steps: []step{createWithCanary(20), newImage("flag-service:v2"), relabelStable("deadbeef")}, triggers: stepTriggers{2: candidateServes}},
})

// stableOutcomes are the expected ends of their reference runs, see canaryOutcomes.
var stableOutcomes = map[string]expectedOutcome{
	"stableNeverReady":              {"v2", canary.Promoted},
	"stableNeverReadyByReplicas":    {"v2", canary.Promoted},
	"stableNeverReadyByGateway":     {"v2", canary.Promoted},
	"stableNeverReadyWithoutCanary": {"v2", canary.Promoted},
	"stableLosesItsPods":            {"v2", canary.Promoted},
	"stableLosesItsPodsForLong":     {"v2", canary.Promoted},
	"stableLosesItsPodsBriefly":     {"v1", canary.RolledBack},
	"stableReplacedByPrevious":      {"v3", canary.Promoted},
	"stableReturnsInPart":           {"v2", canary.Promoted},
	"stableLosesItsPodsAutoscaled":  {"v2", canary.Promoted},
	"stableDeleted":                 {"v2", canary.Promoted},
	"stableDeletedByReplicas":       {"v2", canary.Promoted},
	"stableDeletedByGateway":        {"v2", canary.Promoted},
	"stableDeletedAfterRollback":    {"v1", canary.RolledBack},
	"selectorEdited":                {"v2", canary.Promoted},
	"selectorEditedToTheCandidate":  {"v1", canary.RolledBack},
	"selectorExtended":              {"v2", canary.Promoted},
	"stableRelabelled":              {"v2", canary.Promoted},
	"stableRelabelledAsAnother":     {"v2", canary.Promoted},
}

// fromBrokenImage lets the first revision have an image that never starts.
func fromBrokenImage(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Service.Image = "flag-service:" + unstartableImage
	return fc
}

// losePods lets the pods of the first revision end, and no new ones start, as when no node
// matches them any more. returnPods reverts that, returnOnePod has place for one of them.
var (
	losePods   = losePodsOf(firstImage)
	returnPods = step{"let the pods return", func(w *World) {
		w.lostImage, w.keptPods = "", 0
		w.nextTick = w.time.Add(tick)
	}}
	returnOnePod = step{"let one of the pods return", func(w *World) {
		w.keptPods = 1
		w.nextTick = w.time.Add(tick)
	}}
)

// losePodsOf lets the pods of an image end, and no new ones start.
func losePodsOf(image string) step {
	return step{"lose the pods of " + image, func(w *World) {
		w.lostImage, w.keptPods = image, 0
		for _, o := range w.api.now(deployments) {
			updateAs(&w.api, deployments, o.GetName(), func(d *appsv1.Deployment) {
				if !w.load().starts(d.Spec.Template.Spec.Containers[0].Image) {
					d.Status.ReadyReplicas, d.Status.AvailableReplicas = 0, 0
				}
			})
		}
	}}
}

// increaseLoad lets an autoscaler require more pods.
var increaseLoad = step{"increase the load", func(w *World) { w.desiredLoad = 5; w.nextTick = w.time.Add(tick) }}

// firstImage is the image of the first revision, which is the operator's default.
const firstImage = "flag-service:v1"

// starts reports whether pods of an image start.
func (w load) starts(image string) bool {
	return !strings.Contains(image, unstartableImage) && (image != w.lostImage || w.keptPods > 0)
}

// started returns how many of the desired pods of an image that starts can run.
func (w load) started(image string, desired int32) int32 {
	if image == w.lostImage {
		return min(desired, w.keptPods)
	}
	return desired
}

// deleteStable deletes the Deployment of the stable revision.
var deleteStable = step{"delete the stable Deployment", func(w *World) {
	w.user().userDeletes(deployments, name+"-"+w.canaryOracle().stable())
}}

// selectRevision edits the selector of the Service that clients use.
func selectRevision(revision string) step {
	return step{"select revision " + revision, func(w *World) {
		updateAs(&w.api, services, name, func(s *corev1.Service) { s.Spec.Selector[v1alpha1.LabelRevision] = revision })
	}}
}

// relabelStable edits the label that names the revision of the stable Deployment, or removes it.
func relabelStable(revision string) step {
	return step{"relabel the stable Deployment " + revision, func(w *World) {
		updateAs(&w.api, deployments, name+"-"+w.canaryOracle().stable(), func(d *appsv1.Deployment) {
			delete(d.Labels, v1alpha1.LabelRevision)
			if revision != "" {
				d.Labels[v1alpha1.LabelRevision] = revision
			}
		})
	}}
}

// checkServed verifies L1: after a reconciliation without changes, the Service selects ready pods if
// there are any of a revision that was not rejected.
func (w canaryOracle) checkServed() {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !w.lastResult.unchanged || w.cache.isOld() || !ok || fc.Status.ObservedGeneration != fc.Generation || fc.DeletionTimestamp != nil || fc.Spec.Suspend || w.load().selectsReadyPods() {
		return
	}
	for _, o := range w.api.now(deployments) {
		revision, isRevision := strings.CutPrefix(o.GetName(), name+"-")
		if isRevision && ownedByName(o) && w.load().availableReplicas(revision) > 0 && !w.load().rejected(revision) {
			w.violation("L1 serving: the Service selects no ready pod, although revision %s has some", revision)
		}
	}
}

// rejected reports whether the record of a revision is that of a rejection, or is not valid.
func (w load) rejected(revision string) bool {
	record, ok := w.canaryOracle().recordOf(revision)
	return !ok || record.Rejected()
}

// selectsReadyPods reports whether the Service selects a ready pod.
func (w load) selectsReadyPods() bool {
	service, ok := live[*corev1.Service](&w.api.store, services, name)
	if !ok {
		return false
	}
	for _, o := range w.api.now(deployments) {
		d := o.(*appsv1.Deployment)
		if metav1.IsControlledBy(d, w.flagCacheOwner()) && d.Status.ReadyReplicas > 0 && selects(service, d) {
			return true
		}
	}
	return false
}

// flagCacheOwner returns the FlagCache, an empty one if it does not exist.
func (w load) flagCacheOwner() *v1alpha1.FlagCache {
	if fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name); ok {
		return fc
	}
	return &v1alpha1.FlagCache{}
}

// selects reports whether a Service selects the pods of a Deployment.
func selects(service *corev1.Service, d *appsv1.Deployment) bool {
	for key, value := range service.Spec.Selector {
		if d.Spec.Template.Labels[key] != value {
			return false
		}
	}
	return true
}
