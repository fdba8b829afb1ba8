// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackkinds

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/openapi"

	"github.com/flagcache/flagcache/controllers/ack"
)

// published are the OpenAPI documents of the API server, by path.
type published map[string]openapi.GroupVersionWithContext

// Lacking returns for each kind the fields of its Go type that the served schema lacks:
// the CRDs of another release of ACK are installed. Fields are paths in the spec, such as
// tags[].key. It has no entry for a kind that lacks nothing.
func (k *Kinds) Lacking() map[string][]string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return maps.Clone(k.lacking)
}

// readSchemas compares the kinds of a group with their schemas, unless these are the ones
// that it was compared with last, and reports whether the fields that are lacking changed.
// OpenAPI documents may be read without a permission, unlike CustomResourceDefinitions.
func (k *Kinds) readSchemas(ctx context.Context, gv schema.GroupVersion, documents published) (changed bool, err error) {
	document, ok := documents["apis/"+gv.String()]
	if !ok || document.ServerRelativeURL() == k.compared[gv] { // the URL has a hash of the content
		return false, nil
	}
	text, err := document.SchemaWithContext(ctx, runtime.ContentTypeJSON)
	if err != nil {
		return false, fmt.Errorf("reading the OpenAPI schemas: %w", err)
	}
	lacking, err := compare(gv, text)
	if err != nil {
		return false, err
	}
	k.compared[gv] = document.ServerRelativeURL()
	return k.setLacking(gv, lacking), nil
}

// setLacking stores what the kinds of a group lack.
func (k *Kinds) setLacking(gv schema.GroupVersion, lacking map[string][]string) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, kind := range ack.Kinds() {
		if kind.GroupVersion() != gv || slices.Equal(k.lacking[kind.Kind], lacking[kind.Kind]) {
			continue
		}
		changed = true
		if k.lacking[kind.Kind] = lacking[kind.Kind]; len(lacking[kind.Kind]) == 0 {
			delete(k.lacking, kind.Kind)
		}
	}
	return changed
}

// property is the part of an OpenAPI schema that names fields.
type property struct {
	Properties map[string]property `json:"properties"`
	Items      *property           `json:"items"`
	// Kinds that it is the schema of.
	Kinds []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
}

// compare returns the fields of Go types that the schemas in an OpenAPI document lack, by
// kind.
func compare(gv schema.GroupVersion, document []byte) (map[string][]string, error) {
	var parsed struct {
		Components struct {
			Schemas map[string]property `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(document, &parsed); err != nil {
		return nil, fmt.Errorf("parsing the OpenAPI schemas of %s: %w", gv, err)
	}
	lacking := map[string][]string{}
	for _, kind := range ack.Kinds() {
		for _, s := range parsed.Components.Schemas {
			if !slices.Contains(s.Kinds, metav1.GroupVersionKind(kind.GroupVersionKind)) {
				continue
			}
			spec, _ := reflect.TypeOf(kind.New()).Elem().FieldByName("Spec")
			if fields := s.Properties["spec"].lacks(spec.Type, ""); len(fields) > 0 {
				lacking[kind.Kind] = fields
			}
		}
	}
	return lacking, nil
}

// lacks returns the paths of the fields of a type that are not in the schema, without
// those below another. A schema that names no fields lacks none.
func (p property) lacks(t reflect.Type, path string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice && p.Items != nil {
		if t.Kind() == reflect.Slice {
			p, path = *p.Items, path+"[]"
		}
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || len(p.Properties) == 0 {
		return nil
	}
	var fields []string
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" { // the fields of an embedded type are visible, too
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		below, ok := p.Properties[name]
		if !ok {
			fields = append(fields, at)
			continue
		}
		fields = append(fields, below.lacks(field.Type, at)...)
	}
	return fields
}
