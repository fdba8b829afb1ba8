// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers"
)

// call is a request of the operator to its cache or to the API server.
type call struct {
	verb string
	kind kind
	name string
	// live reports that a read bypasses the cache.
	live bool
	// subresource is "status" or empty.
	subresource string
}

func (c call) isWrite() bool { return c.verb != "get" && c.verb != "list" }

// String returns a stable description, such as "patch FlagCache/status demo".
func (c call) String() string {
	text := c.verb
	if c.live {
		text += " live"
	}
	text += " " + c.kind.String()
	if c.subresource != "" {
		text += "/" + c.subresource
	}
	return strings.TrimSpace(text + " " + c.name)
}

// sameTarget reports whether two calls attempt the same operation. The name of a revision depends
// on generated credentials, so names of Deployments are ignored.
func (c call) sameTarget(o call) bool {
	if c.kind == deployments && o.kind == deployments {
		c.name, o.name = "", ""
	}
	return c == o
}

// operatorClient is the operator's client of the World. Each call has a number, by which the plan
// determines its faults.
type operatorClient struct {
	client.Client
	w *World
	// live reads bypass the cache; allowed ones are from the cache of the Secrets of others.
	live, allowed bool
}

var errLost = errors.New("the connection to the API server was lost")

func (c operatorClient) Get(ctx context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	k := kindOf(into)
	return c.w.injector().call(ctx, call{verb: "get", kind: k, name: key.Name, live: c.live}, func() error {
		o := find(c.visible(k), key.Name)
		if o == nil {
			return apierrors.NewNotFound(k.groupResource(), key.Name)
		}
		c.w.process().recordFlagCache(o)
		return copyInto(c.asRead(o, into), into)
	})
}

func (c operatorClient) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	k := kindOf(into)
	var o client.ListOptions
	o.ApplyOptions(options)
	return c.w.injector().call(ctx, call{verb: "list", kind: k, live: c.live}, func() error {
		var found []k8sruntime.Object
		for _, item := range c.visible(k) {
			if o.LabelSelector == nil || o.LabelSelector.Matches(labels.Set(item.GetLabels())) {
				found = append(found, c.asRead(item, into).DeepCopyObject())
			}
		}
		return meta.SetList(into, found)
	})
}

// asRead returns an object as a read returns it: from the cache without what its transform drops,
// and only the metadata of Secrets and ConfigMaps.
func (c operatorClient) asRead(o client.Object, like k8sruntime.Object) client.Object {
	k := kindOf(o)
	switch like.(type) {
	case *metav1.PartialObjectMetadata, *metav1.PartialObjectMetadataList:
		o = metadataOf(o)
	default:
		if !c.live && (k == secrets || k == configMaps) {
			panic(fmt.Sprintf("the body of a %s is read from the cache, which has only metadata", k))
		}
	}
	if c.live {
		return o
	}
	cached, err := cacheTransforms[k](shallowCopy(o))
	if err != nil {
		panic(err)
	}
	return cached.(client.Object)
}

func metadataOf(o client.Object) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(kindInfos[kindOf(o)].gvk)
	switch o := o.DeepCopyObject().(type) {
	case *corev1.ConfigMap:
		m.ObjectMeta = o.ObjectMeta
	case *corev1.Secret:
		m.ObjectMeta = o.ObjectMeta
	default:
		panic(fmt.Sprintf("the operator reads the metadata of a %T", o))
	}
	return m
}

// visible returns the objects that a read can find.
func (c operatorClient) visible(k kind) []client.Object {
	if c.live {
		return c.w.api.now(k)
	}
	objects := c.w.process().cached(k)
	selector := cacheSelectors[k]
	if c.allowed {
		selector = allowedSelectors[k]
	}
	if selector == nil {
		return objects
	}
	var visible []client.Object
	for _, o := range objects {
		if selector.Matches(labels.Set(o.GetLabels())) {
			visible = append(visible, o)
		}
	}
	return visible
}

