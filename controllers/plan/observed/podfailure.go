// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// PodFailure is the problem that keeps pods from running.
type PodFailure struct {
	// Reason is that of Kubernetes, such as CrashLoopBackOff; "" if there is no problem.
	Reason string
	// Message describes it for people, with a next step. It is the same for every pod and
	// at every time.
	Message string
	// Fatal: waiting does not resolve it.
	Fatal bool
	// Since is when the newest of the pods was created; zero if there is none.
	Since time.Time
}

// maxRestarts is how often a container may restart before that counts as a crash loop.
const maxRestarts = 1

// crashLoop is the reason of a container that keeps exiting, imagePull that of one whose
// image is not there, and invalidImage that of one whose image has no valid name.
const (
	crashLoop    = "CrashLoopBackOff"
	imagePull    = "ImagePullBackOff"
	invalidImage = "InvalidImageName"
)

// waitingReasons are the reasons of containers that do not run, with what to do. All of
// them but those of fatalReasons may resolve by themselves: a registry is down for a
// moment, a Secret is created a second later than the pod.
var waitingReasons = map[string]string{
	crashLoop:                    "see kubectl logs --previous",
	imagePull:                    "check that it exists, that the registry can be reached, and imagePullSecrets if it is private",
	invalidImage:                 "correct the name",
	"ErrImageNeverPull":          "a policy of the cluster forbids pulling it, and it is not on the node",
	"CreateContainerConfigError": "see kubectl describe: a Secret or ConfigMap that it uses is missing, or its user is root",
	"CreateContainerError":       "see kubectl describe",
	"RunContainerError":          "see kubectl describe",
}

// fatalReasons are those that no waiting resolves.
var fatalReasons = map[string]bool{crashLoop: true, invalidImage: true}

// PodFailureReasons are the reasons of containers that do not run, sorted. Records of
// earlier versions have any of them as the reason of a rollback.
func PodFailureReasons() []string { return slices.Sorted(maps.Keys(waitingReasons)) }

// PodFailureOf returns what keeps pods from running, of the first that has a problem; its
// Reason is empty if nothing does. Restarts of pods that are ready now are problems of
// revisions that are being evaluated only.
func PodFailureOf(pods []corev1.Pod, evaluated bool) PodFailure {
	var first PodFailure
	var since time.Time
	for i := range pods {
		if pods[i].CreationTimestamp.After(since) {
			since = pods[i].CreationTimestamp.Time
		}
		if first.Reason == "" && (evaluated || !isReady(&pods[i])) {
			first = podFailure(&pods[i])
		}
	}
	first.Since = since
	return first
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func podFailure(pod *corev1.Pod) PodFailure {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if failure := containerFailure(c); failure.Reason != "" {
			return failure
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason != "" {
			return PodFailure{Reason: validReason(c.Reason), Message: "no node can run a pod: " + stable(c.Message) +
				". Check its resources, nodeSelector, affinity and tolerations against the nodes"}
		}
	}
	return PodFailure{}
}

func containerFailure(c corev1.ContainerStatus) PodFailure {
	waiting, last := c.State.Waiting, c.LastTerminationState.Terminated
	if waiting == nil || waitingReasons[unified(waiting.Reason)] == "" {
		if c.RestartCount > maxRestarts && last != nil && last.ExitCode != 0 {
			return PodFailure{Reason: crashLoop, Fatal: true, Message: fmt.Sprintf("container %s of a pod exits repeatedly with code %d: %s", c.Name, last.ExitCode, waitingReasons[crashLoop])}
		}
		return PodFailure{}
	}
	reason := unified(waiting.Reason)
	return PodFailure{Reason: reason, Fatal: fatalReasons[reason], Message: fmt.Sprintf(
		"container %s of a pod with image %s is in %s: %s", c.Name, c.Image, reason, waitingReasons[reason])}
}

// unified returns the same reason for states between which a container alternates.
func unified(reason string) string {
	if reason == "ErrImagePull" {
		return imagePull
	}
	return reason
}

// FailedCreate is the reason of events about pods that cannot be created.
const FailedCreate = "FailedCreate"

// CreationFailureOf returns why pods cannot be created, from the newest of some events.
func CreationFailureOf(events []corev1.Event) PodFailure {
	if len(events) == 0 {
		return PodFailure{}
	}
	newest := slices.MaxFunc(events, func(a, b corev1.Event) int { return eventTime(a).Compare(eventTime(b)) })
	return failedCreate(newest.Message)
}

func eventTime(e corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	default:
		return e.EventTime.Time
	}
}

func failedCreate(message string) PodFailure {
	for _, prefix := range []string{"failed error: ", "Error creating: "} {
		if _, cause, ok := strings.Cut(message, prefix); ok {
			message = cause
		}
	}
	return PodFailure{Reason: FailedCreate, Message: "pods cannot be created: " + stable(message) +
		". Change the quota, LimitRange, policy or webhook that rejects them, or the spec"}
}

// DeploymentFailure returns what keeps the pods of a Deployment from running: what its
// pods report, else why they cannot be created.
func (x *Index) DeploymentFailure(d *appsv1.Deployment) PodFailure {
	if d == nil {
		return PodFailure{}
	}
	if failure := x.Pods[d.Labels[v1alpha1.LabelRevision]]; failure.Reason != "" {
		return failure
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return failedCreate(c.Message)
		}
	}
	return PodFailure{}
}

// Available reports whether a Deployment has all replicas that it desires.
func Available(d *appsv1.Deployment) bool {
	desired := int32(1)
	if d.Spec.Replicas != nil {
		desired = *d.Spec.Replicas
	}
	return d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas >= desired
}

// WaitsForPods reports whether pods are missing. What keeps them from running is not
// watched.
func (x *Index) WaitsForPods() bool {
	return slices.ContainsFunc(All[*appsv1.Deployment](x), func(d *appsv1.Deployment) bool { return !Available(d) }) ||
		slices.ContainsFunc(All[*appsv1.StatefulSet](x), func(s *appsv1.StatefulSet) bool { return s.Status.ReadyReplicas == 0 })
}

// validReason returns a reason that a condition may have: others may write any text.
func validReason(reason string) string {
	if len(reason) > 100 || strings.Trim(reason, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") != "" {
		return "NotScheduled"
	}
	return reason
}

// maxMessage is the length of a message of Kubernetes that is kept, in bytes.
const maxMessage = 300

// stable returns a message of Kubernetes without what differs between attempts: names
// of pods that do not exist yet, what others use of a quota, and what preemption did.
func stable(message string) string {
	message, _, _ = strings.Cut(message, " preemption: ")
	if before, after, ok := strings.Cut(message, `pods "`); ok {
		if _, rest, ok := strings.Cut(after, `"`); ok {
			message = before + "pods" + rest
		}
	}
	if before, after, ok := strings.Cut(message, ", used: "); ok {
		if _, rest, ok := strings.Cut(after, ", limited: "); ok {
			message = before + ", limited: " + rest
		}
	}
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	return strings.TrimRight(message, ". ")
}
