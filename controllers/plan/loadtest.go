// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

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
	// loadTestReport is where the report goes: what a container writes there is in
	// its pod's status (https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/).
	loadTestReport = corev1.TerminationMessagePathDefault
	// loadTestGrace is how long the pod may take beside the test itself, to be
	// scheduled and to have its image pulled.
	loadTestGrace = 5 * time.Minute
	// longestReport that is kept; Kubernetes cuts a termination message at 4096 bytes.
	longestReport = 4096
)

// loadTestJob asks the candidate as clients do, before any of them does. It runs
// the operator's own flag service, whatever image the candidate has. It is bound
// to one attempt, which has to be on record: a retry is tested anew.
func loadTestJob(s *observed.Index, record canary.Record) *batchv1.Job {
	fc, test := s.FlagCache, s.FlagCache.Spec.Canary.LoadTest
	meta := observed.ChildMeta(fc, observed.LoadTestName(fc, record.Revision), v1alpha1.ComponentLoadTest)
	meta.Labels[v1alpha1.LabelRevision] = record.Revision
	meta.Annotations = map[string]string{v1alpha1.AnnotationTrial: attemptID(record)}
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: meta,
		Spec: batchv1.JobSpec{
			BackoffLimit:          ptr.To[int32](0),
			ActiveDeadlineSeconds: ptr.To(int64((test.Duration.Duration + loadTestGrace).Seconds())),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels},
				Spec:       loadTestPod(s, record.Revision),
			},
		},
	}
}

func loadTestPod(s *observed.Index, revision string) corev1.PodSpec {
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
				"--max-error-rate=" + strconv.FormatFloat(canaryPolicy(spec).Limits[canary.ErrorRate], 'f', -1, 64),
				"--output=json", "--report-file=" + loadTestReport,
			},
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          pods.ContainerSecurityContext(),
			Resources:                serviceResources(fc),
		}},
	}
}

// attemptID names a trial of a revision: another one began at another time.
func attemptID(record canary.Record) string { return record.StartedAt.UTC().Format(time.RFC3339) }

// loadTestObjects are the Job while its result is not on record. One that exists
// is wanted as it is: most of a Job cannot change
// (https://kubernetes.io/docs/concepts/workloads/controllers/job/). One of an
// earlier attempt has to be gone first.
func loadTestObjects(s *observed.Index, r rollout) (write, keep []observed.Object) {
	if r.canary == nil || s.FlagCache.Spec.Canary.LoadTest == nil || r.tested {
		return nil, nil
	}
	job, there := observed.Get[*batchv1.Job](s, observed.LoadTestName(s.FlagCache, r.target))
	switch {
	case there && job.Annotations[v1alpha1.AnnotationTrial] == attemptID(r.record()):
		return nil, []observed.Object{job}
	case !there && r.begun && r.canary.Phase == canary.LoadTesting:
		return []observed.Object{loadTestJob(s, r.record())}, nil
	}
	return nil, nil
}

// loadTestResult is how the load test of an attempt ended, nil while it has not.
// Nobody knows how fast a candidate is whose test did not come to an end, so that
// does not pass.
func loadTestResult(s *observed.Index, record canary.Record) *canary.LoadTestResult {
	job, there := observed.Get[*batchv1.Job](s, observed.LoadTestName(s.FlagCache, record.Revision))
	if !there || job.Annotations[v1alpha1.AnnotationTrial] != attemptID(record) {
		return nil
	}
	report := s.LoadTestReport[:min(len(s.LoadTestReport), longestReport)]
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
