// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// kind has the claims about the fields of a kind's spec.
type kind struct {
	name string
	spec reflect.Type
	// base are changes of a FlagCache without which there is no object of the kind.
	base []change
	// fields of the spec, and those of AWS that the spec lacks.
	fields []field
}

// field is a claim about a field of ACK: it is settable by changes, or fixed to values that
// match, or not supported.
type field struct {
	// path has the names of the field and its parents, with [] after a list of objects.
	path string
	// changes of a FlagCache, each of which changes the field.
	changes []change
	// fixed is the value as documented, matches a pattern of all its values in JSON, which
	// are empty where the field is absent.
	fixed, matches string
	// missing claims that ACK's type has no such field.
	missing bool
	note    string
}

// change sets a field of a FlagCache to a value in JSON. The path is below
// spec.cache.elastiCache, unless it begins with spec.
type change struct{ path, value string }

// settable claims that each of the changes changes a field.
func settable(path, note string, changes ...change) field {
	return field{path: path, note: note, changes: changes}
}

// fixed claims that a field has a value, whatever the FlagCache.
func fixed(path, value, matches, note string) field {
	return field{path: path, fixed: value, matches: "^" + matches + "$", note: note}
}

// unsupported claims that a field is never written, nor one below it.
func unsupported(path, note string) field { return field{path: path, note: note} }

// missing claims that AWS has a field that ACK's type lacks.
func missing(path, note string) field {
	return field{path: path, note: "not in ACK's CRD: " + note, missing: true}
}

// never reports whether the field is not written at all.
func (f field) never() bool { return len(f.changes) == 0 && f.matches == "" }

// describe returns the columns of the table.
func (f field) describe() (support, how string) {
	var parts []string
	switch {
	case len(f.changes) > 0:
		support = "settable"
		var paths []string
		for _, c := range f.changes {
			paths = append(paths, "`"+c.path+"`")
		}
		parts = append(parts, strings.Join(paths, ", "))
	case f.matches != "":
		support = "fixed"
		parts = append(parts, f.fixed)
	default:
		support = "not supported"
	}
	if f.note != "" {
		parts = append(parts, f.note)
	}
	return support, strings.Join(parts, ": ")
}

// problems compares the claims with the fields of the type.
func (k kind) problems() []error {
	var problems []error
	claimed := map[string]bool{}
	leaves := leavesOf(k.spec, "")
	for _, f := range k.fields {
		exists := slices.ContainsFunc(leaves, func(leaf string) bool { return covers(f, leaf) })
		switch {
		case claimed[f.path]:
			problems = append(problems, fmt.Errorf("%s.%s is claimed twice", k.name, f.path))
		case f.missing && slices.Contains(leaves, f.path):
			problems = append(problems, fmt.Errorf("%s.%s is claimed to be missing, but ACK has it", k.name, f.path))
		case !f.missing && !exists:
			problems = append(problems, fmt.Errorf("%s.%s is claimed, but ACK has no such field", k.name, f.path))
		case f.note == "" && f.never():
			problems = append(problems, fmt.Errorf("%s.%s is not supported for no reason", k.name, f.path))
		}
		claimed[f.path] = true
	}
	for _, leaf := range leaves {
		if !slices.ContainsFunc(k.fields, func(f field) bool { return covers(f, leaf) }) {
			problems = append(problems, fmt.Errorf("%s.%s is neither settable, nor fixed, nor listed as not supported", k.name, leaf))
		}
	}
	return problems
}

// covers reports whether a claim is about a field. One that is not written has none below
// it that is.
func covers(f field, leaf string) bool {
	return f.path == leaf || f.never() && (strings.HasPrefix(leaf, f.path+".") || strings.HasPrefix(leaf, f.path+"[]."))
}

// leavesOf returns the paths of the fields of a struct that have no fields themselves.
func leavesOf(t reflect.Type, path string) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice && structIn(t.Elem()):
		return leavesOf(t.Elem(), path+"[]")
	case t.Kind() != reflect.Struct:
		return []string{path}
	}
	var leaves []string
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		below := strings.TrimPrefix(path+"."+name, ".")
		if options == "inline" {
			below = path
		}
		leaves = append(leaves, leavesOf(t.Field(i).Type, below)...)
	}
	return leaves
}

func structIn(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}
