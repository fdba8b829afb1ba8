// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
)

// volumePlugins returns the kinds of volumes there are.
func volumePlugins(singleUser bool) []volume.VolumePlugin {
	var plugins []volume.VolumePlugin
	for _, probe := range []func() []volume.VolumePlugin{
		configmap.ProbeVolumePlugins, downwardapi.ProbeVolumePlugins, emptydir.ProbeVolumePlugins,
		projected.ProbeVolumePlugins, secret.ProbeVolumePlugins,
	} {
		for _, plugin := range probe() {
			if singleUser {
				plugin = unowned{plugin}
			}
			plugins = append(plugins, plugin)
		}
	}
	return plugins
}

// unowned gives volumes to no user or group of a pod: where only one user exists
// all files are already that one's, and giving them away fails.
type unowned struct {
	volume.VolumePlugin
}

// NewMounter returns a mounter that leaves owners alone.
func (u unowned) NewMounter(spec *volume.Spec, pod *corev1.Pod) (volume.Mounter, error) {
	mounter, err := u.VolumePlugin.NewMounter(spec, pod)
	if err != nil {
		return nil, err
	}
	return unownedMounter{mounter}, nil
}

type unownedMounter struct {
	volume.Mounter
}

// SetUp fills the volume.
func (m unownedMounter) SetUp(args volume.MounterArgs) error {
	args.FsUser, args.FsGroup = nil, nil
	return m.Mounter.SetUp(args)
}
