// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	"fmt"
	"reflect"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Addition is a field of a kind's spec that older releases of the elasticache-controller
// lack.
//
// +kubebuilder:object:generate=false
type Addition struct {
	// Kind and Field name it: Field is its path in the spec.
	Kind, Field string
	// Release is the first that has it.
	Release string
	// Omit: FlagCache omits it where it is lacking, because it is AWS's default.
	Omit bool
}

// Additions returns what was added to the specs since release v1.0.0, the latest first.
func Additions() []Addition {
	return []Addition{
		{"ReplicationGroup", "durability", "v1.8.0", true},
		{"ReplicationGroup", "notificationTopicRef", "v1.7.0", false},
		{"ReplicationGroup", "snapshotRef", "v1.7.0", false},
		{"ReplicationGroup", "userGroupRefs", "v1.7.0", false},
		{"Snapshot", "cacheClusterRef", "v1.7.0", false},
		{"Snapshot", "sourceSnapshotRef", "v1.7.0", false},
		{"UserGroup", "userRefs", "v1.7.0", false},
		{"ReplicationGroup", "kmsKeyRef", "v1.5.0", false},
		{"Snapshot", "kmsKeyRef", "v1.5.0", false},
		{"Snapshot", "replicationGroupRef", "v1.5.0", false},
		{"User", "authenticationMode", "v1.3.5", false},
		{"ReplicationGroup", "ipDiscovery", "v1.1.0", true},
		{"ReplicationGroup", "networkType", "v1.1.0", true},
	}
}

// additionOf returns the addition that a field is part of, zero for a field that releases
// before v1.0.0 have, or that is of another controller.
func additionOf(kind, field string) Addition {
	for _, a := range Additions() {
		if a.Kind == kind && (a.Field == field || strings.HasPrefix(field, a.Field+".")) {
			return a
		}
	}
	return Addition{}
}

// Unserved is a field that an object needs and that the installed CRD of its kind lacks.
// The API server drops such a field of an object that is created, and rejects every later
// change with it.
//
// +kubebuilder:object:generate=false
type Unserved struct {
	kind  Kind
	field string
}

// Fit removes from objects the fields that the installed CRDs lack, by kind, as far as they
// may be omitted. It returns the first of the others that an object has, nil if none does.
func Fit[O client.Object](lacking map[string][]string, objects ...O) *Unserved {
	for _, o := range objects {
		kind := KindOf(o)
		for _, field := range lacking[kind.Kind] {
			spec := reflect.ValueOf(o).Elem().FieldByName("Spec")
			switch {
			case additionOf(kind.Kind, field).Omit:
				fieldOf(spec, field).SetZero()
			case has(spec, strings.Split(field, ".")):
				return &Unserved{kind, field}
			}
		}
	}
	return nil
}

// String implements fmt.Stringer: what lacks the field, and what to do.
func (u Unserved) String() string {
	release := "a release that has it (docs/elasticache.md#versions-of-ack)"
	if since := additionOf(u.kind.Kind, u.field).Release; since != "" {
		release = since + " or later"
	}
	return fmt.Sprintf("The CustomResourceDefinition %s lacks spec.%s, which is needed: update ACK's %s, together with its CRDs, to %s. "+
		"FlagCache continues within a minute", u.kind.CRD(), u.field, u.kind.Controller(), release)
}

// has reports whether a value has a field at a path, such as tags[].key.
func has(v reflect.Value, path []string) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && has(v.Elem(), path)
	case reflect.Slice:
		for i := range v.Len() {
			if has(v.Index(i), path) {
				return true
			}
		}
		return false
	case reflect.Struct:
		field := fieldOf(v, strings.TrimSuffix(path[0], "[]"))
		if len(path) == 1 {
			return field.IsValid() && !field.IsZero()
		}
		return field.IsValid() && has(field, path[1:])
	default:
		return false
	}
}

// fieldOf returns the field of a struct by its name in JSON, invalid if it has none.
func fieldOf(v reflect.Value, name string) reflect.Value {
	for _, field := range reflect.VisibleFields(v.Type()) {
		if tag, _, _ := strings.Cut(field.Tag.Get("json"), ","); tag == name {
			return v.FieldByIndex(field.Index)
		}
	}
	return reflect.Value{}
}
