// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/service/printable"
)

// LoadTestContainer is the container that runs a load test. Other containers of its
// pod, such as the proxy of a service mesh, may run for ever.
const LoadTestContainer = "load-test"

// maxReport is the length of a report in bytes: that at which the kubelet cuts it.
const maxReport = 4096

// LoadTest is what was observed of the pod of a load test; the zero value is one that
// runs, or has no pod.
type LoadTest struct {
	// Ended: the container ended, and Passed that it did so successfully.
	Ended, Passed bool
	// Report that it wrote, "" if there is none.
	Report string
	// Failure is what keeps the pod from running, or made the container end without a
	// report.
	Failure PodFailure
}

// LoadTestOf reads the result of a load test from its pods.
func LoadTestOf(pods []corev1.Pod) LoadTest {
	var test LoadTest
	for i := range pods {
		for _, c := range pods[i].Status.ContainerStatuses {
			if c.Name == LoadTestContainer && c.State.Terminated != nil {
				return endedLoadTest(c.State.Terminated)
			}
		}
		if failure := podFailure(&pods[i]); failure.Reason != "" {
			test.Failure = failure
		}
	}
	return test
}

func endedLoadTest(ended *corev1.ContainerStateTerminated) LoadTest {
	test := LoadTest{Ended: true, Passed: ended.ExitCode == 0, Report: printable.Text(ended.Message, maxReport)}
	if test.Report == "" && !test.Passed {
		test.Failure = PodFailure{Reason: ended.Reason, Message: fmt.Sprintf("its container ended with code %d (%s)", ended.ExitCode, ended.Reason)}
	}
	return test
}
