// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// action is something that people or the cluster may do at any time.
type action struct {
	name string
	// possible reports whether it would change something.
	possible func(*World) bool
	do       func(*World)
}

// exploredActions are the actions that are tried in each state.
var exploredActions = []action{
	applyImage("flag-service:v2"),
	applyImage("flag-service:" + unstartableImage),
	applyImage(""),
	{"delete the stable Deployment", stableExists, func(w *World) { deleteStable.do(w) }},
	{"delete the Service", serviceExists, func(w *World) { w.user().userDeletes(services, name) }},
	{"select revision deadbeef", serviceExists, func(w *World) { selectRevision("deadbeef").do(w) }},
	{"add a label to the selector", serviceExists, func(w *World) {
		updateAs(&w.api, services, name, func(s *corev1.Service) { s.Spec.Selector["release"] = "blue" })
	}},
	{"remove the label of the stable Deployment", stableExists, func(w *World) { relabelStable("").do(w) }},
	{"lose the pods of the first revision", func(w *World) bool { return w.lostImage == "" }, func(w *World) {
		for _, o := range w.api.now(deployments) { // the deadline begins when pods end, however old the Deployment is
			updateAs(&w.api, deployments, o.GetName(), func(d *appsv1.Deployment) {
				if d.Status.AvailableReplicas > 0 {
					d.Status.Conditions[0].LastUpdateTime = metav1.NewTime(w.time)
				}
			})
		}
		losePods.do(w)
	}},
	{"let the pods return", func(w *World) bool { return w.lostImage != "" }, func(w *World) { returnPods.do(w) }},
	annotated("promote", v1alpha1.AnnotationPromote),
	annotated("abort", v1alpha1.AnnotationAbort),
	{"lose the records", func(w *World) bool { return len(w.api.now(controllerRevisions)) > 0 }, func(w *World) {
		for _, o := range slices.Clone(w.api.now(controllerRevisions)) {
			w.user().userDeletes(controllerRevisions, o.GetName())
		}
	}},
}

// childActions delete and edit what belongs to the FlagCache, suspend it, and delete it.
var childActions = []action{
	deleted("the FlagCache", flagCaches, name),
	deleted("the connection Secret", secrets, name+"-connection"),
	deleted("the traffic file", configMaps, name+"-traffic"),
	{"delete the Deployment of the candidate", candidateExists, func(w *World) {
		w.user().userDeletes(deployments, name+"-"+statusOf(w).Candidate)
	}},
	{"scale the stable Deployment to 0", stableExists, func(w *World) {
		updateAs(&w.api, deployments, name+"-"+w.canaryOracle().stable(), func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](0) })
	}},
	suspended("suspend", true),
	suspended("resume", false),
	{"retry", func(w *World) bool {
		rejected := statusOf(w).Rejected
		return rejected != "" && annotationOf(w, v1alpha1.AnnotationRetry) != rejected
	}, func(w *World) {
		updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) {
			setAnnotation(fc, v1alpha1.AnnotationRetry, fc.Status.Revisions.Rejected)
		})
	}},
}

// inClusterActions are tried in addition in a World with a cache in the cluster.
var inClusterActions = []action{
	deleted("the StatefulSet", statefulSets, name+"-redis"),
	deleted("the password of Redis", secrets, name+"-redis"),
}

// deleted deletes an object.
func deleted(what string, k kind, named string) action {
	return action{"delete " + what, func(w *World) bool {
		o := find(w.api.now(k), named)
		return o != nil && o.GetDeletionTimestamp() == nil
	}, func(w *World) { w.user().userDeletes(k, named) }}
}

// suspended suspends the FlagCache, or lets it continue.
func suspended(what string, suspend bool) action {
	return action{what, func(w *World) bool { return specOf(w) != nil && specOf(w).Suspend != suspend }, func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = suspend })
	}}
}

func candidateExists(w *World) bool {
	candidate := statusOf(w).Candidate
	return candidate != "" && find(w.api.now(deployments), name+"-"+candidate) != nil
}

