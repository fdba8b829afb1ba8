// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// noReferences are fields that name namespaces and refer to no object in one: those that the
// scheduler counts pods of, and a namespace of CloudWatch's metrics.
var noReferences = []string{"PodAffinityTerm.Namespaces", "PodAffinityTerm.NamespaceSelector", "CloudWatchSpec.Namespace"}

// TestReferencesAreLocal finds fields that could name an object of another namespace.
func TestReferencesAreLocal(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var visit func(path string, of reflect.Type)
	visit = func(path string, of reflect.Type) {
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
			visit(path, of.Elem())
		case reflect.Struct:
			if seen[of] {
				return
			}
			seen[of] = true
			for i := range of.NumField() {
				field := of.Field(i)
				name := path + "." + field.Name
				names := strings.Contains(strings.ToLower(field.Name), "namespace")
				if names && !slices.Contains(noReferences, of.Name()+"."+field.Name) {
					t.Errorf("%s could name another namespace", name)
				}
				visit(name, field.Type)
			}
		}
	}
	visit("spec", reflect.TypeFor[FlagCacheSpec]())
	visit("status", reflect.TypeFor[FlagCacheStatus]())
	if !seen[reflect.TypeFor[LocalReference]()] {
		t.Error("the reference to the external Secret was not visited")
	}
}
