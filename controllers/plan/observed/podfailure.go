// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// maxRestarts is how often a candidate's container may restart before that counts
// as a crash loop.
const maxRestarts = 1

// crashLoop is the reason of a container that keeps exiting.
const crashLoop = "CrashLoopBackOff"

// fatalReasons are the reasons of waiting containers that do not resolve by
// themselves.
var fatalReasons = map[string]bool{
	crashLoop: true, "ImagePullBackOff": true, "ErrImageNeverPull": true, "InvalidImageName": true,
	"CreateContainerConfigError": true, "CreateContainerError": true, "RunContainerError": true,
}

// PodFailureReasons are all reasons that PodFailureOf can return, sorted.
func PodFailureReasons() []string { return slices.Sorted(maps.Keys(fatalReasons)) }

// PodFailureOf returns what keeps a pod from running and does not resolve by itself;
// its Reason is empty if nothing does.
func PodFailureOf(pod *corev1.Pod) PodFailure {
	for _, c := range pod.Status.ContainerStatuses {
		waiting, last := c.State.Waiting, c.LastTerminationState.Terminated
		switch {
		case waiting != nil && fatalReasons[waiting.Reason]:
			return PodFailure{Reason: waiting.Reason, Message: fmt.Sprintf("container %s of a pod is in %s: see kubectl logs and describe", c.Name, waiting.Reason)}
		case c.RestartCount > maxRestarts && last != nil && last.ExitCode != 0:
			return PodFailure{Reason: crashLoop, Message: fmt.Sprintf("container %s of a pod exits repeatedly with code %d", c.Name, last.ExitCode)}
		}
	}
	return PodFailure{}
}
