// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package supplychain

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// release runs the scripts in hack/release.
type release struct {
	// root is the repository, and dist the directory in it of what is built.
	root, dist string
	// version is the one that the manifests name.
	version string
	// platforms are those that are built, as OS_ARCH.
	platforms []string
	registry  string
	// tools is a directory with programs that record their calls, in the file calls.
	tools, calls string
}

func newRelease(t *testing.T) *release {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	dist, err := os.MkdirTemp(filepath.Join(root, "dist"), "test-release-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dist); err != nil {
			t.Error(err)
		}
	})
	r := &release{root: root, dist: "dist/" + filepath.Base(dist), registry: newRegistry(t), tools: t.TempDir(), calls: filepath.Join(t.TempDir(), "calls")}
	for platform := range strings.FieldsSeq(cmp.Or(os.Getenv("RELEASE_PLATFORMS"), "linux/"+runtime.GOARCH)) {
		r.platforms = append(r.platforms, strings.Replace(platform, "/", "_", 1))
	}
	for _, tool := range []string{"docker", "cosign", "gh"} {
		text := "#!/bin/sh\necho " + tool + " \"$@\" >>'" + r.calls + "'\n"
		if err := os.WriteFile(filepath.Join(r.tools, tool), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	version, err := command(t, root, nil, "make", "--no-print-directory", "--silent", "manifest-version")
	if err != nil {
		t.Fatalf("%v\n%s", err, version)
	}
	r.version = strings.TrimSpace(version)
	return r
}

// script runs a script of hack/release and returns the calls of the recorded programs.
func (r *release) script(t *testing.T, script, argument string, env ...string) []string {
	t.Helper()
	calls, output, err := r.run(t, script, argument, env...)
	if err != nil {
		t.Fatalf("running %s %s: %v\n%s", script, argument, err, output)
	}
	return calls
}

// run runs a script of hack/release, which may fail.
func (r *release) run(t *testing.T, script, argument string, env ...string) (calls []string, output string, err error) {
	t.Helper()
	platforms := strings.ReplaceAll(strings.Join(r.platforms, " "), "_", "/")
	env = append(env, "DIST="+r.dist, "REGISTRY="+r.registry, "PLATFORMS="+platforms, "PLUGIN_PLATFORMS="+platforms,
		"PATH="+r.tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	var arguments []string
	if argument != "" {
		arguments = append(arguments, argument)
	}
	if err := os.WriteFile(r.calls, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	output, err = command(t, r.root, env, filepath.Join(r.root, "hack/release", script), arguments...)
	text, readErr := os.ReadFile(r.calls)
	if readErr != nil {
		t.Fatal(readErr)
	}
	for line := range strings.Lines(string(text)) {
		calls = append(calls, strings.TrimSpace(line))
	}
	return calls, output, err
}

// command runs a program and returns what it prints. It is not a part of the make that
// may run the tests.
func command(t *testing.T, dir string, env []string, program string, args ...string) (string, error) {
	t.Helper()
	c := exec.Command(program, args...)
	c.Dir = dir
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "MAKE") && name != "MFLAGS" && name != "GITHUB_OUTPUT" {
			c.Env = append(c.Env, variable)
		}
	}
	c.Env = append(c.Env, env...)
	output, err := c.CombinedOutput()
	return string(output), err
}

// read reads a file that a script wrote.
func (r *release) read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.root, r.dist, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// digests reads the digests of the images.
func (r *release) digests(t *testing.T) map[string]string {
	t.Helper()
	digests := map[string]string{}
	for line := range strings.Lines(r.read(t, "images/digests.txt")) {
		image, digest, _ := strings.Cut(strings.TrimSpace(line), " ")
		digests[image] = digest
	}
	return digests
}
