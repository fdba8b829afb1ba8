// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
)

// inputs returns the largest value of each input.
func inputs(t *testing.T) []input {
	t.Helper()
	all := append(specInputs(t), annotationInputs(t)...)
	return append(append(all, kindInputs(t)...), liveInputs(t)...)
}

// hostileFlagCache returns a FlagCache of the hostile tenant.
func hostileFlagCache() *v1alpha1.FlagCache {
	fc, _ := flagsOf(hostile.Namespace, "")
	return fc
}

// specInputs returns a FlagCache for every leaf of the spec, with the largest value that its schema
// accepts.
func specInputs(t *testing.T) []input {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "config", "crd", "bases", "flagcache.dev_flagcaches.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(text, crd); err != nil {
		t.Fatal(err)
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	var all []input
	for _, path := range leaves(reflect.TypeFor[v1alpha1.FlagCacheSpec](), nil) {
		fields := map[string]any{}
		largest := at(t, schema, path)
		budget := MaxObject
		set(fields, path, largestOf(largest, &budget))
		fc := hostileFlagCache()
		encoded, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		activate(fc, path)
		if err := json.Unmarshal(encoded, &fc.Spec); err != nil {
			t.Fatalf("spec.%s: %v", strings.Join(path, "."), err)
		}
		complete(&fc.Spec)
		all = append(all, input{name: "spec." + strings.Join(path, "."), flagCache: fc})
	}
	return all
}

// activate sets the types without which the operator does not read a field.
func activate(fc *v1alpha1.FlagCache, path []string) {
	switch joined := strings.Join(path, "."); {
	case strings.HasPrefix(joined, "cache.external."):
		fc.Spec.Cache.Type = v1alpha1.CacheExternal
	case strings.HasPrefix(joined, "cache.elastiCache."):
		fc.Spec.Cache.Type = v1alpha1.CacheElastiCache
	case strings.HasPrefix(joined, "flags.postgres."):
		fc.Spec.Flags = v1alpha1.FlagsSpec{Type: v1alpha1.FlagsPostgres}
	}
}

// complete adds what the validation rules require of a spec.
func complete(spec *v1alpha1.FlagCacheSpec) {
	switch {
	case spec.Cache.Type == v1alpha1.CacheElastiCache && spec.Cache.ElastiCache == nil:
		spec.Cache.ElastiCache = &v1alpha1.ElastiCacheSpec{}
	case spec.Cache.Type == v1alpha1.CacheExternal && spec.Cache.External == nil:
		spec.Cache.External = &v1alpha1.ExternalSpec{}
	}
	if spec.Flags.Type == v1alpha1.FlagsPostgres {
		spec.Flags.ConfigMap = nil
		if spec.Flags.Postgres == nil {
			spec.Flags.Postgres = &v1alpha1.PostgresSource{}
		}
	}
	if c := spec.Canary; c != nil && c.Traffic.Type == v1alpha1.TrafficGatewayAPI && c.Traffic.HTTPRouteRef == nil {
		c.Traffic.HTTPRouteRef = &v1alpha1.LocalReference{Name: "route"}
	}
	if c := spec.Canary; c != nil && c.Metrics.Type == v1alpha1.MetricsPrometheus && c.Metrics.Prometheus == nil {
		c.Metrics.Prometheus = &v1alpha1.PrometheusSpec{}
	}
}

// leaves returns the paths of the fields of a type that have no fields of this project.
func leaves(t reflect.Type, path []string) [][]string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[v1alpha1.FlagCache]().PkgPath() {
		return [][]string{path}
	}
	var all [][]string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		all = append(all, leaves(t.Field(i).Type, append(slices.Clone(path), name))...)
	}
	return all
}

// at returns the schema at a path; a field without one fails the test.
func at(t *testing.T, schema apiextensionsv1.JSONSchemaProps, path []string) apiextensionsv1.JSONSchemaProps {
	t.Helper()
	for _, name := range path {
		next, ok := schema.Properties[name]
		if !ok {
			t.Fatalf("the CRD has no field %s: run make manifests", strings.Join(path, "."))
		}
		schema = next
	}
	return schema
}

func set(fields map[string]any, path []string, value any) {
	for _, name := range path[:len(path)-1] {
		nested := map[string]any{}
		fields[name] = nested
		fields = nested
	}
	fields[path[len(path)-1]] = value
}

