// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// fields are names of fields of a spec.
type fields map[string]bool

// compareSpecs returns the fields in which two specs differ, except those that ACK does not compare.
// Lists are sets, and an empty one is a missing one.
func compareSpecs(a, b client.Object, ignored ...string) fields {
	x, y := reflect.ValueOf(a).Elem().FieldByName("Spec"), reflect.ValueOf(b).Elem().FieldByName("Spec")
	differing := fields{}
	for i := range x.NumField() {
		name := x.Type().Field(i).Name
		if !slices.Contains(ignored, name) && !sameField(x.Field(i), y.Field(i)) {
			differing[name] = true
		}
	}
	return differing
}

func sameField(x, y reflect.Value) bool {
	if x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0 {
		return true
	}
	switch x := x.Interface().(type) {
	case []*string:
		return maps.Equal(setOf(x), setOf(y.Interface().([]*string))) && len(x) == y.Len()
	case []*ack.Tag:
		return maps.Equal(tagsOf(x), tagsOf(y.Interface().([]*ack.Tag)))
	}
	return reflect.DeepEqual(x.Interface(), y.Interface())
}

func setOf(list []*string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[ptr.Deref(s, "")] = true
	}
	return set
}

func tagsOf(list []*ack.Tag) map[string]string {
	tags := map[string]string{}
	for _, t := range list {
		tags[ptr.Deref(t.Key, "")] = ptr.Deref(t.Value, "")
	}
	return tags
}

// sameVersion reports whether two versions of an engine are the same for ACK: from version 6 on, the
// patch version does not matter.
func sameVersion(desired, latest string) bool {
	if desired == latest {
		return true
	}
	desiredMajor, desiredMinor := majorMinor(desired)
	major, minor := majorMinor(latest)
	return (desiredMajor > 5 || strings.HasSuffix(desired, "x")) && desiredMajor == major && (desiredMinor < 0 || desiredMinor == minor)
}

// majorMinor returns -1 for a missing number or a placeholder.
func majorMinor(version string) (major, minor int) {
	parts := append(strings.Split(version, "."), "x")
	major, _ = strconv.Atoi(parts[0])
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		minor = -1
	}
	return major, minor
}
