// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcrds

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Releases returns older releases of the elasticache-controller to test with: the last of
// each of the three minor versions before v1.8, and the last ones before a field that
// FlagCache writes was added.
func Releases() []string { return []string{"v1.7.1", "v1.6.0", "v1.5.2", "v1.3.4", "v1.0.0"} }

// Lacking returns the fields that the kinds of a release lack, by kind.
func Lacking(release string) map[string][]string {
	lacking := map[string][]string{}
	for _, added := range ack.Additions() {
		if semver.Compare(added.Release, release) > 0 {
			lacking[added.Kind] = append(lacking[added.Kind], added.Field)
		}
	}
	for _, fields := range lacking {
		slices.Sort(fields)
	}
	return lacking
}

// OfRelease returns the CRD of a kind with the fields of a release's.
func OfRelease(ctx context.Context, kind ack.Kind, release string) (*unstructured.Unstructured, error) {
	crd, err := Of(ctx, kind)
	if err != nil {
		return nil, err
	}
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil {
		return nil, err
	}
	for _, version := range versions {
		for _, field := range Lacking(release)[kind.Kind] {
			path := append([]string{"schema", "openAPIV3Schema", "properties", "spec", "properties"}, strings.Split(field, ".")...)
			unstructured.RemoveNestedField(version.(map[string]any), path...)
		}
	}
	return crd, unstructured.SetNestedSlice(crd.Object, versions, "spec", "versions")
}
