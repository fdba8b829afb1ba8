// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackkinds

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackcrds"
)

// TestFieldsThatReleasesLack compares the types with the CRDs of releases, and with those of
// go.mod, which lack nothing. The CRDs of the ec2-controller are of another runtime.
func TestFieldsThatReleasesLack(t *testing.T) {
	for _, release := range append(ackcrds.Releases(), "v1.8.0") {
		got := map[string][]string{}
		for _, gv := range []schema.GroupVersion{ack.ElastiCache, ack.CloudWatch} {
			lacking, err := compare(gv, openAPI(t, gv, release))
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(got, lacking)
		}
		want := ackcrds.Lacking(release)
		if d := cmp.Diff(want, got); d != "" || release == "v1.8.0" && len(got) > 0 {
			t.Errorf("the fields that %s lacks (-want +got):\n%s", release, d)
		}
	}
}

// TestNestedFieldsThatAreLacking removes fields below others, in lists and of an embedded type.
func TestNestedFieldsThatAreLacking(t *testing.T) {
	const document = `{"components": {"schemas": {"a.User": {
		"x-kubernetes-group-version-kind": [{"group": "elasticache.services.k8s.aws", "version": "v1alpha1", "kind": "User"}],
		"properties": {"spec": {"properties": {
			"accessString": {}, "engine": {}, "noPasswordRequired": {}, "userID": {}, "userName": {},
			"authenticationMode": {"properties": {"passwords": {"items": {"properties": {"key": {}, "namespace": {}}}}, "type": {}}},
			"passwords": {"items": {"properties": {"key": {}, "name": {}, "namespace": {}}}},
			"tags": {"items": {"x-kubernetes-preserve-unknown-fields": true}}
		}}}}}}}`
	lacking, err := compare(ack.ElastiCache, []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"User": {"authenticationMode.passwords[].name"}}
	if d := cmp.Diff(want, lacking); d != "" {
		t.Errorf("the fields that are lacking (-want +got):\n%s", d)
	}
	if _, err := compare(ack.ElastiCache, []byte(`{"components": []}`)); err == nil {
		t.Error("a document of another form is no error")
	}
}

// openAPI is the document of a group, as the API server publishes it for CRDs.
func openAPI(t *testing.T, gv schema.GroupVersion, release string) []byte {
	t.Helper()
	schemas := map[string]any{}
	for _, kind := range ack.Kinds() {
		if kind.GroupVersion() != gv {
			continue
		}
		crd, err := ackcrds.OfRelease(t.Context(), kind, release)
		if err != nil {
			t.Fatal(err)
		}
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		published, _, _ := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema")
		published["x-kubernetes-group-version-kind"] = []any{map[string]any{"group": kind.Group, "version": kind.Version, "kind": kind.Kind}}
		schemas[kind.Kind] = published
	}
	text, err := json.Marshal(map[string]any{"components": map[string]any{"schemas": schemas}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
