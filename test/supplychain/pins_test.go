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
		Steps       []struct {
			Uses string         `json:"uses"`
			With map[string]any `json:"with"`
		} `json:"steps"`
	} `json:"jobs"`
}

// writers are the jobs that may write, with what they may write.
var writers = map[string]map[string]string{
	"ack.yml/propose": {"contents": "write", "pull-requests": "write"},
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

func TestBaseImagesArePinned(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	images := regexp.MustCompile(`(?m)^FROM (?:--platform=\S+ )?(\S+)`).FindAllStringSubmatch(string(text), -1)
	if len(images) < 3 {
		t.Fatalf("there are %d images", len(images))
	}
	for _, image := range images {
		if !regexp.MustCompile(`@sha256:[0-9a-f]{64}$`).MatchString(image[1]) {
			t.Errorf("the image %s has no digest", image[1])
		}
	}
}
