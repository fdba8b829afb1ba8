// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUndeploy: FlagCaches without an operator are never deleted completely, so the
// targets that remove the operator or the CRD refuse to while there are some.
func TestUndeploy(t *testing.T) {
	kubectl, commandLine := startCluster(t)
	kubectl(t, "apply", "-k", "default")
	kubectl(t, "create", "namespace", "shop")
	kubectl(t, "apply", "--namespace=shop", "-f", "samples/flagcache_minimal.yaml")

	for _, target := range []string{"undeploy", "uninstall"} {
		t.Run(target+" removes nothing while there is a FlagCache, and lists it", func(t *testing.T) {
			output, err := runMake(t, target, commandLine)
			if err == nil {
				t.Errorf("make %s succeeds:\n%s", target, output)
			}
			if !strings.Contains(output, "shop") || !strings.Contains(output, "minimal") {
				t.Errorf("make %s does not list the FlagCache:\n%s", target, output)
			}
			for _, object := range []string{"crd/flagcaches.flagcache.dev", "namespace/flagcache-system"} {
				deleted, _ := kubectl(t, "get", object, "--output=jsonpath={.metadata.deletionTimestamp}")
				if deleted != "" {
					t.Errorf("%s is being deleted", object)
				}
			}
		})
	}

	t.Run("a cluster that cannot be asked counts as one with FlagCaches", func(t *testing.T) {
		output, err := runMake(t, "undeploy", "false")
		if err == nil {
			t.Errorf("make undeploy succeeds:\n%s", output)
		}
	})

	// Nothing completes the deletion of a namespace here, so the operator's stays.
	t.Run("uninstall removes the CRD without FlagCaches", func(t *testing.T) {
		kubectl(t, "delete", "flagcaches", "--all", "--namespace=shop")
		for range 2 { // the second time there is nothing to remove
			if output, err := runMake(t, "uninstall", commandLine); err != nil {
				t.Fatalf("make uninstall: %v\n%s", err, output)
			}
		}
		left, _ := kubectl(t, "get", "crd", "--output=name")
		if strings.Contains(left, "flagcache") {
			t.Errorf("the CRD is left")
		}
	})
}

// runMake runs a target with a kubectl, and returns what it wrote.
func runMake(t *testing.T, target, kubectl string) (string, error) {
	t.Helper()
	kustomize := filepath.Join(t.TempDir(), "kustomize")
	script := "#!/bin/sh\nshift\nexec " + kubectl + " kustomize \"$@\"\n" // kustomize build DIRECTORY
	if err := os.WriteFile(kustomize, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("make", "--no-print-directory", "--directory=..", target, "KUBECTL="+kubectl, "KUSTOMIZE="+kustomize)
	// The test may itself be run by a make, whose options are not for this one.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "MAKE") && name != "MFLAGS" {
			command.Env = append(command.Env, variable)
		}
	}
	output, err := command.CombinedOutput()
	return string(output), err
}
