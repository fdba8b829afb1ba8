// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// noCgroups is a container manager without cgroups that does not log an error about it
// for every pod status.
type noCgroups struct {
	cm.ContainerManager
}

// NewPodContainerManager returns a manager of pod cgroups that does nothing.
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
