// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
)

var (
	secrets     = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	coreEvents  = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// public are the keys of Secrets whose values are no secrets: those of Service Bindings
// that say where a server is and who the client is, and certificates.
var public = []string{"type", "provider", "host", "port", "tls", "username", "iam-cache", "iam-region", "ca", "ca.crt", "tls.crt"}

// isSecret reports whether the value of a Secret is one: a URL is if it has a password.
func isSecret(key, value string) bool {
	if value == "" || slices.Contains(public, key) {
		return false
	}
	if address, err := url.Parse(value); err == nil && address.Host != "" {
		_, hasPassword := address.User.Password()
		return hasPassword
	}
	return true
}

// Recording is what the API of a cluster had while it was recorded.
type Recording struct {
	cancel    context.CancelFunc
	running   sync.WaitGroup
	informers dynamicinformer.DynamicSharedInformerFactory

	mu      sync.Mutex
	watched map[schema.GroupVersionResource]bool
	objects []object
	// values of Secrets, with what they are.
	values map[string]string
}

// object is a version of an object as text.
type object struct{ where, text string }

// Record records a cluster until Stop: the kinds that it has, and those that are defined
// later.
func Record(config *rest.Config) (*Recording, error) {
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{} // deprecated kinds are recorded too
	kinds, err := kindsOf(config)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating a client for the recording: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recording{
		cancel: cancel, informers: dynamicinformer.NewDynamicSharedInformerFactory(client, 0),
		watched: map[schema.GroupVersionResource]bool{}, values: map[string]string{},
	}
	for _, kind := range kinds {
		if err := r.watch(ctx, kind); err != nil {
			cancel()
			return nil, err
		}
	}
	r.running.Go(func() {
		<-ctx.Done()
		r.informers.Shutdown()
	})
	for kind, synced := range r.informers.WaitForCacheSync(ctx.Done()) {
		if !synced {
			r.Stop()
			return nil, fmt.Errorf("recording %s: it cannot be listed", kind.Resource)
		}
	}
	return r, nil
}

// kindsOf are the kinds that can be watched. Events are in two groups, of which one
// suffices.
func kindsOf(config *rest.Config) ([]schema.GroupVersionResource, error) {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating a discovery client: %w", err)
	}
	lists, err := discovery.ServerPreferredResources(client)
	if err != nil {
		return nil, fmt.Errorf("discovering API resources: %w", err)
	}
	var kinds []schema.GroupVersionResource
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("parsing API resources: %w", err)
		}
		for _, r := range list.APIResources {
			kind := group.WithResource(r.Name)
			if slices.Contains(r.Verbs, "watch") && slices.Contains(r.Verbs, "list") && kind != coreEvents {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds, nil
}

// watch records a kind from now on.
func (r *Recording) watch(ctx context.Context, kind schema.GroupVersionResource) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watched[kind] {
		return nil
	}
	r.watched[kind] = true
	keep := func(o *unstructured.Unstructured) { r.keep(kind, o) }
	switch kind {
	case secrets:
		keep = r.keepSecret
	case definitions:
		keep = func(o *unstructured.Unstructured) { r.keepDefinition(ctx, o) }
	}
	informer := r.informers.ForResource(kind).Informer()
	// A kind may be removed during the recording.
	err := informer.SetWatchErrorHandlerWithContext(func(context.Context, *toolscache.Reflector, error) {})
	if err == nil {
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { keep(o.(*unstructured.Unstructured)) },
			UpdateFunc: func(_, o any) { keep(o.(*unstructured.Unstructured)) },
		})
	}
	if err != nil {
		return fmt.Errorf("watching %s: %w", kind.Resource, err)
	}
	r.informers.Start(ctx.Done())
	return nil
}

func (r *Recording) keep(kind schema.GroupVersionResource, o *unstructured.Unstructured) {
	o = o.DeepCopy()
	o.SetManagedFields(nil) // names of fields, without values
	text, err := o.MarshalJSON()
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	where := fmt.Sprintf("%s %s/%s at version %s", kind.Resource, o.GetNamespace(), o.GetName(), o.GetResourceVersion())
	r.objects = append(r.objects, object{where, string(text)})
}

func (r *Recording) keepSecret(o *unstructured.Unstructured) {
	secret := &corev1.Secret{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, secret); err != nil {
		panic(err) // the API server validates Secrets
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, value := range secret.Data {
		if isSecret(key, string(value)) {
			r.values[string(value)] = fmt.Sprintf("%s of Secret %s/%s", key, secret.Namespace, secret.Name)
		}
	}
	// What else is in a Secret must not contain the values.
	secret.Data = nil
	rest, err := runtime.DefaultUnstructuredConverter.ToUnstructured(secret)
	if err != nil {
		panic(err)
	}
	where := fmt.Sprintf("the metadata of Secret %s/%s", secret.Namespace, secret.Name)
	text, err := (&unstructured.Unstructured{Object: rest}).MarshalJSON()
	if err != nil {
		panic(err)
	}
	r.objects = append(r.objects, object{where, string(text)})
}

// keepDefinition records the objects of a kind that was defined.
func (r *Recording) keepDefinition(ctx context.Context, o *unstructured.Unstructured) {
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(o.Object, "spec", "names", "plural")
	stored, _, _ := unstructured.NestedStringSlice(o.Object, "status", "storedVersions")
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	established := slices.ContainsFunc(conditions, func(c any) bool {
		condition, _ := c.(map[string]any)
		return condition["type"] == "Established" && condition["status"] == "True"
	})
	if !established || len(stored) == 0 {
		return
	}
	kind := schema.GroupVersionResource{Group: group, Version: stored[len(stored)-1], Resource: plural}
	if err := r.watch(ctx, kind); err != nil {
		panic(err) // an informer that was never started takes handlers
	}
}

// Stop ends the recording and waits until nothing of it runs.
func (r *Recording) Stop() {
	r.cancel()
	r.running.Wait()
}

// Size is how many versions of objects and how many values of Secrets were recorded.
func (r *Recording) Size() (objects, values int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.objects), len(r.values)
}

// Search searches what was recorded, and further texts of the run by where they are from,
// for the values of all Secrets. It is an error if a value is too short.
func (r *Recording) Search(texts map[string]string) ([]Finding, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	searcher := NewSearcher()
	var errs []error
	for value, what := range r.values {
		errs = append(errs, searcher.Add(what, value))
	}
	var found []Finding
	for _, o := range r.objects {
		found = append(found, searcher.Search(o.where, o.text)...)
		for _, text := range decompressed(o.text) {
			found = append(found, searcher.Search(o.where+", decompressed", text)...)
		}
	}
	for where, text := range texts {
		found = append(found, searcher.Search(where, text)...)
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	return found, errors.Join(errs...)
}
