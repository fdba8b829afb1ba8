// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/loadtest"
	"github.com/flagcache/flagcache/test/e2e/faulty/release"
)

const (
	// imageFaulty is the image of test/e2e/faulty, which contains the flag service.
	imageFaulty = "localhost/faulty-flag-service"
	// clientRate is how many requests a second the clients of a canary send.
	clientRate = 400
	// rolledOut is the limit for a canary on a busy machine, from the change to its end.
	rolledOut = 6 * time.Minute
)

// buildFaulty builds the faulty release around the flag service under test.
func buildFaulty(ctx context.Context, flagService string) (path string) {
	GinkgoHelper()
	path = filepath.Join(GinkgoT().TempDir(), "faulty")
	Expect(release.Pack(path, built(ctx, "./faulty"), flagService)).To(Succeed())
	return path
}

// built builds a program of this repository with the settings of the Makefile.
func built(ctx context.Context, source string) (path string) {
	GinkgoHelper()
	path = filepath.Join(GinkgoT().TempDir(), filepath.Base(source))
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", output)
	return path
}

// Canaries: a good release passes within seconds, a bad one has all the time it takes
// to be found. Lookups in the cache are few, and the first may precede the connection:
// a good release may miss half of them, and of three that a bad one misses each counts.
var (
	shortTrial = v1alpha1.CanarySpec{
		Steps:           []v1alpha1.CanaryStep{{Weight: 5, Duration: metav1.Duration{Duration: 10 * time.Second}}},
		Metrics:         v1alpha1.MetricsSpec{Interval: metav1.Duration{Duration: time.Second}},
		Thresholds:      goodRelease,
		MinimumRequests: 200,
	}
	longTrial = v1alpha1.CanarySpec{
		Steps:           []v1alpha1.CanaryStep{{Weight: 5, Duration: metav1.Duration{Duration: time.Hour}}},
		Metrics:         v1alpha1.MetricsSpec{Interval: metav1.Duration{Duration: time.Second}},
		Thresholds:      badRelease,
		MinimumRequests: 200,
	}
)

// Thresholds of good and of bad releases. On a busy machine some answers take longer
// than the default latencies, so that a release is judged by them only if it is slow on
// purpose (withDefaultLatencies).
var (
	goodRelease = tolerant("50%")
	badRelease  = tolerant("99%")
)

// tolerant has a hit rate, and the greatest latency that the flag service distinguishes.
func tolerant(hitRate v1alpha1.Percentage) v1alpha1.ThresholdsSpec {
	second := metav1.Duration{Duration: time.Second}
	return v1alpha1.ThresholdsSpec{CacheHitRate: hitRate, LatencyP95: second, LatencyP99: second, MissLatencyP95: second}
}

// withDefaultLatencies is a canary with the latencies of the API's defaults.
func withDefaultLatencies(trial v1alpha1.CanarySpec) v1alpha1.CanarySpec {
	trial.Thresholds = v1alpha1.ThresholdsSpec{CacheHitRate: trial.Thresholds.CacheHitRate}
	return trial
}

// good is a canary in which only a good release is tried.
func good(trial v1alpha1.CanarySpec) v1alpha1.CanarySpec {
	trial.Thresholds = goodRelease
	return trial
}

// triedBy has changes tried by this canary.
func triedBy(trial v1alpha1.CanarySpec) func(*v1alpha1.FlagCacheSpec) {
	return func(spec *v1alpha1.FlagCacheSpec) { spec.Canary = &trial }
}

// changeRelease changes to the release with a fault.
func changeRelease(ctx context.Context, fc *v1alpha1.FlagCache, fault string, trial v1alpha1.CanarySpec) {
	GinkgoHelper()
	changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
		fc.Spec.Service.Image = imageFaulty + ":1"
		fc.Spec.Service.Env = []v1alpha1.EnvVar{{Name: "FAULT", Value: fault}}
		fc.Spec.Canary = &trial
	})
}

// canaryLoad is the load of clients on a FlagCache during a spec.
type canaryLoad struct {
	// options of the load.
	options loadtest.Options
	cancel  context.CancelFunc
	ended   chan struct{}
	report  loadtest.Report
	err     error
}

// startCanaryLoad starts clients that call the FlagCache itself.
func startCanaryLoad(ctx context.Context, fc *v1alpha1.FlagCache) *canaryLoad {
	GinkgoHelper()
	return startLoad(ctx, fmt.Sprintf("%s.%s.svc:80", fc.Name, fc.Namespace), clientRate)
}

