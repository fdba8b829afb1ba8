// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// loadTestReport is what the pod of a load test that ended wrote, "" where there
// is none. It is asked of the API server, and only between the end of the test
// and the look that has the result on record.
func (r *Reconciler) loadTestReport(ctx context.Context, children []observed.Object) (string, error) {
	for _, child := range children {
		job, ok := child.(*batchv1.Job)
		if !ok || !ended(job) {
			continue
		}
		pods := &corev1.PodList{}
		err := r.Live.List(ctx, pods, client.InNamespace(job.Namespace), client.Limit(1),
			client.MatchingLabels{batchv1.ControllerUidLabel: string(job.UID)})
		if err != nil {
			return "", err
		}
		return terminationMessage(pods.Items), nil
	}
	return "", nil
}

func ended(job *batchv1.Job) bool {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

func terminationMessage(pods []corev1.Pod) string {
	for i := range pods {
		for _, c := range pods[i].Status.ContainerStatuses {
			if c.State.Terminated != nil {
				return c.State.Terminated.Message
			}
		}
	}
	return ""
}
