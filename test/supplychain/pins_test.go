// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package supplychain

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// workflow is what the tests read of a workflow of GitHub Actions.
type workflow struct {
	Permissions map[string]string `json:"permissions"`
	Jobs        map[string]struct {
		Permissions map[string]string `json:"permissions"`
		// Uses is a workflow that the job runs instead of steps.
		Uses  string `json:"uses"`
		Steps []struct {
			Uses string         `json:"uses"`
			With map[string]any `json:"with"`
		} `json:"steps"`
	} `json:"jobs"`
}

// writers are the jobs that may write, with what they may write.
var writers = map[string]map[string]string{
	"ack.yml/propose": {"contents": "write", "pull-requests": "write"},
	// The identity signs what is published, and the attestations state how it was built.
	"release.yml/images":  {"packages": "write", "id-token": "write", "attestations": "write"},
	"release.yml/publish": {"contents": "write", "id-token": "write", "attestations": "write"},
}

// pinned is an action at a commit, which nobody can move to another one.
var pinned = regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40}$`)

func TestWorkflowsArePinnedAndLeastPrivileged(t *testing.T) {
	files, err := filepath.Glob("../../.github/workflows/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("finding the workflows: %v, %d files", err, len(files))
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var w workflow
		if err := yaml.Unmarshal(text, &w); err != nil {
			t.Fatalf("parsing %s: %v", path, err)
		}
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s has the permissions %v, want contents: read alone", path, w.Permissions)
		}
		for name, job := range w.Jobs {
			allowed := writers[filepath.Base(path)+"/"+name]
			for scope, access := range job.Permissions {
				if access != "read" && allowed[scope] != access {
					t.Errorf("%s: job %s has the permission %s: %s", path, name, scope, access)
				}
			}
			if job.Uses != "" && !strings.HasPrefix(job.Uses, "./") && !pinned.MatchString(job.Uses) {
				t.Errorf("%s: job %s uses %s, want a commit", path, name, job.Uses)
			}
			for _, step := range job.Steps {
				if step.Uses != "" && !pinned.MatchString(step.Uses) {
					t.Errorf("%s: job %s uses %s, want a commit", path, name, step.Uses)
				}
				if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
					t.Errorf("%s: job %s leaves its token in the work tree: set persist-credentials to false", path, name)
				}
			}
		}
	}
}

// latest is a reference to whatever is the latest: of an image, or of a Go module. Pod
// security has a version of that name.
var latest = regexp.MustCompile(`(?:^|[^\w])([\w./-]+(?::|@)latest)\b`)

// TestNothingNamesLatest checks what is applied, run or built from, and the documentation.
func TestNothingNamesLatest(t *testing.T) {
	checked := 0
	err := filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch entry.Name() {
			case ".git", "bin", "dist", "testdata":
				return filepath.SkipDir
			}
			return nil
		}
		if !mayNameImages(path) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		checked++
		for _, match := range latest.FindAllStringSubmatch(string(text), -1) {
			if match[1] != "restricted:latest" {
				t.Errorf("%s names %s: name a version", path, match[1])
			}
		}
		return nil
	})
	if err != nil || checked < 100 {
		t.Fatalf("walking the repository: %v, %d files", err, checked)
	}
}

// mayNameImages reports whether a file is one that images or modules are named in. Tests
// may name any.
func mayNameImages(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".md", ".sh":
		return true
	case ".go":
		return !strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(path, "../../hack/") && !strings.HasPrefix(path, "../../test/")
	}
	return filepath.Base(path) == "Makefile"
}

// TestManifestsNameOneVersion checks the images of the operator and of the flag service.
func TestManifestsNameOneVersion(t *testing.T) {
	text, err := os.ReadFile("../../config/manager/manager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, image := range regexp.MustCompile(`ghcr\.io/flagcache/([\w-]+):(v\d+\.\d+\.\d+\S*)`).FindAllStringSubmatch(string(text), -1) {
		versions[image[1]] = image[2]
	}
	if len(versions) != 2 || versions["manager"] == "" || versions["manager"] != versions["flag-service"] {
		t.Errorf("the manifests name the versions %v", versions)
	}
}
