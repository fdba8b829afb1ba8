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

// What load testers say when they end.
const (
	goodReport = `{"passed":true,"requests":12000,"errorRate":0,"latency":{"p95Ms":8}}`
	badReport  = `{"passed":false,"requests":12000,"errorRate":0,"latency":{"p95Ms":810}}`
)

// loadTestTime is how long a load test takes.
const loadTestTime = 10 * time.Second

// jobController runs load tests: a Job gets its pod, and when that ends, by what
// it found, the Job is complete or has failed.
func (w *World) jobController() {
	for _, o := range w.api.now(jobs) {
		job := o.(*batchv1.Job)
		_, there := live[*corev1.Pod](&w.api.store, pods, job.Name)
		ends := job.CreationTimestamp.Add(loadTestTime)
		switch {
		case !there:
			w.runPod(job.Name, map[string]string{batchv1.ControllerUidLabel: string(job.UID)}, metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job")))
			w.alarmAt(ends)
		case len(job.Status.Conditions) > 0:
		case w.time.Before(ends):
			w.alarmAt(ends)
		default:
			w.endLoadTest(job)
		}
	}
}

// endLoadTest has the pod of a Job say what it found, and end.
func (w *World) endLoadTest(job *batchv1.Job) {
	report, code, end := goodReport, int32(0), batchv1.JobComplete
	if strings.Contains(w.imageOf(job.Labels[v1alpha1.LabelRevision]), slowImage) {
		report, code, end = badReport, 1, batchv1.JobFailed
	}
	edit(&w.api, pods, job.Name, func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: report},
		}}}
	})
	edit(&w.api, jobs, job.Name, func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: end, Status: corev1.ConditionTrue}}
	})
}

func (w *World) runPod(name string, labels map[string]string, owner *metav1.OwnerReference) {
	w.make(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels, OwnerReferences: []metav1.OwnerReference{*owner}}})
}

// kubelet runs the pods of images that crash. Those of others are in the status
// of their Deployments alone: nobody looks at them.
func (w *World) kubelet() {
	for _, o := range w.api.now(deployments) {
		d := o.(*appsv1.Deployment)
		crashes := strings.Contains(d.Spec.Template.Spec.Containers[0].Image, crashingImage) && ptr.Deref(d.Spec.Replicas, 1) > 0
		_, there := live[*corev1.Pod](&w.api.store, pods, d.Name)
		switch {
		case crashes && !there:
			w.runPod(d.Name, d.Spec.Template.Labels, metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment")))
			edit(&w.api, pods, d.Name, func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{
					Name: "flag-service", RestartCount: 2,
					State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
				}}
			})
		case !crashes && there:
			w.mustRemove(pods, d.Name)
		}
	}
	w.removeOrphans()
}

// removeOrphans removes pods whose Deployment or Job is gone.
func (w *World) removeOrphans() {
	for _, o := range w.api.now(pods) {
		owner := metav1.GetControllerOf(o)
		if owner == nil {
			continue
		}
		if there := find(w.api.now(kindNamed(owner.Kind)), owner.Name); there == nil || there.GetUID() != owner.UID {
			w.mustRemove(pods, o.GetName())
		}
	}
}

// loadTested has a candidate tested under load before any client is sent to it.
func loadTested(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.LoadTest = &v1alpha1.LoadTestSpec{
		Concurrency: 50, Duration: metav1.Duration{Duration: loadTestTime}, LatencyP95: metav1.Duration{Duration: 50 * time.Millisecond},
	}
	return fc
}
