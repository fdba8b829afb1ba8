// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// phases are the status of Serving in each phase of the table in docs/canary.md.
var phases = map[string]string{
	"the-first-revision-starts":          "False",
	"at-rest":                            "True",
	"a-canary":                           "True",
	"a-canary-that-is-held":              "True",
	"a-canary-that-is-paused":            "True",
	"an-inconclusive-canary":             "True",
	"rolled-back":                        "True",
	"the-stable-revision-does-not-serve": "True",
	"pods-do-not-come":                   "False",
	"pods-did-not-come-in-five-minutes":  "False",
	"suspended":                          "True",
}

// waitForServing runs kubectl wait for Serving of a FlagCache in each phase.
func waitForServing(t *testing.T, kubectl kubectl, flagCache string) {
	files, err := filepath.Glob("argocd/resource_customizations/flagcache.dev/FlagCache/testdata/*.yaml")
	if err != nil || len(files) != len(phases) {
		t.Fatalf("there are %d phases and %d files of them: %v", len(phases), len(files), err)
	}
	for _, file := range files {
		phase := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run("kubectl waits for Serving, "+phase, func(t *testing.T) {
			kubectl(t, "patch", flagCache, "--subresource=status", "--type=merge", "--patch", statusOf(t, file))
			kubectl(t, "wait", flagCache, "--for=condition=Serving="+phases[phase], "--timeout=10s")
		})
	}
}

// statusOf returns a patch with the status of a FlagCache in a file.
func statusOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var object struct {
		Status json.RawMessage `json:"status"`
	}
	if err := yaml.Unmarshal(text, &object); err != nil {
		t.Fatalf("decoding %s: %v", file, err)
	}
	patch, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(patch)
}
