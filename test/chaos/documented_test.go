// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedTestsExist holds the table of faults to the tests that it names.
func TestDocumentedTestsExist(t *testing.T) {
	page, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testsOf(t, "../../service", "../../cmd/flag-service", ".")
	tested := 0
	for line := range strings.Lines(string(page)) {
		named := regexp.MustCompile("`((Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(line, -1)
		for _, name := range named {
			if !tests[name[1]] {
				t.Errorf("there is no %s", name[1])
			}
		}
		if strings.HasPrefix(line, "| **C") && len(named) > 0 {
			tested++
		}
	}
	if tested < 30 {
		t.Errorf("%d faults have a test", tested)
	}
}

// testsOf are the names of all tests and fuzz targets under some directories.
func testsOf(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((Test|Fuzz)\w+)\(`)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			code, err := os.ReadFile(path)
			for _, match := range declared.FindAllStringSubmatch(string(code), -1) {
				names[match[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}
