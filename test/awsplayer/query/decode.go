// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxList and maxDepth bound what a form can make Decode allocate.
const (
	maxList  = 1000
	maxDepth = 8
)

// parameter is a value, or has parameters below it: Tags.Tag.1.Key=a.
type parameter struct {
	value    string
	children map[string]*parameter
}

// Decode decodes a form into input, a pointer to an input type of the SDK. Parameters
// that the type does not have are an error.
func Decode(form url.Values, input any) error {
	root := &parameter{}
	for key, values := range form {
		if key == "Action" || key == "Version" {
			continue
		}
		path := strings.Split(key, ".")
		if len(path) > maxDepth {
			return fmt.Errorf("parameter %q is nested too deeply", key)
		}
		at := root
		for _, name := range path {
			if at.children == nil {
				at.children = map[string]*parameter{}
			}
			if at.children[name] == nil {
				at.children[name] = &parameter{}
			}
			at = at.children[name]
		}
		if len(values) != 1 {
			return fmt.Errorf("parameter %s has %d values", key, len(values))
		}
		at.value = values[0]
	}
	return root.decode("", reflect.ValueOf(input).Elem())
}

// Set returns the names of the fields that are set in an input of the SDK, sorted.
func Set(input any) []string {
	var names []string
	v := reflect.ValueOf(input).Elem()
	for _, field := range fields(v.Type()) {
		if !v.FieldByIndex(field.Index).IsZero() {
			names = append(names, field.Name)
		}
	}
	slices.Sort(names)
	return names
}

// fields are the fields of a type that are part of the protocol.
func fields(t reflect.Type) []reflect.StructField {
	var all []reflect.StructField
	for _, field := range reflect.VisibleFields(t) {
		if field.IsExported() && !field.Anonymous && field.Name != "ResultMetadata" {
			all = append(all, field)
		}
	}
	return all
}

func (p *parameter) decode(path string, into reflect.Value) error {
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return p.decode(path, into.Elem())
	case reflect.Slice:
		return p.decodeList(path, into)
	case reflect.Struct:
		if into.Type() == reflect.TypeFor[time.Time]() {
			return p.decodeTime(path, into)
		}
		return p.decodeStruct(path, into)
	}
	if p.children != nil {
		return fmt.Errorf("parameter %s is a single value", path)
	}
	switch into.Kind() {
	case reflect.String:
		into.SetString(p.value)
	case reflect.Bool:
		b, err := strconv.ParseBool(p.value)
		if err != nil {
			return fmt.Errorf("parameter %s is not a Boolean", path)
		}
		into.SetBool(b)
	case reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(p.value, 10, into.Type().Bits())
		if err != nil {
			return fmt.Errorf("parameter %s is not an integer", path)
		}
		into.SetInt(i)
	default:
		return fmt.Errorf("parameter %s has the unsupported type %s", path, into.Type())
	}
	return nil
}

func (p *parameter) decodeTime(path string, into reflect.Value) error {
	t, err := time.Parse(time.RFC3339, p.value)
	if err != nil {
		return fmt.Errorf("parameter %s is not a time", path)
	}
	into.Set(reflect.ValueOf(t))
	return nil
}

func (p *parameter) decodeStruct(path string, into reflect.Value) error {
	known := map[string]reflect.StructField{}
	for _, field := range fields(into.Type()) {
		known[field.Name] = field
	}
	for name, child := range p.children {
		field, ok := known[strings.ToUpper(name[:min(1, len(name))])+name[min(1, len(name)):]] // a few start in lower case
		if !ok {
			return fmt.Errorf("parameter %s is unknown", join(path, name))
		}
		if err := child.decode(join(path, name), into.FieldByIndex(field.Index)); err != nil {
			return err
		}
	}
	return nil
}

// decodeList decodes NAME.member.1 and so on. An empty list is the empty value NAME.
func (p *parameter) decodeList(path string, into reflect.Value) error {
	into.Set(reflect.MakeSlice(into.Type(), 0, 0))
	if len(p.children) == 0 && p.value == "" {
		return nil
	}
	if len(p.children) != 1 {
		return fmt.Errorf("parameter %s is a list", path)
	}
	for _, elements := range p.children { // member, or the element's type
		n := len(elements.children)
		if n > maxList {
			return fmt.Errorf("parameter %s has more than %d elements", path, maxList)
		}
		into.Set(reflect.MakeSlice(into.Type(), n, n))
		for i := range n {
			element, ok := elements.children[strconv.Itoa(i+1)]
			if !ok {
				return fmt.Errorf("parameter %s has no element %d", path, i+1)
			}
			if err := element.decode(path, into.Index(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
