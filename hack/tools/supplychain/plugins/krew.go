// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// krewPlugin is the part of krew's Plugin that the manifest has.
type krewPlugin struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       krewSpec          `json:"spec"`
}

type krewSpec struct {
	Version          string         `json:"version"`
	Homepage         string         `json:"homepage"`
	ShortDescription string         `json:"shortDescription"`
	Description      string         `json:"description"`
	Platforms        []krewPlatform `json:"platforms"`
}

type krewPlatform struct {
	Selector krewSelector `json:"selector"`
	URI      string       `json:"uri"`
	SHA256   string       `json:"sha256"`
	Bin      string       `json:"bin"`
}

type krewSelector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

// krewManifest is the manifest of the plugin's archives.
func krewManifest(version string, archives []packed) ([]byte, error) {
	plugin := krewPlugin{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin",
		Metadata: map[string]string{"name": "flagcache"},
		Spec: krewSpec{
			Version: version, Homepage: "https://github.com/flagcache/flagcache",
			ShortDescription: "Explain the canaries of FlagCaches",
			Description: "FlagCache is an operator that runs a feature flag service, and rolls out its changes as\n" +
				"canaries. The plugin recomputes a canary's verdict from the record that the operator kept.\n",
		},
	}
	for _, a := range archives {
		plugin.Spec.Platforms = append(plugin.Spec.Platforms, krewPlatform{
			Selector: krewSelector{MatchLabels: map[string]string{"os": a.os, "arch": a.arch}},
			URI:      downloads + version + "/" + a.file, SHA256: a.digest, Bin: a.program,
		})
	}
	manifest, err := yaml.Marshal(plugin)
	if err != nil {
		return nil, fmt.Errorf("encoding the manifest of krew: %w", err)
	}
	return manifest, nil
}