// statusOf returns the revisions in the status.
func statusOf(w *World) v1alpha1.RevisionsStatus {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok || fc.Status.Revisions == nil {
		return v1alpha1.RevisionsStatus{}
	}
	return *fc.Status.Revisions
}

// applyImage applies a spec with another image.
func applyImage(image string) action {
	return action{"apply image " + image, func(w *World) bool {
		fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
		return ok && fc.Spec.Service.Image != image
	}, func(w *World) { newImage(image).do(w) }}
}

// annotated sets an annotation with the candidate.
func annotated(what, key string) action {
	return action{what, func(w *World) bool {
		fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
		return ok && fc.Status.Revisions != nil && fc.Status.Revisions.Candidate != "" && fc.Annotations[key] != fc.Status.Revisions.Candidate
	}, func(w *World) {
		updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { setAnnotation(fc, key, fc.Status.Revisions.Candidate) })
	}}
}

func serviceExists(w *World) bool { return find(w.api.now(services), name) != nil }

func stableExists(w *World) bool {
	return find(w.api.now(deployments), name+"-"+w.canaryOracle().stable()) != nil
}

// faultActions are faults of the operator's writes and of what it reads, which an exploration tries
// like the actions of people.
var faultActions = []action{
	failNextWrite("fail the next write of the operator", unavailable),
	failNextWrite("lose the response of the next write of the operator", applied),
	failNextWrite("crash after the next write of the operator", crashAfter),
	staleCache(0),
	staleCache(maxLag),
}

// cloudActions are tried in addition in a World with a cache in AWS.
var cloudActions = []action{
	{"request a new token", func(w *World) bool { return annotationOf(w, v1alpha1.AnnotationRotateToken) == "" }, func(w *World) { requestRotation("today").do(w) }},
	{"request larger nodes", func(w *World) bool {
		return specOf(w) != nil && specOf(w).Cache.ElastiCache.NodeType == "cache.t3.micro"
	}, func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Cache.ElastiCache.NodeType = "cache.t3.small" })
	}},
	{"change the engine", func(w *World) bool {
		return specOf(w) != nil && specOf(w).Cache.ElastiCache.Engine == v1alpha1.EngineRedis
	}, func(w *World) { changeEngine("").do(w) }},
	{"stop ACK", func(w *World) bool { return !w.cloud.stopped }, func(w *World) { w.cloud.stopped = true }},
	{"start ACK", func(w *World) bool { return w.cloud.stopped }, func(w *World) { w.cloud.stopped = false; w.nextTick = w.time.Add(tick) }},
}

func specOf(w *World) *v1alpha1.FlagCacheSpec {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return nil
	}
	return &fc.Spec
}

func annotationOf(w *World, key string) string {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return ""
	}
	return fc.Annotations[key]
}

// failNextWrite lets the next write of the operator fail, once, unless a fault is outstanding.
func failNextWrite(what string, f fault) action {
	return action{what, func(w *World) bool { return !faultOutstanding(w) && !w.atRest() }, func(w *World) {
		w.plan.points = append(slices.Clone(w.plan.points), point{call: w.calls + 1, fault: f, times: once})
		w.injections = append(w.injections, injection{})
	}}
}

// faultOutstanding reports whether a fault has not happened yet.
func faultOutstanding(w *World) bool {
	return slices.ContainsFunc(w.injections, func(i injection) bool { return i.times == 0 })
}

func lagging(changes int) string {
	return fmt.Sprintf("let the cache of the operator lag %d changes behind", changes)
}

// maxLag is the number of changes that a cache lags behind at most.
const maxLag = 2

// staleCache lets the operator read an earlier state for a while, so many changes behind.
func staleCache(lag int) action {
	return action{lagging(lag), func(w *World) bool { return !w.cache.isOld() && !w.atRest() }, func(w *World) {
		w.plan.staleViews = append(slices.Clone(w.plan.staleViews), staleView{kind: kinds, lag: lag})
		w.cache = cacheView{until: w.time.Add(staleDuration), of: kinds, states: w.api.statesBefore(kinds, lag)}
	}}
}