// largestOf returns the largest value of a schema within a budget of bytes.
func largestOf(s apiextensionsv1.JSONSchemaProps, budget *int) any {
	switch {
	case s.XIntOrString:
		*budget -= 16
		return "1234567890Mi"
	case s.Type == "integer":
		return int64(ptr.Deref(s.Maximum, 1<<30))
	case s.Type == "boolean":
		return true
	case s.Type == "string" && len(s.Enum) > 0:
		longest := ""
		for _, value := range s.Enum {
			var text string
			if err := json.Unmarshal(value.Raw, &text); err == nil && len(text) > len(longest) {
				longest = text
			}
		}
		return longest
	case s.Type == "string" && strings.Contains(s.Pattern, "(ms|s|m|h)"):
		return "1h"
	case s.Type == "string":
		return text(int(ptr.Deref(s.MaxLength, 0)), budget)
	case s.Type == "array":
		items := []any{}
		for i := int64(0); i < *s.MaxItems && *budget > 0; i++ {
			items = append(items, largestOf(*s.Items.Schema, budget))
		}
		return items
	case s.AdditionalProperties != nil:
		values := map[string]any{}
		for i := int64(0); i < *s.MaxProperties && *budget > 0; i++ {
			values[fmt.Sprintf("k%03d%s", i, text(keyLength(s)-4, budget))] = largestOf(*s.AdditionalProperties.Schema, budget)
		}
		return values
	default:
		fields := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			fields[name] = largestOf(s.Properties[name], budget)
		}
		return fields
	}
}

// text returns a text of a length, in bytes, at four bytes for each character of the schema.
func text(length int, budget *int) string {
	size := max(0, min(4*length, *budget))
	*budget -= size
	return strings.Repeat("x", size)
}

// keyLength returns the length of keys by the rule of a map.
func keyLength(s apiextensionsv1.JSONSchemaProps) int {
	for _, rule := range s.XValidations {
		var n int
		if _, err := fmt.Sscanf(rule.Rule, "self.all(k, k.size() <= %d)", &n); err == nil {
			return n
		}
	}
	return 63
}

// annotationInputs returns a FlagCache for each annotation that has a name in the API.
func annotationInputs(t *testing.T) []input {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "api", "v1alpha1", "labels.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all []input
	for line := range strings.Lines(string(source)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " = ")
		if !found || !strings.HasPrefix(name, "Annotation") {
			continue
		}
		fc := hostileFlagCache()
		fc.Annotations = map[string]string{strings.Trim(value, `"`): strings.Repeat("x", maxAnnotations)}
		all = append(all, input{name: "annotation " + strings.Trim(value, `"`), flagCache: fc})
	}
	if len(all) < 10 {
		t.Fatalf("only %d annotations were found", len(all))
	}
	fc := hostileFlagCache()
	fc.Annotations = manyEntries(maxAnnotations, smallest)
	pad(fc, MaxObject, smallest)
	return append(all, input{name: "labels and annotations of others", flagCache: fc})
}

// Sizes of labels and annotations in JSON and in a message of protocol buffers. A small one costs
// about five times as much in memory.
const (
	smallest = 12
	largest  = 300
)

// manyEntries returns labels or annotations of a size in total and each.
func manyEntries(size, each int) map[string]string {
	many := make(map[string]string, size/each)
	for i := range size / each {
		many[fmt.Sprintf("k%05x%s", i, strings.Repeat("x", each-smallest))] = ""
	}
	return many
}

// pad adds labels to an object until it has a size.
func pad(o client.Object, size, each int) {
	labels := manyEntries(size-storedSize(o), each)
	maps.Copy(labels, o.GetLabels())
	o.SetLabels(labels)
}

// Large returns an object of a size, that of its labels.
func Large(o client.Object, size int) client.Object {
	pad(o, size, smallest)
	return o
}

// storedSize returns the size of an object as the API server stores it.
func storedSize(o client.Object) int {
	if message, ok := o.(interface{ Size() int }); ok {
		return message.Size()
	}
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return len(text)
}

