// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
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

// namesOfTests matches the tests, fuzz targets and specs that docs/security.md names.
var namesOfTests = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`|`spec \"([^`]+)\"`")

// TestDocumentedSecurityTestsExist holds the tables of docs/security.md to the tests and
// specs that they name. Each of the requirements D1 to D26 names one, or says what is
// missing.
func TestDocumentedSecurityTestsExist(t *testing.T) {
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	dirs := []string{"../../service", "../../controllers", "../../cmd", "../../api", "../../config", "../../test", "../../hack/tools/supplychain"}
	tests, specs := testsOf(t, dirs...), declarations(t, `It\("([^"]+)"`, dirs...)
	var names []string
	for line := range strings.Lines(string(page)) {
		for _, match := range namesOfTests.FindAllStringSubmatch(line, -1) {
			names = append(names, match[0])
			if !tests[match[1]] && !specs[match[2]] {
				t.Errorf("there is no %s", match[0])
			}
		}
	}
	if len(names) == 0 {
		t.Error("the page names no test")
	}

	_, table, _ := strings.Cut(string(page), "\n## Tests\n")
	table, requirements, _ := strings.Cut(table, "\n## Requirements\n")
	for _, row := range rows(table) {
		if !namesOfTests.MatchString(row) {
			t.Errorf("no test for %s", row)
		}
	}
	met := rows(requirements)
	if len(met) != 26 {
		t.Errorf("there are %d requirements, want 26", len(met))
	}
	for i, row := range met {
		if !strings.HasPrefix(row, fmt.Sprintf("| D%d | ", i+1)) {
			t.Errorf("row %d is %s", i+1, row)
		}
		if !namesOfTests.MatchString(row) && !strings.Contains(row, "| Not met: ") && !strings.Contains(row, "| There are none: ") {
			t.Errorf("neither a test nor what is missing: %s", row)
		}
	}
}

// rows are the rows of a table without its head.
func rows(table string) []string {
	var rows []string
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| ") {
			rows = append(rows, line)
		}
	}
	return rows[min(2, len(rows)):]
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
