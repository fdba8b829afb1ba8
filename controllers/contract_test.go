// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/service/flags"
)

// The contract with tenants: the largest value that is accepted for any input raises the operator's
// heap by less than maxHeap, and the work of another tenant's reconcile by less than maxDelay. How
// long that waits for its turn is bounded by package queue.
const (
	maxHeap  = 8 << 20
	maxDelay = 2.0
	// maxObject is the size of the largest object that the API server stores, about 1.5 MiB;
	// maxAnnotations is that of its annotations, and maxData that of a Secret or a ConfigMap.
	maxObject      = 1_400_000
	maxAnnotations = 256 << 10
	maxData        = 1 << 20
)

// elsewhere are inputs that are not objects, with the tests of what the largest costs.
var elsewhere = map[string]string{
	"metrics of pods":         "controllers/evidence TestSampleOfHostilePodsCostsBoundedMemory",
	"responses of Prometheus": "controllers/evidence TestHostilePrometheusIsBounded",
	"responses of CloudWatch": "controllers/evidence TestInvalidCloudWatchResponseIsAbsent",
	"flags that pods report":  "controllers/evidence TestHostileMetricsCostBoundedMemory",
	"replies of a cache":      "controllers/probe FuzzReply",
	"report of a load test":   "controllers/plan/observed TestLoadTestOf",
}

// TestContract measures each input that a tenant writes: every field of the spec and every annotation
// that is read, by reflection, and the objects of every kind that is watched. Run it with -v for the
// table.
func TestContract(t *testing.T) {
	base := newContract(t).measure(nil)
	t.Logf("%-66s %12s %12s %8s", "input", "bytes", "heap +bytes", "delay")
	for _, input := range inputs(t) {
		c := newContract(t, input.objects...)
		got := c.measure(input.flagCache)
		delay := float64(got.work) / float64(base.work)
		t.Logf("%-66s %12d %12d %7.2fx", input.name, input.size(), got.heap, delay)
		if got.heap >= maxHeap {
			t.Errorf("%s: %d bytes raise the heap by %d bytes, the limit is %d", input.name, input.size(), got.heap, maxHeap)
		}
		if delay >= maxDelay {
			t.Errorf("%s: the reconcile of another tenant takes %.1f times the work", input.name, delay)
		}
	}
	for _, input := range slices.Sorted(maps.Keys(elsewhere)) {
		t.Logf("%-66s %s", input, elsewhere[input])
	}
}

// input is the largest accepted value of one input.
type input struct {
	name string
	// flagCache is that of the hostile tenant, and objects are others of its.
	flagCache *v1alpha1.FlagCache
	objects   []client.Object
}

// size returns the size of the input in JSON.
func (i input) size() int {
	total := 0
	for _, o := range append([]client.Object{i.flagCache}, i.objects...) {
		text, err := json.Marshal(o)
		if err != nil {
			panic(err)
		}
		total += len(text)
	}
	return total
}

// contract is an operator with a hostile tenant and another one.
type contract struct {
	t      *testing.T
	server client.WithWatch
	*Reconciler
}

// cost is what an input costs: bytes of heap that remain, and allocations of a reconcile of the
// other tenant.
type cost struct{ heap, work int64 }

var hostile, other = types.NamespacedName{Namespace: "hostile", Name: "demo"}, types.NamespacedName{Namespace: "other", Name: "demo"}

func newContract(t *testing.T, objects ...client.Object) *contract {
	t.Helper()
	scheme := k8sruntime.NewScheme()
	for _, add := range []func(*k8sruntime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, ack.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	for _, namespace := range []string{hostile.Namespace, other.Namespace} {
		_, file := flagsOf(namespace, `{"flags": {}}`)
		file.UID = types.UID("flags of " + namespace)
		if !slices.ContainsFunc(objects, func(o client.Object) bool { return sameObject(o, file) }) {
			objects = append(objects, file)
		}
	}
	server := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.FlagCache{}).
		WithIndex(&corev1.Event{}, "involvedObject.uid", func(o client.Object) []string { return []string{string(o.(*corev1.Event).InvolvedObject.UID)} }).
		WithIndex(&corev1.Event{}, "reason", func(o client.Object) []string { return []string{o.(*corev1.Event).Reason} }).Build()
	c := &contract{t: t, server: interceptor.NewClient(server, interceptor.Funcs{
		Create: func(ctx context.Context, server client.WithWatch, o client.Object, options ...client.CreateOption) error {
			o.SetUID(types.UID(fmt.Sprintf("%T %s %s", o, o.GetNamespace(), o.GetName())))
			return server.Create(ctx, o, options...)
		},
	})}
	cached := interceptor.NewClient(c.server, interceptor.Funcs{
		Get: func(ctx context.Context, server client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if err := server.Get(ctx, key, o, options...); err != nil {
				return err
			}
			return c.transform(o)
		},
	})
	c.Reconciler = &Reconciler{
		Client: bodies.New(cached, c.server), Live: c.server, FlagFiles: &FlagFiles{Metadata: cached, Validate: flags.Validate},
		Prober: idle{}, Sampler: idleSampler{}, Events: &events.FakeRecorder{}, Clock: clock.RealClock{},
		Operator: observed.Operator{Namespace: "flagcache-system", FlagServiceImage: "flag-service:v1"},
	}
	return c
}

