// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// Reports of load tests.
const (
	goodReport = `{"passed":true,"requests":12000,"errorRate":0,"latency":{"p95Ms":8}}`
	badReport  = `{"passed":false,"requests":12000,"errorRate":0,"latency":{"p95Ms":810}}`
)

// loadTestDuration is the duration of a load test.
const loadTestDuration = 10 * time.Second

// jobController runs load tests: it creates the pod of a Job and, when that has ended, sets the
// condition of the Job according to the result.
func (w *World) jobController() {
	for _, o := range w.api.now(jobs) {
		job := o.(*batchv1.Job)
		_, there := live[*corev1.Pod](&w.api.store, pods, job.Name)
		ends := job.CreationTimestamp.Add(loadTestDuration)
		switch {
		case !there:
			w.createPod(job.Name, map[string]string{batchv1.ControllerUidLabel: string(job.UID)}, metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job")))
			w.setAlarm(ends)
		case len(job.Status.Conditions) > 0:
		case w.time.Before(ends):
			w.setAlarm(ends)
		default:
			w.endLoadTest(job)
		}
	}
}

// endLoadTest ends the pod of a Job with its report.
func (w *World) endLoadTest(job *batchv1.Job) {
	report, code, end := goodReport, int32(0), batchv1.JobComplete
	if strings.Contains(w.imageOf(job.Labels[v1alpha1.LabelRevision]), slowImage) {
		report, code, end = badReport, 1, batchv1.JobFailed
	}
	updateAs(&w.api, pods, job.Name, func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: report},
		}}}
	})
	updateAs(&w.api, jobs, job.Name, func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: end, Status: corev1.ConditionTrue}}
	})
}

func (w *World) createPod(name string, labels map[string]string, owner *metav1.OwnerReference) {
	w.mustCreate(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels, OwnerReferences: []metav1.OwnerReference{*owner}}})
}

// kubelet runs the pods of images that crash. All other pods exist only in the status of their
// Deployments, since the operator does not read them.
func (w *World) kubelet() {
	for _, o := range w.api.now(deployments) {
		d := o.(*appsv1.Deployment)
		crashes := strings.Contains(d.Spec.Template.Spec.Containers[0].Image, crashingImage) && ptr.Deref(d.Spec.Replicas, 1) > 0
		_, there := live[*corev1.Pod](&w.api.store, pods, d.Name)
		switch {
		case crashes && !there:
			w.createPod(d.Name, d.Spec.Template.Labels, metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment")))
			updateAs(&w.api, pods, d.Name, func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{
					Name: "flag-service", RestartCount: 2,
					State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
				}}
			})
		case !crashes && there:
			w.mustDelete(pods, d.Name)
		}
	}
	w.removeOrphans()
}

// removeOrphans deletes pods whose Deployment or Job no longer exists.
func (w *World) removeOrphans() {
	for _, o := range w.api.now(pods) {
		owner := metav1.GetControllerOf(o)
		if owner == nil {
			continue
		}
		if there := find(w.api.now(kindNamed(owner.Kind)), owner.Name); there == nil || there.GetUID() != owner.UID {
			w.mustDelete(pods, o.GetName())
		}
	}
}

// withLoadTest sets a load test that candidates have to pass before they get traffic.
func withLoadTest(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.LoadTest = &v1alpha1.LoadTestSpec{
		Concurrency: 50, Duration: metav1.Duration{Duration: loadTestDuration}, LatencyP95: metav1.Duration{Duration: 50 * time.Millisecond},
	}
	return fc
}
