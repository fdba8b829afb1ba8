// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Limits on the size of a package: the operator's decisions stay divided by
// concern, and no type collects what every part needs.
const (
	maxOperatorFiles   = 14
	maxOperatorMethods = 20
	maxFiles           = 20
	maxMethods         = 40
)

func TestPackagesStaySmall(t *testing.T) {
	all, err := readModule("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		files, methods := maxFiles, maxMethods
		if p.path == "controllers" || strings.HasPrefix(p.path, "controllers/") {
			files, methods = maxOperatorFiles, maxOperatorMethods
		}
		if p.files > files {
			t.Errorf("package %s has %d files without tests, over %d: divide it by concern", p.path, p.files, files)
		}
		if name, n := p.largestReceiver(); n > methods {
			t.Errorf("type %s of package %s has %d methods, over %d: pass what its functions need instead", name, p.path, n, methods)
		}
		for _, file := range p.longFiles {
			t.Errorf("file %s of package %s has over %d lines: divide it", file, p.path, longFile)
		}
	}
}

// TestArchitectureNamesEveryPackage holds the list in docs/architecture.md to the packages
// that there are, except for what only tests of the flag service import.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(page), "\n## Packages\n")
	list, _, _ = strings.Cut(list, "```mermaid")
	for _, pattern := range []string{"controllers/*", "controllers/plan/*", "controllers/plan/cost/*", "service/*", "test/*", "config"} {
		dirs, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			name := filepath.Base(dir)
			info, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if !info.IsDir() || name == "testdata" || name == "benchmark" || strings.HasSuffix(name, "test") {
				continue
			}
			if !strings.Contains(list, " "+name+"/ ") && !strings.Contains(list, "\n"+strings.TrimPrefix(dir, "../../")+"/ ") {
				t.Errorf("the list lacks %s", dir)
			}
		}
	}
}

func TestDrawLeavesOutImpliedImports(t *testing.T) {
	got := draw([]goPackage{
		{path: "controllers", imports: []string{"api/v1alpha1", "controllers/plan"}},
		{path: "controllers/plan", imports: []string{"api/v1alpha1", "service/config"}},
		{path: "api/v1alpha1"},
	})
	for _, want := range []string{"p_controllers --> p_controllers_plan\n", "p_controllers_plan --> p_api_v1alpha1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the diagram does not contain %q:\n%s", want, got)
		}
	}
	for _, unwanted := range []string{"p_controllers --> p_api_v1alpha1", "service_config"} {
		if strings.Contains(got, unwanted) {
			t.Errorf("the diagram has %q:\n%s", unwanted, got)
		}
	}
}
