// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"cmp"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
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
	// loadTestMargin is how much later Kubernetes ends the Job: it deletes the pod, and
	// with it the reason why it did not run.
	loadTestMargin = time.Minute
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
			ActiveDeadlineSeconds: ptr.To(int64((loadTestTimeout(test) + loadTestMargin).Seconds())),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: loadTestPodMeta(fc, meta.Labels),
				Spec:       loadTestPod(s, record.Revision, maxErrorRate),
			},
		},
	}
}

func loadTestTimeout(test *v1alpha1.LoadTestSpec) time.Duration {
	return test.Duration.Duration + loadTestGrace
}

// Labels and annotations that keep service meshes from adding a proxy to a pod.
const (
	istioInject   = "sidecar.istio.io/inject"
	linkerdInject = "linkerd.io/inject"
)

// loadTestPodMeta keeps service meshes from adding a proxy, without which the test can
// start at once and end. Where the spec requests one for the flag service, whose peers
// may then need it too, the test has it as well.
func loadTestPodMeta(fc *v1alpha1.FlagCache, labels map[string]string) metav1.ObjectMeta {
	service := fc.Spec.Service
	return metav1.ObjectMeta{
		Labels: observed.With(labels, map[string]string{istioInject: cmp.Or(string(service.PodLabels[istioInject]), "false")}),
		Annotations: map[string]string{
			istioInject:   cmp.Or(string(service.PodAnnotations[istioInject]), string(service.PodLabels[istioInject]), "false"),
			linkerdInject: cmp.Or(string(service.PodAnnotations[linkerdInject]), "disabled"),
		},
	}
}

// LoadTestNetworkPolicy lets the load test reach DNS and the flag service, in a
// namespace in which nothing else does, and lets nothing in.
func LoadTestNetworkPolicy(fc *v1alpha1.FlagCache, revision string) *networkingv1.NetworkPolicy {
	meta := observed.ChildMeta(fc, observed.LoadTestName(fc, revision), v1alpha1.ComponentLoadTest)
	meta.Labels[v1alpha1.LabelRevision] = revision
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: meta,
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: observed.SelectorLabels(fc, v1alpha1.ComponentLoadTest)},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Egress:      []networkingv1.NetworkPolicyEgressRule{dnsEgress(), serviceEgress(fc)},
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
			Name:  observed.LoadTestContainer,
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
// It is that of its container. A test that did not finish has not passed.
func LoadTestResult(s *observed.Index, record canary.Record) *canary.LoadTestResult {
	job := loadTestOf(s, record)
	if job == nil {
		return nil
	}
	test := s.LoadTests[job.UID]
	switch {
	case test.Ended:
		return &canary.LoadTestResult{Passed: test.Passed, Report: cmp.Or(test.Report, test.Failure.Message)}
	case test.Failure.Fatal, test.Failure.Reason != "" && loadTestOverdue(s, job):
		return &canary.LoadTestResult{Report: test.Failure.Message}
	}
	for _, c := range job.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobComplete:
			return &canary.LoadTestResult{Passed: true}
		case c.Type == batchv1.JobFailed:
			return &canary.LoadTestResult{Report: cmp.Or(test.Failure.Message, c.Reason)}
		}
	}
	return nil
}

// LoadTestFailure is what keeps the load test of an attempt from running, "" for nothing.
func LoadTestFailure(s *observed.Index, record canary.Record) string {
	if job := loadTestOf(s, record); job != nil {
		return s.LoadTests[job.UID].Failure.Message
	}
	return ""
}

// loadTestOf returns the Job of an attempt, nil if there is none.
func loadTestOf(s *observed.Index, record canary.Record) *batchv1.Job {
	job, ok := observed.Get[*batchv1.Job](s, observed.LoadTestName(s.FlagCache, record.Revision))
	if !ok || job.Annotations[v1alpha1.AnnotationTrial] != AttemptID(record) {
		return nil
	}
	return job
}

func loadTestOverdue(s *observed.Index, job *batchv1.Job) bool {
	test := s.FlagCache.Spec.Canary.LoadTest
	return test != nil && s.Now.Sub(job.CreationTimestamp.Time) > loadTestTimeout(test)
}
