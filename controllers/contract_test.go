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

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

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
	// MaxObject is the size of the largest object that the API server stores, by the default
	// of etcd; maxAnnotations is that of its annotations, and maxData that of a Secret or a
	// ConfigMap.
	MaxObject      = 3 << 19
	maxAnnotations = 256 << 10
	maxData        = 1 << 20
)

// elsewhere are inputs that are not objects, with the tests of what the largest costs.
var elsewhere = map[string]string{
	"metrics of pods":                                "controllers/evidence TestSampleOfHostilePodsCostsBoundedMemory",
	"responses of Prometheus":                        "controllers/evidence TestHostilePrometheusIsBounded",
	"responses of the API server that are read live": "cmd/manager TestLiveResponsesAreBounded",
	"responses of CloudWatch":                        "controllers/evidence TestCloudWatchCanariesHoldOneResponseEach",
	"flags that pods report":                         "controllers/evidence TestHostileMetricsCostBoundedMemory",
	"replies of a cache":                             "controllers/probe FuzzReply",
	"replies of a cache to flags":                    "controllers/broadcast TestHostileServers",
	"report of a load test":                          "controllers/plan/observed TestLoadTestOf",
}

// TestContract measures each input that a tenant writes: every field of the spec and every annotation
// that is read, by reflection, and the objects of every kind that is watched. Run it with -v for the
// table.
func TestContract(t *testing.T) {
	newContract(t).measure(nil) // what only the first reconciles of a program cost is not the base
	base := newContract(t).measure(nil)
	t.Logf("%-66s %12s %12s %8s", "input", "bytes", "heap +bytes", "delay")
	live := &readLive{kinds: map[string]bool{}}
	for _, input := range inputs(t) {
		c := newContract(t, input.objects...)
		c.Live = live.client(c.server)
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
	live.expectRows(t)
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
	for _, add := range []func(*k8sruntime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, ack.AddToScheme, gatewayv1.Install} {
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
		List: func(ctx context.Context, server client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if err := server.List(ctx, list, options...); err != nil {
				return err
			}
			return meta.EachListItem(list, func(o k8sruntime.Object) error { return c.transform(o.(client.Object)) })
		},
		Get: func(ctx context.Context, server client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if err := server.Get(ctx, key, o, options...); err != nil {
				return err
			}
			return c.transform(o)
		},
	})
	c.Reconciler = &Reconciler{
		Client: bodies.New(cached, c.server), Live: c.server, Allowed: bodies.New(cached, c.server), FlagFiles: &FlagFiles{Metadata: cached, Validate: flags.Validate},
		Prober: idle{}, Sampler: idleSampler{}, ACK: allInstalled{}, Events: &events.FakeRecorder{}, Clock: clock.RealClock{},
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
	if ack.Is(o) {
		return ACKCacheOptions(nil).DefaultTransform
	}
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

// reconcile reconciles once. What a reconcile of a hostile FlagCache reports does not matter. The
// tests keep the log in memory, which the operator does not: it is discarded.
func (c *contract) reconcile(key types.NamespacedName) {
	c.t.Helper()
	ctx := ctrl.LoggerInto(c.t.Context(), logr.Discard())
	if _, err := c.Reconcile(ctx, ctrl.Request{NamespacedName: key}); err != nil && key == other {
		c.t.Fatal(err)
	}
}

// informers returns what the informers keep of all objects.
func (c *contract) informers() []any {
	c.t.Helper()
	var kept []any
	for _, of := range slices.AppendSeq(watched(), maps.Keys(AllowedCacheOptions(nil).ByObject)) {
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
		err = meta.EachListItem(list, func(o k8sruntime.Object) error {
			got, err := c.transformOf(of)(o.DeepCopyObject())
			kept = append(kept, got)
			return err
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return kept
}

// watched are the kinds that informers watch; a second one has the Secrets of others.
func watched() []client.Object {
	all := slices.Collect(maps.Keys(CacheOptions(nil).ByObject))
	for _, kind := range ack.Kinds() {
		all = append(all, kind.New())
	}
	return all
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

// TestEveryInputHasARow: what the Reconciler reads from is in the table, or is not written by tenants.
func TestEveryInputHasARow(t *testing.T) {
	known := map[string]string{
		"Client": "the watched kinds", "Live": "the watched kinds", "Allowed": "the watched kinds", "FlagFiles": "flags",
		"Prober": "replies of a cache", "Sampler": "metrics of pods, Prometheus, CloudWatch", "Deliveries": "flags that pods report",
		"Broadcasts": "replies of a cache to flags",
		"ACK":        "discovery of the API server", "Rollbacks": "written by the operator", "Events": "written by the operator",
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

// allInstalled is a cluster with all kinds of ACK.
type allInstalled struct{}

func (allInstalled) Installed() map[string]bool {
	installed := map[string]bool{}
	for _, kind := range ack.Kinds() {
		installed[kind.Kind] = true
	}
	return installed
}
func (allInstalled) Lacking() map[string][]string { return nil }

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
