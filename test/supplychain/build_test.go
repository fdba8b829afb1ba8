// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package supplychain

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// emptyCache is the environment variable that, if it is set, has each build compile
// everything, the standard library included. It takes minutes: make reproducible.
const emptyCache = "REPRODUCE_FROM_NOTHING"

// TestBuildIsReproducible builds the programs in two directories. A path, a time or a
// random order in one of them would make a difference.
func TestBuildIsReproducible(t *testing.T) {
	first, second := buildIn(t, "a"), buildIn(t, "a/longer/path/than/that")
	for name, program := range first {
		if !bytes.Equal(program, second[name]) {
			t.Errorf("two builds of %s differ: they have %d and %d bytes", name, len(program), len(second[name]))
		}
	}
}

// buildIn copies the repository's files to a directory of that name, and builds the
// programs as releases are.
func buildIn(t *testing.T, name string) map[string][]byte {
	t.Helper()
	source, out := filepath.Join(t.TempDir(), name), t.TempDir()
	for _, path := range []string{"go.mod", "go.sum", "api", "cmd", "controllers", "service"} {
		copyTree(t, filepath.Join("../..", path), filepath.Join(source, path))
	}
	build(t, source, out)
	programs := map[string][]byte{}
	for _, name := range []string{"manager", "flag-service", "kubectl-flagcache"} {
		program, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		programs[name] = program
	}
	return programs
}

// build builds the programs of a source tree.
func build(t *testing.T, source, out string) {
	t.Helper()
	command := exec.Command("go", "build", "-trimpath", "-mod=readonly", "-ldflags", "-s -w -X main.version=test", "-o", out+"/", "./cmd/...")
	command.Dir = source
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if os.Getenv(emptyCache) != "" {
		command.Env = append(command.Env, "GOCACHE="+t.TempDir())
	}
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building in %s: %v\n%s", source, err, output)
	}
}

// copyTree copies a file or the files of a directory.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// licenses are those that the project accepts in its programs.
var licenses = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// bill is what the test reads of an SBOM.
type bill struct {
	SPDXVersion string `json:"spdxVersion"`
	Packages    []struct {
		Name     string `json:"name"`
		Version  string `json:"versionInfo"`
		Declared string `json:"licenseDeclared"`
	} `json:"packages"`
	Relationships []struct {
		Type string `json:"relationshipType"`
	} `json:"relationships"`
}

func TestBillOfMaterialsIsComplete(t *testing.T) {
	out := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	build(t, root, out)
	for _, program := range []string{"manager", "flag-service", "kubectl-flagcache"} {
		t.Run(program, func(t *testing.T) {
			path := filepath.Join(out, program)
			text := run(t, filepath.Join(root, "hack/tools/supplychain"), "go", "run", "./sbom", path)
			if again := run(t, filepath.Join(root, "hack/tools/supplychain"), "go", "run", "./sbom", path); again != text {
				t.Error("a second bill differs")
			}
			var b bill
			if err := json.Unmarshal([]byte(text), &b); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range b.Packages[1:] {
				got = append(got, p.Name+" "+p.Version)
				for license := range strings.SplitSeq(p.Declared, " AND ") {
					if !slices.Contains(licenses, license) {
						t.Errorf("%s has the license %q", p.Name, p.Declared)
					}
				}
			}
			want := modulesOf(t, path)
			if !slices.Equal(got[1:], want) || !strings.HasPrefix(got[0], "std 1.") {
				t.Errorf("the bill has %q, go version -m has %q", got, want)
			}
			if b.SPDXVersion != "SPDX-2.3" || b.Packages[0].Name != program || len(b.Relationships) != len(b.Packages) {
				t.Errorf("the bill has version %s, begins with %s, and has %d relationships", b.SPDXVersion, b.Packages[0].Name, len(b.Relationships))
			}
		})
	}
}

// modulesOf are the modules of a program as the Go command prints them.
func modulesOf(t *testing.T, program string) []string {
	t.Helper()
	var modules []string
	for _, match := range regexp.MustCompile(`(?m)^\s+dep\s+(\S+)\s+(\S+)`).FindAllStringSubmatch(run(t, ".", "go", "version", "-m", program), -1) {
		modules = append(modules, match[1]+" "+match[2])
	}
	if len(modules) == 0 {
		t.Fatalf("%s has no modules", program)
	}
	return modules
}

// run returns the output of a command.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	command := exec.Command(name, args...)
	command.Dir = dir
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &problems)
	}
	return string(output)
}