// startLoad starts clients that call an address in the cluster. Its present answers are
// the expected ones for the whole spec: releases differ, their flags do not.
func startLoad(ctx context.Context, target string, rate float64) *canaryLoad {
	GinkgoHelper()
	address, stop, err := local.Forward(target)
	Expect(err).NotTo(HaveOccurred())
	answers := &loadtest.Learned{}
	options := loadtest.Options{URL: "http://" + address, Connections: 20, Duration: time.Hour, Rate: rate, Users: 500, Answers: answers}
	Expect(loadtest.Ask(ctx, options, answers.Learn)).To(Succeed())

	running, cancel := context.WithCancel(context.Background())
	load := &canaryLoad{options: options, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(load.ended)
		load.report, load.err = loadtest.Run(running, options)
	}()
	DeferCleanup(func() { load.end(); stop() })
	return load
}

// end stops the load and returns its report.
func (l *canaryLoad) end() loadtest.Report {
	l.cancel()
	<-l.ended
	return l.report
}

// expectNoClientAffected stops the load and expects that no request failed and no value
// was wrong.
func (l *canaryLoad) expectNoClientAffected() loadtest.Report {
	GinkgoHelper()
	report := l.end()
	Expect(l.err).NotTo(HaveOccurred())
	AddReportEntry("The load's report", report.String(), ReportEntryVisibilityAlways)
	Expect(report.ErrorsByKind).To(BeEmpty())
	Expect(report.Requests).To(BeNumerically(">", 0))
	return report
}

// badAnswers counts, in the metrics of a pod, what would have affected a client.
type badAnswers func(map[string]*dto.MetricFamily) float64

// failedHandOns are requests that a stable pod forwarded to the candidate in vain.
func failedHandOns(families map[string]*dto.MetricFamily) (n float64) {
	return sumUnless(families[config.MetricSplitRequests], config.SplitOK)
}

// failedLookups are lookups in Redis that failed.
func failedLookups(families map[string]*dto.MetricFamily) float64 {
	return sumUnless(families[config.MetricCacheRequests], "hit", "miss")
}

