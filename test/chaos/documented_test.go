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

// TestDocumentedSecurityTestsExist holds the table of requirements to the tests and specs
// that it names.
func TestDocumentedSecurityTestsExist(t *testing.T) {
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Tests\n")
	dirs := []string{"../../service", "../../controllers", "../../cmd"}
	tests, specs := testsOf(t, dirs...), declarations(t, `It\("([^"]+)"`, dirs...)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`|`spec \"([^`]+)\"`")
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| requirement") || strings.HasPrefix(line, "| ---") {
			continue
		}
		rows++
		found := named.FindAllStringSubmatch(line, -1)
		if len(found) == 0 {
			t.Errorf("no test for %s", line)
		}
		for _, match := range found {
			if !tests[match[1]] && !specs[match[2]] {
				t.Errorf("there is no %s", match[0])
			}
		}
	}
	if rows == 0 {
		t.Error("the page has no table of tests")
	}
}

// testsOf are the names of all tests and fuzz targets under some directories.
func testsOf(t *testing.T, dirs ...string) map[string]bool {
	return declarations(t, `(?m)^func ((?:Test|Fuzz)\w+)\(`, dirs...)
}

// declarations are the first groups of all matches in the tests under some directories.
func declarations(t *testing.T, pattern string, dirs ...string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(pattern)
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
