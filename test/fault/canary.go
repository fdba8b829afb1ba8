// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/metrics"
	operatorplan "github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/service/config"
)

// failingImage starts, and fails half of its requests.
const failingImage = "failing"

// requestsPerSecond that clients make of all revisions together.
const requestsPerSecond = 1000

// sampler is the operator's sampler of canaries: it has a sample one tick after
// it was asked to watch, and another at each interval, each of which wakes the
// operator.
type sampler struct {
	target *metrics.Target
	last   *metrics.Sample
	next   time.Time
}

// Watch starts, or goes on, sampling a canary.
func (s *sampler) Watch(_ types.NamespacedName, t metrics.Target) {
	if s.target == nil || !reflect.DeepEqual(*s.target, t) {
		*s = sampler{target: &t}
	}
}

// Forget stops sampling.
func (s *sampler) Forget(types.NamespacedName) { *s = sampler{} }

// Last is the last sample.
func (s *sampler) Last(types.NamespacedName) (metrics.Sample, bool) {
	if s.last == nil {
		return metrics.Sample{}, false
	}
	return *s.last, true
}

// sampler reads what the pods counted.
func (w *World) sampler() {
	s := &w.metrics
	switch {
	case s.target == nil:
		return
	case s.next.IsZero():
		s.next = w.time.Add(tick)
	case !w.time.Before(s.next):
		sample := w.sampled()
		s.last, s.next = &sample, w.time.Add(s.target.Interval)
		w.queue.wake(w.time)
	}
	w.alarmAt(s.next)
}

// sampled is what the pods of both revisions counted until now.
func (w *World) sampled() metrics.Sample {
	sample := metrics.Sample{At: w.time}
	for _, revision := range []string{w.metrics.target.Candidate, w.metrics.target.Stable} {
		d, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
		if !ok {
			continue
		}
		n, bad := w.answered[revision], int64(0)
		if strings.Contains(d.Spec.Template.Spec.Containers[0].Image, failingImage) {
			bad = n / 2
		}
		sample.Streams = append(sample.Streams, metrics.Stream{ID: revision, Revision: revision, Counts: map[analysis.Check]analysis.Counts{
			analysis.ErrorRate: {Bad: bad, Total: n}, analysis.LatencyP95: {Total: n}, analysis.LatencyP99: {Total: n},
			analysis.CacheHitRate: {Total: n}, analysis.MissLatencyP95: {Total: n},
		}})
	}
	return sample
}

// answer has the revisions answer clients for a time.
func (w *World) answer(d time.Duration) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok || fc.Spec.Canary == nil || d <= 0 {
		return
	}
	requests := int64(d/time.Millisecond) * requestsPerSecond / 1000
	candidate, weight := w.share()
	taken := int64(0)
	if trial, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+candidate); ok && trial.Status.AvailableReplicas > 0 {
		taken = requests * int64(weight) / 100
	}
	answered := map[string]int64{}
	for revision, n := range w.answered {
		answered[revision] = n
	}
	answered[candidate] += taken
	answered[w.serving()] += requests - taken
	w.answered = answered
}

// share is what the stable pods are told to hand on.
func (w *World) share() (candidate string, weight int32) {
	traffic, ok := live[*corev1.ConfigMap](&w.api.store, configMaps, name+"-traffic")
	if !ok {
		return "", 0
	}
	return shareOf(traffic)
}

func shareOf(traffic *corev1.ConfigMap) (candidate string, weight int32) {
	var file struct {
		Revision string
		Weight   int32
	}
	if json.Unmarshal([]byte(traffic.Data[config.SplitKey]), &file) != nil {
		return "", 0
	}
	return file.Revision, file.Weight
}

