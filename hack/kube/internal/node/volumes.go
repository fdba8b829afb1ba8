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

// volumePlugins returns the supported kinds of volumes.
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

// unowned does not change the owner of volumes: with a single user ID it owns all files,
// and changing their owner fails.
type unowned struct {
	volume.VolumePlugin
}

// NewMounter returns a mounter that does not change owners.
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