func sameObject(a, b client.Object) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && client.ObjectKeyFromObject(a) == client.ObjectKeyFromObject(b)
}

// transform changes an object like the informer's transform of its kind.
func (c *contract) transform(o client.Object) error {
	got, err := c.transformOf(o)(o)
	if err == nil {
		reflect.ValueOf(o).Elem().Set(reflect.ValueOf(got).Elem())
	}
	return err
}

func (c *contract) transformOf(o client.Object) toolscache.TransformFunc {
	gvk, err := apiutil.GVKForObject(o, c.server.Scheme())
	if err != nil {
		c.t.Fatal(err)
	}
	for of, options := range CacheOptions(nil).ByObject {
		if kind, err := apiutil.GVKForObject(of, c.server.Scheme()); err == nil && kind == gvk {
			return options.Transform
		}
	}
	return slim
}

// measure reconciles the hostile FlagCache, if there is one, and then another tenant's, and returns
// what that costs.
func (c *contract) measure(fc *v1alpha1.FlagCache) cost {
	c.t.Helper()
	neighbour, _ := flagsOf(other.Namespace, "")
	c.create(neighbour)
	if fc != nil {
		c.create(fc)
	}
	before := heap()
	cache := c.informers()
	for range 3 {
		if fc != nil {
			c.reconcile(hostile)
		}
		c.reconcile(other)
	}
	var start, end runtime.MemStats
	runtime.ReadMemStats(&start)
	c.reconcile(other)
	runtime.ReadMemStats(&end)
	after := heap()
	runtime.KeepAlive(cache)
	runtime.KeepAlive(c)
	return cost{heap: after - before, work: int64(end.Mallocs - start.Mallocs)}
}

// create stores a copy of an object.
func (c *contract) create(o client.Object) {
	c.t.Helper()
	if err := c.server.Create(c.t.Context(), o.DeepCopyObject().(client.Object)); err != nil {
		c.t.Fatal(err)
	}
}

// reconcile reconciles once. What a reconcile of a hostile FlagCache reports does not matter.
func (c *contract) reconcile(key types.NamespacedName) {
	c.t.Helper()
	if _, err := c.Reconcile(c.t.Context(), ctrl.Request{NamespacedName: key}); err != nil && key == other {
		c.t.Fatal(err)
	}
}

