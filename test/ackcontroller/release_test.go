// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcontroller_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/flagcache/flagcache/test/ackcontroller"
	"github.com/flagcache/flagcache/test/programs"
)

// The types that the operator writes and the controller that tests run are of one release.
func TestVersions(t *testing.T) {
	operator, controller := ackVersions(t, "go.mod"), ackVersions(t, "hack/tools/ack/go.mod")
	if operator[ackcontroller.Module] == "" {
		t.Errorf("go.mod does not require %s", ackcontroller.Module)
	}
	for module, version := range operator {
		if controller[module] != version {
			t.Errorf("go.mod requires %s %s, hack/tools/ack/go.mod %s", module, version, controller[module])
		}
	}
}

// ackVersions are the versions of ACK's modules in a go.mod.
func ackVersions(t *testing.T, path string) map[string]string {
	t.Helper()
	root, err := programs.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse(path, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, require := range file.Require {
		if strings.HasPrefix(require.Mod.Path, "github.com/aws-controllers-k8s/") {
			versions[require.Mod.Path] = require.Mod.Version
		}
	}
	return versions
}