// cacheSelectors are the label selectors of the operator's informer caches.
var cacheSelectors = func() [kinds]labels.Selector {
	selectors := selectorsOf(controllers.CacheOptions(nil))
	for k := replicationGroups; k < kinds; k++ {
		selectors[k] = controllers.ACKCacheOptions(nil).DefaultLabelSelector
	}
	return selectors
}()

// allowedSelectors are the label selectors of the cache of the Secrets of others.
var allowedSelectors = selectorsOf(controllers.AllowedCacheOptions(nil))

func selectorsOf(options cache.Options) [kinds]labels.Selector {
	var selectors [kinds]labels.Selector
	for o, restriction := range options.ByObject {
		if restriction.Label != nil {
			selectors[kindOf(o)] = restriction.Label
		}
	}
	return selectors
}

// cacheTransforms are the transforms of the operator's informer caches.
var cacheTransforms = func() [kinds]toolscache.TransformFunc {
	var transforms [kinds]toolscache.TransformFunc
	options := controllers.CacheOptions(nil)
	for k := range kinds {
		transforms[k] = options.DefaultTransform
	}
	for o, restriction := range options.ByObject {
		transforms[kindOf(o)] = restriction.Transform
	}
	for k := replicationGroups; k < kinds; k++ {
		transforms[k] = controllers.ACKCacheOptions(nil).DefaultTransform
	}
	return transforms
}()

func (c operatorClient) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	var opts client.CreateOptions
	opts.ApplyOptions(options)
	return c.write(ctx, "create", o, "", func() (client.Object, error) { return c.w.api.create(o, opts.FieldManager) })
}

func (c operatorClient) Patch(ctx context.Context, o client.Object, p client.Patch, options ...client.PatchOption) error {
	var opts client.PatchOptions
	opts.ApplyOptions(options)
	return c.patch(ctx, o, p, opts.FieldManager, "")
}

func (c operatorClient) patch(ctx context.Context, o client.Object, p client.Patch, manager, subresource string) error {
	data, err := p.Data(o)
	if err != nil {
		return err
	}
	verb := map[types.PatchType]string{types.ApplyPatchType: "apply", types.JSONPatchType: "adopt", types.MergePatchType: "patch"}[p.Type()]
	c.w.oracle().checkPatch(kindOf(o), p.Type(), data)
	return c.write(ctx, verb, o, subresource, func() (client.Object, error) {
		return c.w.api.patch(patch{kind: kindOf(o), name: o.GetName(), format: p.Type(), data: data, manager: manager, status: subresource != ""})
	})
}

// write executes a call that returns the written object.
func (c operatorClient) write(ctx context.Context, verb string, o client.Object, subresource string, do func() (client.Object, error)) error {
	return c.w.injector().call(ctx, call{verb: verb, kind: kindOf(o), name: o.GetName(), subresource: subresource}, func() error {
		written, err := do()
		if err != nil {
			return err
		}
		return copyInto(written, o)
	})
}

func (c operatorClient) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	var opts client.DeleteOptions
	opts.ApplyOptions(options)
	c.w.oracle().checkDelete(kindOf(o), o.GetName(), opts.Preconditions)
	return c.w.injector().call(ctx, call{verb: "delete", kind: kindOf(o), name: o.GetName()}, func() error {
		return c.w.api.remove(kindOf(o), o.GetName(), opts.Preconditions)
	})
}

func (c operatorClient) Status() client.SubResourceWriter { return statusClient{c: c} }

// statusClient writes the status subresource.
type statusClient struct {
	client.SubResourceWriter
	c operatorClient
}

func (s statusClient) Patch(ctx context.Context, o client.Object, p client.Patch, options ...client.SubResourcePatchOption) error {
	var opts client.SubResourcePatchOptions
	opts.ApplyOptions(options)
	return s.c.patch(ctx, o, p, opts.FieldManager, "status")
}