// recordOf is what is on record of a revision.
func (w *World) recordOf(revision string) (operatorplan.Record, bool) {
	kept, ok := live[*appsv1.ControllerRevision](&w.api.store, controllerRevisions, name+"-"+revision)
	if !ok {
		return operatorplan.Record{}, false
	}
	var record operatorplan.Record
	err := json.Unmarshal([]byte(kept.Annotations[v1alpha1.AnnotationRecord]), &record)
	return record, err == nil
}

// checkShare: S3, a candidate gets no more than the step on record gives it, and
// nothing once it is rejected.
func (w *World) checkShare(traffic *corev1.ConfigMap) {
	revision, weight := shareOf(traffic)
	if weight == 0 {
		return
	}
	record, ok := w.recordOf(revision)
	steps := w.current.read.Spec.Canary.GetSteps()
	switch {
	case !ok || record.Trial == nil || record.Trial.Step == 0 || len(steps) == 0:
		w.violate("S3 gate: revision %s gets %d %% of the traffic and no step is on record", revision, weight)
	case record.Outcome == operatorplan.RolledBack:
		w.violate("S3 gate: revision %s gets %d %% of the traffic after it was rejected", revision, weight)
	case weight > steps[min(record.Trial.Step, len(steps))-1].Weight:
		w.violate("S3 gate: revision %s gets %d %% of the traffic in step %d", revision, weight, record.Trial.Step)
	}
}

// checkPromotion: S3, the Service moves only to a revision of which every step
// is on record as passed, or that a person promoted.
func (w *World) checkPromotion(revision string) {
	fc := w.current.read
	steps := len(fc.Spec.Canary.GetSteps())
	if steps == 0 || fc.Annotations[v1alpha1.AnnotationPromote] == revision {
		return
	}
	record, ok := w.recordOf(revision)
	if !ok || !record.Passed && (record.Trial == nil || record.Trial.Step <= steps) || record.Outcome == operatorplan.RolledBack {
		w.violate("S3 gate: the Service moved to revision %s, whose steps are not on record as passed", revision)
	}
}

// canaryOf switches a canary on, short enough to be played often.
func canaryOf(fc *v1alpha1.FlagCache, weights ...int32) *v1alpha1.FlagCache {
	seconds := func(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Second} }
	fc.Spec.Canary = &v1alpha1.CanarySpec{
		Traffic: v1alpha1.TrafficSpec{Type: v1alpha1.TrafficSplit}, Metrics: v1alpha1.MetricsSpec{Type: v1alpha1.MetricsPods, Interval: seconds(10)},
		Confidence: "99%", MinimumRequests: 500, Deadline: seconds(21600), OnInconclusive: v1alpha1.InconclusivePause, ScaleDownDelay: seconds(20),
		Thresholds: v1alpha1.ThresholdsSpec{ErrorRate: "0.1%", CacheHitRate: "80%", LatencyP95: seconds(1), LatencyP99: seconds(1), MissLatencyP95: seconds(1)},
	}
	for _, weight := range weights {
		fc.Spec.Canary.Steps = append(fc.Spec.Canary.Steps, v1alpha1.CanaryStep{Weight: weight, Duration: seconds(20)})
	}
	return fc
}

// createCanaried creates a FlagCache whose changes are tried in steps.
func createCanaried(weights ...int32) step {
	return step{"create the FlagCache with a canary", func(w *World) {
		w.servers[externalHost+externalPort] = externalPassword
		w.make(flagsFile(goodFlags))
		w.make(externalSecret(externalHost))
		w.make(canaryOf(external(aFlagCache()), weights...))
	}}
}

// canaries are the stories of canaries. No plans are made of them yet: they are
// played with nothing going wrong.
var canaries = []scenario{
	{name: "canaryPromoted", steps: []step{createCanaried(20), newImage("flag-service:v2")}},
	{name: "canaryInTwoSteps", steps: []step{createCanaried(10, 50), newImage("flag-service:v2")}},
	{name: "canaryRolledBack", steps: []step{createCanaried(20), newImage("flag-service:" + failingImage)}},
}
