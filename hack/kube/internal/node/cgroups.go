// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// noCgroups is a container manager that has no cgroups and does not complain
// about it each time a pod's status is made.
type noCgroups struct {
	cm.ContainerManager
}

// NewPodContainerManager returns what would manage the cgroups of pods.
func (n noCgroups) NewPodContainerManager() cm.PodContainerManager {
	return noPodCgroups{n.ContainerManager.NewPodContainerManager()}
}

type noPodCgroups struct {
	cm.PodContainerManager
}

// GetPodCgroupConfig returns that no limits are set.
func (noPodCgroups) GetPodCgroupConfig(*corev1.Pod, corev1.ResourceName) (*cm.ResourceConfig, error) {
	return nil, nil
}