// informers returns what the informers keep of all objects.
func (c *contract) informers() []any {
	c.t.Helper()
	var kept []any
	for of := range CacheOptions(nil).ByObject {
		gvk, err := apiutil.GVKForObject(of, c.server.Scheme())
		if err != nil {
			c.t.Fatal(err)
		}
		var list client.ObjectList = &metav1.PartialObjectMetadataList{}
		switch of.(type) {
		case *corev1.Secret, *corev1.ConfigMap:
			list.GetObjectKind().SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		default:
			typed, err := c.server.Scheme().New(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
			if err != nil {
				c.t.Fatal(err)
			}
			list = typed.(client.ObjectList)
		}
		if err := c.server.List(c.t.Context(), list); err != nil {
			c.t.Fatal(err)
		}
		items := reflect.ValueOf(list).Elem().FieldByName("Items")
		for i := range items.Len() {
			o := items.Index(i).Addr().Interface().(client.Object).DeepCopyObject()
			got, err := c.transformOf(of)(o)
			if err != nil {
				c.t.Fatal(err)
			}
			kept = append(kept, got)
		}
	}
	return kept
}

// heap returns the bytes of heap in use after collections.
func heap() int64 {
	var stats runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// inputs returns the largest value of each input.
func inputs(t *testing.T) []input {
	t.Helper()
	all := append(specInputs(t), annotationInputs(t)...)
	return append(all, kindInputs(t)...)
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
		budget := maxObject
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
	fc.Labels, fc.Annotations = manyLabels(), map[string]string{"example.com/note": strings.Repeat("x", maxAnnotations)}
	return append(all, input{name: "labels and annotations of others", flagCache: fc})
}

func manyLabels() map[string]string {
	many := map[string]string{}
	for i := range maxData / 400 {
		many[fmt.Sprintf("example.com/%s%05d", strings.Repeat("x", 50), i)] = strings.Repeat("x", 63)
	}
	return many
}

// kindInputs returns large objects of each kind that is watched, which look like children.
func kindInputs(t *testing.T) []input {
	t.Helper()
	var all []input
	for of := range CacheOptions(nil).ByObject {
		kind := observed.KindOf(of)
		if kind == "FlagCache" {
			continue // the inputs before
		}
		for name, owner := range map[string]string{"child": "FlagCache", "foreign": "ReplicaSet"} {
			o := of.DeepCopyObject().(client.Object)
			o.SetNamespace(hostile.Namespace)
			o.SetName("large")
			o.SetUID("large")
			o.SetLabels(manyLabels())
			o.GetLabels()[v1alpha1.LabelName], o.GetLabels()[v1alpha1.LabelAllow] = hostile.Name, v1alpha1.AllowTrue
			o.SetAnnotations(map[string]string{v1alpha1.AnnotationApplied: strings.Repeat("x", maxAnnotations)})
			o.SetOwnerReferences([]metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: owner, Name: hostile.Name, UID: "*v1alpha1.FlagCache hostile demo", Controller: ptr.To(true),
			}})
			fill(o)
			all = append(all, input{name: name + " of kind " + kind, flagCache: hostileFlagCache(), objects: []client.Object{o}})
		}
	}
	external := hostileFlagCache()
	external.Spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheExternal, External: &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "large"}}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: hostile.Namespace, Name: "large", UID: "large", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue}}}
	fill(secret)
	all = append(all, input{name: "Secret of a cache", flagCache: external, objects: []client.Object{secret}})
	for name, document := range documents() {
		_, file := flagsOf(hostile.Namespace, document)
		file.UID = "large"
		all = append(all, input{name: "flags: " + name, flagCache: hostileFlagCache(), objects: []client.Object{file}})
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

// TestEveryInputHasARow: what the Reconciler reads from is in the table, or is not written by tenants.
func TestEveryInputHasARow(t *testing.T) {
	known := map[string]string{
		"Client": "the watched kinds", "Live": "the watched kinds", "FlagFiles": "flags",
		"Prober": "replies of a cache", "Sampler": "metrics of pods, Prometheus, CloudWatch", "Deliveries": "flags that pods report",
		"ACK": "discovery of the API server", "Rollbacks": "written by the operator", "Events": "written by the operator",
		"Clock": "time", "Operator": "the administrator", "Policy": "the administrator", "Backoff": "time", "Random": "random",
	}
	r := reflect.TypeFor[Reconciler]()
	for i := range r.NumField() {
		if f := r.Field(i); f.IsExported() && known[f.Name] == "" {
			t.Errorf("Reconciler.%s is an input without a row in the table of TestContract", f.Name)
		}
	}
	for input, test := range elsewhere {
		directory, name, _ := strings.Cut(test, " ")
		if !declares(t, filepath.Join("..", directory), name) {
			t.Errorf("%s: %s has no test %s", input, directory, name)
		}
	}
}

func declares(t *testing.T, directory, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(directory, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		source, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(source), "func "+test+"(")
	})
}

// idle is a prober without results.
type idle struct{}

func (idle) Watch(types.NamespacedName, probe.Target)       {}
func (idle) Forget(types.NamespacedName)                    {}
func (idle) Last(types.NamespacedName) (probe.Result, bool) { return probe.Result{}, false }

// idleSampler is a sampler without samples.
type idleSampler struct{}

func (idleSampler) Watch(types.NamespacedName, evidence.Target) {}
func (idleSampler) Forget(types.NamespacedName)                 {}
func (idleSampler) Last(types.NamespacedName) (canary.Evidence, bool) {
	return canary.Evidence{}, false
}