// copyInto copies a stored object to the type that the operator reads.
func copyInto(from, into client.Object) error {
	if open, ok := into.(*unstructured.Unstructured); ok {
		fields, err := k8sruntime.DefaultUnstructuredConverter.ToUnstructured(from)
		open.Object = fields
		return err
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from.DeepCopyObject()).Elem())
	return nil
}

// call counts a request, injects the faults of the plan, and executes it.
func (w injector) call(ctx context.Context, c call, do func() error) error {
	w.calls++
	if c.isWrite() {
		w.requests++
	}
	w.recordCall(c)
	w.injectEvents(c)
	if err := ctx.Err(); err != nil {
		w.logf("%4d %s: %v", w.calls, c, err)
		return err
	}
	switch f := w.faultAt(c); f {
	case noFault:
		err := do()
		w.logCall(c, err)
		return err
	case crashBefore:
		w.logf("%4d %s: CRASH before", w.calls, c)
		panic(crash{})
	case crashAfter:
		err := do()
		w.logf("%4d %s: CRASH after (%v)", w.calls, c, err)
		panic(crash{})
	case applied:
		if err := do(); err != nil {
			return err
		}
		w.logf("%4d %s: APPLIED, and the answer lost", w.calls, c)
		return w.connectionLost(c)
	case cancelled:
		w.logf("%4d %s: CANCELLED", w.calls, c)
		w.process().cancel()
		return context.Canceled
	default:
		err := w.errorFor(f, c)
		w.logf("%4d %s: FAULT %v", w.calls, c, err)
		return err
	}
}

// connectionLost is the error of a lost connection. Its text varies like that of a real one, which
// contains ports.
func (w injector) connectionLost(c call) error {
	return fmt.Errorf("%s: read tcp 10.0.0.7:%d->10.96.0.1:443: %w", c.verb, 40000+w.calls%20000, errLost)
}

// errorFor returns the API server's error for a fault.
func (w injector) errorFor(f fault, c call) error {
	resource := c.kind.groupResource()
	switch f {
	case conflict:
		return apierrors.NewConflict(resource, c.name, errors.New("the object has been modified; please apply your changes to the latest version"))
	case tooMany:
		return apierrors.NewTooManyRequests("the server has received too many requests", 5)
	case internal:
		return apierrors.NewInternalError(fmt.Errorf("etcdserver: leader changed (request %d)", w.calls))
	case forbidden:
		return apierrors.NewForbidden(resource, c.name, fmt.Errorf("the user \"flagcache\" cannot %s resource %q in namespace %q", c.verb, resource.Resource, namespace))
	case quota:
		return apierrors.NewForbidden(resource, c.name, errors.New("exceeded quota: all, requested: pods=1, used: pods=10, limited: pods=10"))
	case invalid:
		return apierrors.NewInvalid(kindInfos[c.kind].gvk.GroupKind(), c.name, nil)
	case unavailable:
		return apierrors.NewServiceUnavailable("the server is currently unable to handle the request")
	case terminating:
		return namespaceTerminating(c.kind, c.name)
	default:
		return w.connectionLost(c)
	}
}

// recordCall adds a call to the trace of a reference run, with its location in the source.
func (w injector) recordCall(c call) {
	if w.calledTrace != nil {
		*w.calledTrace = append(*w.calledTrace, tracedCall{call: c, site: callSite()})
	}
}

// tracedCall is a call of a reference run.
type tracedCall struct {
	call
	// site is the file and line in the operator's source.
	site string
}

// callSite returns the location of the Reconciler's call of its client, which may be wrapped.
func callSite() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	for {
		frame, more := frames.Next()
		if i := strings.LastIndex(frame.File, "/controllers/"); i >= 0 && !strings.Contains(frame.File[i:], "/bodies/") {
			return fmt.Sprintf("%s:%d", frame.File[i+len("/controllers/"):], frame.Line)
		}
		if !more {
			return "unknown"
		}
	}
}
