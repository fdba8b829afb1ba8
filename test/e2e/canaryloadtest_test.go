// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/loadtest"
)

var _ = Describe("A canary with a load test", Ordered, Label("canary"), func() {
	var (
		fc               *v1alpha1.FlagCache
		expectNoneFailed func()
	)

	// The limit is far above the latency of a good release on a busy machine, and far
	// below what the bad one adds to each answer.
	tested := func(trial v1alpha1.CanarySpec) v1alpha1.CanarySpec {
		trial.LoadTest = &v1alpha1.LoadTestSpec{
			Concurrency: 4,
			Duration:    metav1.Duration{Duration: 2 * time.Second},
			LatencyP95:  metav1.Duration{Duration: time.Second},
		}
		trial.MinimumRequests = 1
		return trial
	}

	BeforeAll(func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc = aFlagCache(namespace, "tested", triedBy(shortTrial))
		created(ctx, someFlags(namespace), fc)
		expectReady(ctx, fc)
		expectNoneFailed = withTraffic(ctx, fc, "colour")
	})

	It("tests a good release before it has traffic, and records the result", func(ctx context.Context) {
		stable := revisionOf(ctx, fc)
		changeRelease(ctx, fc, "none", tested(shortTrial))
		expectJobFoundAgain(ctx, fc)
		Eventually(ctx, func() string { return revisionOf(ctx, fc) }).WithTimeout(rolledOut).ShouldNot(Equal(stable))
		expectReady(ctx, fc)

		candidate := revisionOf(ctx, fc)
		Expect(phasesOf(ctx, fc)).To(ContainElement(string(v1alpha1.CanaryLoadTesting)+" 0%"), "the candidate had no traffic during the test")
		result := recordOf(ctx, fc, candidate).Canary.Progress.LoadTest
		Expect(result).NotTo(BeNil())
		Expect(result.Passed).To(BeTrue(), "%s", result.Report)
		var report loadtest.Report
		Expect(json.Unmarshal([]byte(result.Report), &report)).To(Succeed())
		Expect(report.Revisions).To(Equal(map[string]int64{candidate: report.Requests}), "only the candidate was tested")
		Expect(explained(ctx, fc, candidate)).To(ContainSubstring("Load test passed: of "))
	}, SpecTimeout(rolledOut))

	It("rolls back a release that is too slow before it has any traffic", func(ctx context.Context) {
		stable := revisionOf(ctx, fc)
		changeRelease(ctx, fc, "late", tested(longTrial))
		Eventually(ctx, func() bool { return rolledBack(read(ctx, fc)) }).WithTimeout(rolledOut).Should(BeTrue(), "the release is to be rolled back")
		rejected := fc.Status.Revisions.Rejected
		Expect(fc.Status.Revisions.Stable).To(Equal(stable))
		Expect(fc).To(haveCondition(v1alpha1.ConditionRolloutHealthy, metav1.ConditionFalse, v1alpha1.ReasonRolledBack))
		Expect(messageOf(fc, v1alpha1.ConditionRolloutHealthy)).To(ContainSubstring("LoadTestFailed"))
		AddReportEntry("Why", messageOf(fc, v1alpha1.ConditionRolloutHealthy), ReportEntryVisibilityAlways)
		Expect(weightsGiven(ctx, fc, rejected)).To(HaveEach(BeZero()))
		Expect(countBad(ctx, fc, handedTo(rejected))).To(BeZero(), "requests that stable pods forwarded")
		Expect(explained(ctx, fc, rejected)).To(And(ContainSubstring("LoadTestFailed"), ContainSubstring("Load test failed: of ")))
		expectNoneFailed()
	}, SpecTimeout(rolledOut))
})

// expectJobFoundAgain waits for the Job of the load test, removes the label by which the
// operator finds it, and waits until the operator has restored that.
func expectJobFoundAgain(ctx context.Context, fc *v1alpha1.FlagCache) {
	GinkgoHelper()
	jobs := &batchv1.JobList{}
	Eventually(ctx, func(ctx context.Context) ([]batchv1.Job, error) {
		err := local.Client.List(ctx, jobs, client.InNamespace(fc.Namespace), client.MatchingLabels{v1alpha1.LabelName: fc.Name})
		return jobs.Items, err
	}).WithTimeout(rolledOut).ShouldNot(BeEmpty(), "the Job of the load test")
	job := &jobs.Items[0]
	changed(ctx, job, func(job *batchv1.Job) { delete(job.Labels, v1alpha1.LabelName) })
	Eventually(ctx, func(ctx context.Context) map[string]string { return read(ctx, job).Labels }).
		Should(HaveKeyWithValue(v1alpha1.LabelName, fc.Name), "the label of Job %s", job.Name)
}

// explained is how the kubectl plugin explains a revision's record.
func explained(ctx context.Context, fc *v1alpha1.FlagCache, revision string) string {
	GinkgoHelper()
	kept := kubectl(ctx, "get", "controllerrevision", "--namespace", fc.Namespace, fc.Name+"-"+revision, "--output", "yaml")
	plugin := exec.CommandContext(ctx, built(ctx, "../../cmd/kubectl-flagcache"), "explain", "-f", "-")
	plugin.Stdin = strings.NewReader(kept)
	var output bytes.Buffer
	plugin.Stdout, plugin.Stderr = &output, &output
	Expect(plugin.Run()).To(Succeed(), "%s", &output)
	keep("output of kubectl flagcache explain", fc.Name+"-"+revision, output.String())
	return output.String()
}

// handedTo counts the requests that stable pods handed to a revision, whatever
// became of them.
func handedTo(revision string) badAnswers {
	return func(families map[string]*dto.MetricFamily) (n float64) {
		for _, m := range families[config.MetricSplitRequests].GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "revision" && label.GetValue() == revision {
					n += m.GetCounter().GetValue()
				}
			}
		}
		return n
	}
}

// phasesOf are the phases of all canaries of a FlagCache with the weight in each, as its
// status reported them.
func phasesOf(ctx context.Context, fc *v1alpha1.FlagCache) []string {
	GinkgoHelper()
	var phases []string
	for _, version := range record.versions(ctx, fc) {
		phase, _, _ := unstructured.NestedString(version.Object, "status", "canary", "phase")
		summary, _, _ := unstructured.NestedString(version.Object, "status", "canary", "summary")
		weight, _, _ := strings.Cut(summary, " ")
		phases = append(phases, phase+" "+weight)
	}
	return phases
}

// weightsGiven are the weights of a candidate, as the status reported them.
func weightsGiven(ctx context.Context, fc *v1alpha1.FlagCache, candidate string) []int64 {
	GinkgoHelper()
	var weights []int64
	for _, version := range record.versions(ctx, fc) {
		if name, _, _ := unstructured.NestedString(version.Object, "status", "revisions", "candidate"); name == candidate {
			weight, _, _ := unstructured.NestedInt64(version.Object, "status", "canary", "weight")
			weights = append(weights, weight)
		}
	}
	Expect(weights).NotTo(BeEmpty(), "revision %s was never reported as a candidate", candidate)
	return weights
}
