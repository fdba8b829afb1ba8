// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func waiting(reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "flag-service", Image: "registry/flags:v2", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
}

func exited(code int32) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error"}
}

func TestPodFailures(t *testing.T) {
	crashed := corev1.ContainerStatus{Name: "flag-service", RestartCount: 2, LastTerminationState: corev1.ContainerState{Terminated: exited(3)}}
	unschedulable := corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
		Message: "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."}}}
	of := func(containers ...corev1.ContainerStatus) corev1.PodStatus {
		return corev1.PodStatus{ContainerStatuses: containers}
	}
	for name, test := range map[string]struct {
		status  corev1.PodStatus
		reason  string
		message string
		fatal   bool
	}{
		"nothing is known":                     {},
		"it is being created":                  {status: of(waiting("ContainerCreating"))},
		"the image cannot be pulled":           {status: of(waiting("ImagePullBackOff")), reason: "ImagePullBackOff", message: "registry/flags:v2"},
		"the image was not pulled once":        {status: of(waiting("ErrImagePull")), reason: "ImagePullBackOff", message: "registry/flags:v2"},
		"the image has no valid name":          {status: of(waiting("InvalidImageName")), reason: "InvalidImageName", message: "correct the name", fatal: true},
		"a Secret is missing":                  {status: of(waiting("CreateContainerConfigError")), reason: "CreateContainerConfigError", message: "Secret or ConfigMap"},
		"it crashes":                           {status: of(waiting("CrashLoopBackOff")), reason: "CrashLoopBackOff", message: "--previous", fatal: true},
		"it crashed and runs":                  {status: of(crashed), reason: "CrashLoopBackOff", message: "with code 3", fatal: true},
		"an init container cannot be pulled":   {status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{waiting("ErrImagePull")}}, reason: "ImagePullBackOff", message: "registry"},
		"no node has room":                     {status: unschedulable, reason: "Unschedulable", message: "3 Insufficient cpu. Check its resources"},
		"a second container, injected, cannot": {status: of(corev1.ContainerStatus{}, waiting("ImagePullBackOff")), reason: "ImagePullBackOff", message: "registry"},
	} {
		t.Run(name, func(t *testing.T) {
			got := PodFailureOf([]corev1.Pod{{Status: test.status}}, true)
			if got.Reason != test.reason || got.Fatal != test.fatal || !strings.Contains(got.Message, test.message) {
				t.Errorf("%+v, want reason %q, fatal %v and a message with %q", got, test.reason, test.fatal, test.message)
			}
		})
	}
}

// TestStableMessages: a message that differs between attempts would be written with each.
func TestStableMessages(t *testing.T) {
	for message, want := range map[string]string{
		`pods "demo-1f2e-x7k2p" is forbidden: exceeded quota: all, requested: pods=1, used: pods=10, limited: pods=10`: `pods is forbidden: exceeded quota: all, requested: pods=1, limited: pods=10`,
		`pods "demo-1f2e-" is forbidden: violates PodSecurity "restricted:latest": privileged`:                         `pods is forbidden: violates PodSecurity "restricted:latest": privileged`,
		`admission webhook "deny.example" denied the request: no.`:                                                     `admission webhook "deny.example" denied the request: no`,
		strings.Repeat("é", 400): strings.Repeat("é", 150) + "…",
	} {
		if got := stable(message); got != want {
			t.Errorf("%q becomes %q, want %q", message, got, want)
		}
	}
}

func TestLoadTestOf(t *testing.T) {
	container := func(name string, state corev1.ContainerState) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: state}
	}
	running := container("istio-proxy", corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
	ended := func(code int32, message, reason string) corev1.ContainerStatus {
		return container(LoadTestContainer, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message, Reason: reason}})
	}
	for name, test := range map[string]struct {
		containers []corev1.ContainerStatus
		want       LoadTest
	}{
		"it has no containers": {},
		"it runs":              {containers: []corev1.ContainerStatus{running}},
		"it passed, a proxy goes on": {
			containers: []corev1.ContainerStatus{running, ended(0, "{}", "Completed")}, want: LoadTest{Ended: true, Passed: true, Report: "{}"},
		},
		"it failed, a proxy ended well": {
			containers: []corev1.ContainerStatus{container("istio-proxy", corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: "bye"}}), ended(1, "{}", "Error")},
			want:       LoadTest{Ended: true, Report: "{}"},
		},
		"it was killed": {
			containers: []corev1.ContainerStatus{ended(137, "", "OOMKilled")},
			want:       LoadTest{Ended: true, Failure: PodFailure{Reason: "OOMKilled", Message: "its container ended with code 137 (OOMKilled)"}},
		},
		"its image cannot be pulled": {
			containers: []corev1.ContainerStatus{waiting("ImagePullBackOff")},
			want:       LoadTest{Failure: containerFailure(waiting("ImagePullBackOff"))},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pods := []corev1.Pod{{Status: corev1.PodStatus{ContainerStatuses: test.containers}}}
			if got := LoadTestOf(pods); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}
