// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
)

// tearDown deletes what the FlagCache created, traffic before what the traffic needs,
// and stops at the first object that still exists. It begins with the routes that refer
// to a candidate; the finalizer is removed last.
func tearDown(s *observed.Index) Plan {
	if routes := traffic.RouteChanges(s, nil); len(routes) > 0 {
		return Plan{Routes: routes, RequeueAfter: routeInterval, Status: deletingStatus(s, "HTTPRoute "+routes[0].GetName()+" to stop referring to the candidate")}
	}
	for stage := range deletionStages {
		if stage == deletionStages-1 {
			if step := caches.TearDown(s); step.WaitsFor != "" {
				return Plan{Apply: step.Apply, Delete: step.Delete, Status: deletingStatus(s, step.WaitsFor), RequeueAfter: teardownInterval}
			}
		}
		left := stageObjects(s, stage)
		if len(left) == 0 {
			continue
		}
		return Plan{Delete: observed.NotDeleting(left), Status: deletingStatus(s, observed.KindOf(left[0])+" "+left[0].GetName()+" to be deleted")}
	}
	return Plan{Finalizer: RemoveFinalizer, Status: s.FlagCache.Status}
}

// teardownInterval is how soon the teardown of a cache is reconciled again: what AWS
// rejects is in the status of its objects, but that ACK does not respond is known by the
// time only.
const teardownInterval = 30 * time.Second

// deletionStages is the number of stages of deletionStage.
const deletionStages = 4

// deletionStage is when an object is deleted: scaling and traffic, pods, the cache in the
// cluster, those in the cloud, the rest.
func deletionStage(o observed.Object) int {
	switch o := o.(type) {
	case *autoscalingv2.HorizontalPodAutoscaler:
		return 0
	case *corev1.Service:
		if o.Labels[v1alpha1.LabelComponent] == v1alpha1.ComponentCache {
			return 3
		}
		return 0
	case *appsv1.Deployment, *batchv1.Job:
		return 1
	case *appsv1.StatefulSet:
		return 2
	default:
		return 3
	}
}

func stageObjects(s *observed.Index, stage int) []observed.Object {
	var objects []observed.Object
	for _, child := range s.Owned {
		if deletionStage(child) == stage && child.GetLabels()[v1alpha1.LabelCache] == "" {
			objects = append(objects, child)
		}
	}
	return objects
}
