// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcrds_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackcrds"
	"github.com/flagcache/flagcache/test/programs"
)

// TestEveryKindHasACRD compares the kinds with their CRDs: a kind is served in its version,
// and its CRD has every field of its spec.
func TestEveryKindHasACRD(t *testing.T) {
	for _, kind := range ack.Kinds() {
		crd, err := ackcrds.Of(t.Context(), kind)
		if err != nil {
			t.Error(err)
			continue
		}
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		i := slices.IndexFunc(versions, func(v any) bool { return v.(map[string]any)["name"] == kind.Version })
		if i < 0 {
			t.Errorf("%s is not served in %s", kind.Kind, kind.Version)
			continue
		}
		properties, _, _ := unstructured.NestedMap(versions[i].(map[string]any), "schema", "openAPIV3Schema", "properties", "spec", "properties")
		spec := reflect.ValueOf(kind.New()).Elem().FieldByName("Spec").Type()
		for i := range spec.NumField() {
			name, _, _ := strings.Cut(spec.Field(i).Tag.Get("json"), ",")
			if properties[name] == nil {
				t.Errorf("the CRD of %s has no field %s", kind.Kind, name)
			}
		}
	}
}

// TestOneVersionOfACK compares the versions whose types and CRDs are used with that of the
// controller that tests run.
func TestOneVersionOfACK(t *testing.T) {
	ours, controller := requirements(t, "."), requirements(t, filepath.Join("hack", "tools", "ack"))
	for _, module := range []string{"elasticache-controller", "ec2-controller", "runtime"} {
		if ours[module] == "" || ours[module] != controller[module] {
			t.Errorf("go.mod requires %s %s, hack/tools/ack/go.mod %s", module, ours[module], controller[module])
		}
	}
}

// requirements are the versions of ACK's modules in the go.mod at a directory.
func requirements(t *testing.T, at string) map[string]string {
	t.Helper()
	root, err := programs.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, at, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse(at, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, r := range file.Require {
		if name, ok := strings.CutPrefix(r.Mod.Path, "github.com/aws-controllers-k8s/"); ok {
			versions[name] = r.Mod.Version
		}
	}
	return versions
}
