// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/pods"
)

const (
	// loadTestReport is where the report is written: Kubernetes copies it to the status of
	// the pod (https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/).
	loadTestReport = corev1.TerminationMessagePathDefault
	// loadTestGrace is how long scheduling the pod and pulling its image may take, in
	// addition to the test.
	loadTestGrace = 5 * time.Minute
	// maxReport is the length of a report that is kept, in bytes: Kubernetes truncates a
	// termination message at that.
	maxReport = 4096
)

// LoadTestJob sends requests to the candidate before any client does. It runs the
// operator's default flag service, whatever image the candidate has. It belongs to one
// attempt, which must be on record; a retry has a Job of its own.
func LoadTestJob(s *observed.Index, record canary.Record, maxErrorRate float64) *batchv1.Job {
	fc, test := s.FlagCache, s.FlagCache.Spec.Canary.LoadTest
	meta := observed.ChildMeta(fc, observed.LoadTestName(fc, record.Revision), v1alpha1.ComponentLoadTest)
	meta.Labels[v1alpha1.LabelRevision] = record.Revision
	meta.Annotations = map[string]string{v1alpha1.AnnotationTrial: AttemptID(record)}
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: meta,
		Spec: batchv1.JobSpec{
			BackoffLimit:          ptr.To[int32](0),
			ActiveDeadlineSeconds: ptr.To(int64((test.Duration.Duration + loadTestGrace).Seconds())),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels},
				Spec:       loadTestPod(s, record.Revision, maxErrorRate),
			},
		},
	}
}

func loadTestPod(s *observed.Index, revision string, maxErrorRate float64) corev1.PodSpec {
	fc, spec := s.FlagCache, s.FlagCache.Spec.Canary
	return corev1.PodSpec{
		RestartPolicy:                corev1.RestartPolicyNever,
		AutomountServiceAccountToken: ptr.To(false),
		EnableServiceLinks:           ptr.To(false),
		SecurityContext:              pods.PodSecurityContext(),
		ImagePullSecrets:             pullSecrets(fc.Spec.Service.ImagePullSecrets),
		NodeSelector:                 nodeSelector(fc.Spec.Service.NodeSelector),
		Tolerations:                  fc.Spec.Service.Tolerations,
		Containers: []corev1.Container{{
			Name:  "load-test",
			Image: s.Operator.FlagServiceImage,
			Args: []string{
				"loadtest", observed.RevisionEndpoint(fc, revision),
				"--concurrency=" + strconv.Itoa(int(spec.LoadTest.Concurrency)),
				"--duration=" + spec.LoadTest.Duration.Duration.String(),
				"--p95=" + spec.LoadTest.LatencyP95.Duration.String(),
				"--max-error-rate=" + strconv.FormatFloat(maxErrorRate, 'f', -1, 64),
				"--output=json", "--report-file=" + loadTestReport,
			},
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          pods.ContainerSecurityContext(),
			Resources:                resourcesOf(fc),
		}},
	}
}

// AttemptID identifies a canary of a revision by the time at which it began.
func AttemptID(record canary.Record) string { return record.StartedAt.UTC().Format(time.RFC3339) }

// LoadTestResult returns the result of the load test of an attempt, nil before its end.
// A test that did not finish has not passed.
func LoadTestResult(s *observed.Index, record canary.Record) *canary.LoadTestResult {
	job, there := observed.Get[*batchv1.Job](s, observed.LoadTestName(s.FlagCache, record.Revision))
	if !there || job.Annotations[v1alpha1.AnnotationTrial] != AttemptID(record) {
		return nil
	}
	report := s.LoadTestReport[:min(len(s.LoadTestReport), maxReport)]
	for _, c := range job.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobComplete:
			return &canary.LoadTestResult{Passed: true, Report: report}
		case c.Type == batchv1.JobFailed && report == "":
			return &canary.LoadTestResult{Report: c.Reason}
		case c.Type == batchv1.JobFailed:
			return &canary.LoadTestResult{Report: report}
		}
	}
	return nil
}
