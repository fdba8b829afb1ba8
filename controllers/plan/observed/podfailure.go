// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
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

// PodFailureOf returns what keeps a pod from running; its Reason is empty if nothing
// does.
func PodFailureOf(pod *corev1.Pod) PodFailure {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if failure := containerFailure(c); failure.Reason != "" {
			return failure
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason != "" {
			return PodFailure{Reason: c.Reason, Message: "no node can run a pod: " + stable(c.Message) +
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