// kindInputs returns the largest objects of each kind that is watched, which look like children.
func kindInputs(t *testing.T) []input {
	t.Helper()
	var all []input
	for _, of := range watched() {
		kind := observed.KindOf(of)
		if kind == "FlagCache" {
			continue // the inputs before
		}
		for name, owner := range map[string]string{"child": "FlagCache", "foreign": "ReplicaSet"} {
			o := of.DeepCopyObject().(client.Object)
			o.SetNamespace(hostile.Namespace)
			o.SetName("large")
			o.SetUID("large")
			o.SetLabels(map[string]string{v1alpha1.LabelName: hostile.Name, v1alpha1.LabelAllow: v1alpha1.AllowTrue})
			o.SetAnnotations(map[string]string{v1alpha1.AnnotationApplied: strings.Repeat("x", maxAnnotations-100)})
			o.SetOwnerReferences([]metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: owner, Name: hostile.Name, UID: "*v1alpha1.FlagCache hostile demo", Controller: ptr.To(true),
			}})
			add := func(what string, o client.Object) {
				all = append(all, input{name: name + " of kind " + kind + what, flagCache: hostileFlagCache(), objects: []client.Object{o}})
			}
			switch small := o.DeepCopyObject().(type) {
			case *appsv1.Deployment:
				pad(small, MaxObject, smallest)
				add(" with small labels", small)
				variables := o.DeepCopyObject().(*appsv1.Deployment)
				const each = 5 // as stored
				variables.Spec.Template.Spec.Containers = []corev1.Container{{Env: slices.Repeat([]corev1.EnvVar{{Name: "a"}}, (MaxObject-storedSize(o)-100)/each)}}
				add(" with small variables", variables)
			case *ack.ReplicationGroup:
				pad(small, MaxObject, smallest)
				add(" with small labels", small)
			}
			fill(o)
			pad(o, MaxObject, largest)
			add("", o)
		}
	}
	external := hostileFlagCache()
	external.Spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheExternal, External: &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "large"}}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hostile.Namespace, Name: "large", UID: "large", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue}}}
	fill(secret)
	pad(secret, MaxObject, largest)
	all = append(all, input{name: "Secret of a cache", flagCache: external, objects: []client.Object{secret}})
	for name, document := range documents() {
		_, file := flagsOf(hostile.Namespace, document)
		file.UID = "large"
		pad(file, MaxObject, largest)
		all = append(all, input{name: "flags: " + name, flagCache: hostileFlagCache(), objects: []client.Object{file}})
	}
	for name, compressed := range map[string][]byte{"damaged": bytes.Repeat([]byte("x"), maxData), "that expand": observed.Compress(make([]byte, 100*maxData))} {
		fc := hostileFlagCache()
		edited := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Namespace: fc.Namespace, Name: observed.PublishedFlagsName(fc), UID: "large", Labels: map[string]string{v1alpha1.LabelName: fc.Name},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "FlagCache", Name: fc.Name, UID: "*v1alpha1.FlagCache hostile demo", Controller: ptr.To(true),
			}},
		}}
		edited.Data = map[string]string{config.FlagsManifestKey: `{"version":1,"store":"flagcache:hostile/demo","current":{"number":1,"digest":"","publishedAt":"2026-06-01T12:00:00Z"}}`}
		edited.BinaryData = map[string][]byte{config.FlagsDocumentKey: compressed}
		all = append(all, input{name: "published flags " + name, flagCache: fc, objects: []client.Object{edited}})
	}
	slices.SortFunc(all, func(a, b input) int { return strings.Compare(a.name, b.name) })
	return all
}

// fill fills the data of an object that has any.
func fill(o client.Object) {
	switch o := o.(type) {
	case *corev1.Secret:
		o.Data = map[string][]byte{"uri": []byte(strings.Repeat("x", maxData))}
	case *corev1.ConfigMap:
		o.Data = map[string]string{"flags.json": strings.Repeat("x", maxData)}
	}
}

// documents returns flags that are as expensive as their limits allow.
func documents() map[string]string {
	repeat := func(prefix, format, suffix string) string {
		var b strings.Builder
		b.WriteString(prefix)
		for i := 0; b.Len() < flags.MaxSize-len(suffix)-len(format)-8; i++ {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, format, i)
		}
		return b.String() + suffix
	}
	rule := `{"and":[` + strings.TrimSuffix(strings.Repeat(`{"==":[{"var":"a"},1]},`, 10), ",") + `]}`
	return map[string]string{
		"many flags":        repeat(`{"flags":{`, `"f%d":{"state":"ENABLED","variants":{"a":1}}`, `}}`),
		"many invalid ones": repeat(`{"flags":{`, `"f%d":0`, `}}`),
		"a shared rule":     repeat(`{"$evaluators":{"r":`+rule+`},"flags":{`, `"f%d":{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a","targeting":{"if":[{"$ref":"r"},"a"]}}`, `}}`),
		"a long list":       repeat(`{"flags":{},"x":[`, `%d`, `]}`),
		"a long key":        `{"flags":{"` + strings.Repeat("k", flags.MaxSize-20) + `":0}}`,
	}
}
