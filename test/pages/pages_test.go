// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pages holds the pages to what they name: targets of make, metrics,
// environment variables and reasons.
package pages

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// pages returns the text of each page that people read.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "hack/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			found[strings.TrimPrefix(file, root+"/")] = read(t, file)
		}
	}
	if len(found) < 10 {
		t.Fatalf("there are %d pages", len(found))
	}
	return found
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// submatches are the first groups of all matches, sorted.
func submatches(pattern, text string) []string {
	found := map[string]bool{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found[match[1]] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// sources is the code of the programs.
func sources(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	for _, dir := range []string{"cmd", "controllers", "service"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				code.WriteString(read(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return code.String()
}

// TestMakeTargetsExist: in code spans and at the beginning of lines of examples.
func TestMakeTargetsExist(t *testing.T) {
	targets := submatches(`(?m)^([a-z][a-z0-9-]*):`, read(t, filepath.Join(root, "Makefile")))
	named := 0
	for page, text := range pages(t) {
		commands := append(submatches("`make ([^`]+)`", text), submatches(`(?m)^make ([^#\n]+)`, text)...)
		for _, command := range commands {
			for _, word := range strings.Fields(command) {
				if strings.ContainsAny(word, "=") {
					break // settings are last
				}
				named++
				if !slices.Contains(targets, word) {
					t.Errorf("%s: make has no target %s", page, word)
				}
			}
		}
	}
	if named < 30 {
		t.Errorf("the pages name %d targets", named)
	}
}

// TestMetricsAreThoseOfThePrograms: each that a page names is exported, and each that is
// exported is described.
func TestMetricsAreThoseOfThePrograms(t *testing.T) {
	const name = `((?:flagd?|flagcache|ofrep|split|sse|log)_[a-z0-9_]+)`
	exported := submatches(`"`+name+`"`, sources(t))
	described := map[string]bool{}
	for page, text := range pages(t) {
		for _, metric := range submatches("`"+name+"[`{]", text) {
			described[metric] = true
			if !slices.Contains(exported, metric) {
				t.Errorf("%s: no program exports %s", page, metric)
			}
		}
	}
	for _, metric := range exported {
		if !described[metric] {
			t.Errorf("no page describes %s", metric)
		}
	}
}

// TestVariablesAreThoseOfTheFlagService: each in the first column of a table is read, and
// each that is read is described.
func TestVariablesAreThoseOfTheFlagService(t *testing.T) {
	page := read(t, filepath.Join(root, "docs/flag-service.md"))
	read := submatches(`(?m)^\tEnv\w+ += "([A-Z_]+)"`, read(t, filepath.Join(root, "service/config/config.go")))
	for _, variable := range submatches("(?m)^\\| `([A-Z_]+)` \\|", page) {
		if !slices.Contains(read, variable) {
			t.Errorf("the flag service does not read %s", variable)
		}
	}
	for _, variable := range read {
		if !strings.Contains(page, "`"+variable+"`") {
			t.Errorf("the page does not describe %s", variable)
		}
	}
}

// TestReasonsAreThoseOfTheAPI: in the first column of the tables of reasons, and as the
// headings of runbooks.
func TestReasonsAreThoseOfTheAPI(t *testing.T) {
	reasons := submatches(`(?m)^\tReason\w+ += "(\w+)"`, read(t, filepath.Join(root, "api/v1alpha1/conditions.go")))
	text := read(t, filepath.Join(root, "docs/elasticache.md"))
	_, table, _ := strings.Cut(text, "\n## The condition CacheProvisioned\n")
	table, _, _ = strings.Cut(table, "\n## ")
	named := append(submatches("(?m)^\\| `(\\w+)`", table), submatches(`(?m)^## (\w+)$`, read(t, filepath.Join(root, "docs/runbooks/canary.md")))...)
	for _, reason := range named {
		if !slices.Contains(reasons, reason) {
			t.Errorf("there is no reason %s", reason)
		}
	}
	if len(named) < 15 {
		t.Errorf("the pages name %d reasons", len(named))
	}
}