// ownFailures are requests that a pod answered with 5xx.
func ownFailures(families map[string]*dto.MetricFamily) (n float64) {
	for _, m := range families[config.MetricRequests].GetMetric() {
		for _, label := range m.GetLabel() {
			if label.GetName() == "code" && strings.HasPrefix(label.GetValue(), "5") {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// slowHandOns are forwarded requests that took over 100 ms.
func slowHandOns(families map[string]*dto.MetricFamily) (n float64) {
	for _, m := range families[config.MetricSplitDuration].GetMetric() {
		for _, bucket := range m.GetHistogram().GetBucket() {
			if bucket.GetUpperBound() >= 0.1 {
				n += float64(m.GetHistogram().GetSampleCount() - bucket.GetCumulativeCount())
				break
			}
		}
	}
	return n
}

// sumUnless adds up a family's counters with other results than these.
func sumUnless(family *dto.MetricFamily, fine ...string) (n float64) {
	for _, m := range family.GetMetric() {
		for _, label := range m.GetLabel() {
			if label.GetName() == "result" && !slices.Contains(fine, label.GetValue()) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// countBad adds up the bad answers of all pods of the flag service.
func countBad(ctx context.Context, fc *v1alpha1.FlagCache, bad badAnswers) (n float64) {
	for _, count := range badByPod(ctx, fc, bad) {
		n += count
	}
	return n
}

// badByPod counts the bad answers of each pod of the flag service. Pods that start or
// end at the moment are left out.
func badByPod(ctx context.Context, fc *v1alpha1.FlagCache, bad badAnswers) map[types.UID]float64 {
	counts := map[types.UID]float64{}
	web := local.HTTPClient(false)
	for _, pod := range podsOf(ctx, fc, v1alpha1.ComponentService) {
		url := "http://" + net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(config.PortTelemetry)) + config.PathMetrics
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			continue
		}
		response, err := web.Do(request)
		if err != nil {
			continue
		}
		var text bytes.Buffer
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(io.TeeReader(response.Body, &text))
		_ = response.Body.Close()
		keep("metrics of flag services", pod.Name, text.String())
		if err == nil {
			counts[pod.UID] = bad(families)
		}
	}
	return counts
}

// expectRolledBack waits for the first bad answer of the release on trial, then for
// its rollback, and reports the time between, beside the statistical bound: what the
// check found is the reason. Counts are compared pod by pod, because pods of the
// previous candidate may still be ending. A candidate may also be rejected, and its
// pods deleted, between two counts.
func expectRolledBack(ctx context.Context, fc *v1alpha1.FlagCache, stable, reason string, bad badAnswers) {
	GinkgoHelper()
	before := badByPod(ctx, fc, bad)
	Eventually(ctx, func(ctx context.Context) bool {
		for pod, count := range badByPod(ctx, fc, bad) {
			if count > before[pod] {
				return true
			}
		}
		return rolledBack(read(ctx, fc))
	}).WithTimeout(rolledOut).Should(BeTrue(), "bad answers of the release")
	began := time.Now()
	Eventually(ctx, func() bool { return rolledBack(read(ctx, fc)) }).WithTimeout(rolledOut).Should(BeTrue(), "the release is to be rolled back")
	AddReportEntry("From the first bad answer to weight 0", time.Since(began).Round(100*time.Millisecond).String(), ReportEntryVisibilityAlways)
	reportBound(ctx, fc)

	Expect(fc.Status.Revisions.Stable).To(Equal(stable))
	Expect(weightOf(ctx, fc)).To(BeZero())
	Expect(fc).To(haveCondition(v1alpha1.ConditionRolloutHealthy, metav1.ConditionFalse, v1alpha1.ReasonRolledBack))
	Expect(messageOf(fc, v1alpha1.ConditionRolloutHealthy)).To(ContainSubstring(reason))
	AddReportEntry("Why", messageOf(fc, v1alpha1.ConditionRolloutHealthy), ReportEntryVisibilityAlways)
}

// rolledBack reports whether the current spec was rolled back, and its revision is in the
// status.
func rolledBack(fc *v1alpha1.FlagCache) bool {
	c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionRolloutHealthy)
	return c != nil && c.ObservedGeneration == fc.Generation && c.Reason == v1alpha1.ReasonRolledBack &&
		fc.Status.Revisions != nil && fc.Status.Revisions.Rejected != ""
}

// reportBound reports how many events any test needs on average for a verdict at the
// observed rate: log(1/alpha)/KL. It is for the reader and decides nothing.
func reportBound(ctx context.Context, fc *v1alpha1.FlagCache) {
	GinkgoHelper()
	state := recordOf(ctx, fc, fc.Status.Revisions.Rejected).Canary
	for _, r := range state.Judge() {
		if r.Verdict != canary.Breach {
			continue
		}
		p, limit := min(r.Result.Observed, 1-1e-9), r.Limit
		divergence := p*math.Log(p/limit) + (1-p)*math.Log((1-p)/(1-limit))
		AddReportEntry("Statistical bound", fmt.Sprintf("%s: %d of %d events were bad; at that rate no verdict with alpha %.3g can need fewer than %.0f on average",
			r.Check, r.Counts.Bad, r.Counts.Total, state.Policy.Alpha, math.Log(1/state.Policy.Alpha)/divergence), ReportEntryVisibilityAlways)
	}
}

// recordOf is the record of a revision.
func recordOf(ctx context.Context, fc *v1alpha1.FlagCache, revision string) canary.Record {
	GinkgoHelper()
	kept := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: fc.Namespace, Name: fc.Name + "-" + revision}}
	record, err := canary.Decode(read(ctx, kept).Annotations[v1alpha1.AnnotationRecord])
	Expect(err).NotTo(HaveOccurred())
	return record
}

// weightOf is the share that stable pods are to forward, 0 where that is not configured.
func weightOf(ctx context.Context, fc *v1alpha1.FlagCache) float64 {
	GinkgoHelper()
	traffic := &corev1.ConfigMap{}
	err := local.Client.Get(ctx, client.ObjectKey{Namespace: fc.Namespace, Name: fc.Name + "-traffic"}, traffic)
	if client.IgnoreNotFound(err) == nil && err != nil {
		return 0
	}
	Expect(err).NotTo(HaveOccurred())
	var split struct{ Weight float64 }
	Expect(json.Unmarshal([]byte(traffic.Data[config.SplitKey]), &split)).To(Succeed())
	return split.Weight
}
