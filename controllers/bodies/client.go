// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package bodies

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/plan/observed"
)

const (
	// MaxSize is the maximum size of the data of a Secret that is read, in bytes: what
	// FlagCaches use are addresses, credentials, and a bundle of certificates.
	MaxSize = observed.MaxSecretSize
	// MaxConfigMapSize is that of a ConfigMap: published flags may be as large as the API
	// server allows, 1 MiB besides the metadata.
	MaxConfigMapSize = 3 << 19
	// MaxListSize is the maximum size of the data of all objects of one list, in bytes.
	MaxListSize = 4 << 20
	// maxKept is the size of the bodies that are kept, in bytes: those of some thousand
	// FlagCaches.
	maxKept = 16 << 20
)

// Kinds that the informers cache only the metadata of.
const (
	secret    = "Secret"
	configMap = "ConfigMap"
)

// Client reads and writes Secrets and ConfigMaps with their bodies, and everything else
// like the client that it wraps. What it wrote it also reads, whether the cache has it
// or not.
type Client struct {
	client.Client
	live client.Reader
	kept *kept

	mu sync.Mutex
	// written are the writes that the cache may not have yet.
	written map[object]write
}

// object identifies a Secret or a ConfigMap.
type object struct {
	kind string
	types.NamespacedName
}

// write is the last write of an object.
type write struct {
	uid types.UID
	// resourceVersion is that of the written object, "" if it was deleted.
	resourceVersion string
	labels          map[string]string
}

// New returns a client that reads metadata with a client of the informer caches, and
// bodies from the API server.
func New(cached client.Client, live client.Reader) *Client {
	return &Client{Client: cached, live: live, kept: &kept{limit: maxKept}, written: map[object]write{}}
}

// Beside returns a client of other informer caches, which shares the bodies that are kept.
func (c *Client) Beside(cached client.Client) *Client {
	return &Client{Client: cached, live: c.live, kept: c.kept, written: map[object]write{}}
}

// TooLargeError is the error of an object with more data than it may have, or of a list with
// more than MaxListSize.
type TooLargeError struct {
	// Kind and Name of the object. The Name of a list is empty.
	Kind, Name string
	// Limit in bytes.
	Limit int
}

// Error implements error. The size varies, and is not part of it.
func (e TooLargeError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("the %ss have more than %d bytes of data: delete those that the operator did not create", e.Kind, e.Limit)
	}
	return fmt.Sprintf("%s %s has more than %d bytes of data: remove what does not belong into it", e.Kind, e.Name, e.Limit)
}

// Get implements client.Reader. An object that is too large is a TooLargeError.
func (c *Client) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	kind := kindOf(o)
	if kind == "" {
		return c.Client.Get(ctx, key, o, options...)
	}
	metadata := Metadata(kind)
	err := c.Client.Get(ctx, key, metadata, options...)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil {
		metadata = nil
	}
	id := object{kind, key}
	switch {
	case c.isBehind(id, metadata):
		return c.readWritten(ctx, id, o)
	case err != nil:
		return err
	default:
		return c.read(ctx, metadata, o)
	}
}

// List implements client.Reader. Objects that others control have no bodies: nothing of
// them is used but their names.
func (c *Client) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	kind := kindOf(list)
	if kind == "" {
		return c.Client.List(ctx, list, options...)
	}
	found := &metav1.PartialObjectMetadataList{}
	found.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind + "List"))
	if err := c.Client.List(ctx, found, options...); err != nil {
		return err
	}
	var o client.ListOptions
	o.ApplyOptions(options)
	objects, err := c.readAll(ctx, kind, found.Items, o)
	if err != nil {
		return err
	}
	return meta.SetList(list, objects)
}

// readAll reads the objects of a list, and those that were written and that it lacks.
func (c *Client) readAll(ctx context.Context, kind string, items []metav1.PartialObjectMetadata, options client.ListOptions) ([]runtime.Object, error) {
	var objects []runtime.Object
	total := 0
	listed := map[object]bool{}
	for i := range items {
		m := &items[i]
		id := object{kind, client.ObjectKeyFromObject(m)}
		listed[id] = true
		o := newObject(kind)
		var err error
		switch {
		case c.isBehind(id, m):
			err = c.readWritten(ctx, id, o)
		case isForeign(m):
			setMetadata(o, m.ObjectMeta)
		default:
			err = c.read(ctx, m, o)
		}
		switch {
		case apierrors.IsNotFound(err), err == nil && !matches(options, o.GetLabels()):
			continue
		case err != nil:
			return nil, err
		}
		if total += size(o); total > MaxListSize {
			return nil, TooLargeError{Kind: kind, Limit: MaxListSize}
		}
		objects = append(objects, o)
	}
	for _, id := range c.unlisted(kind, options.Namespace, listed) {
		o, err := c.readUnlisted(ctx, id, options)
		switch {
		case err != nil:
			return nil, err
		case o != nil:
			objects = append(objects, o)
		}
	}
	return objects, nil
}

// readUnlisted reads an object that was written and that a list lacks: because the cache is
// behind, or because it is no part of the list. Only the former is read from the API server:
// the FlagCaches of a namespace would otherwise read each other's writes. It returns nil for
// an object that does not exist or that is no part of the list.
func (c *Client) readUnlisted(ctx context.Context, id object, options client.ListOptions) (client.Object, error) {
	metadata := Metadata(id.kind)
	err := c.Client.Get(ctx, id.NamespacedName, metadata)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err != nil {
		metadata = nil
	}
	o := newObject(id.kind)
	last, behind := c.lastWrite(id, metadata)
	switch {
	case behind && matches(options, last.labels):
		err = c.readWritten(ctx, id, o)
	case !behind && metadata != nil && matches(options, metadata.Labels): // since the list was read
		err = c.read(ctx, metadata, o)
	default:
		return nil, nil
	}
	if apierrors.IsNotFound(err) || err == nil && !matches(options, o.GetLabels()) {
		return nil, nil
	}
	return o, err
}

func matches(options client.ListOptions, l map[string]string) bool {
	return options.LabelSelector == nil || options.LabelSelector.Matches(labels.Set(l))
}

// isForeign reports whether something else than a FlagCache controls an object.
func isForeign(m *metav1.PartialObjectMetadata) bool {
	owner := metav1.GetControllerOf(m)
	return owner != nil && owner.Kind != "FlagCache"
}

// read reads the body of an object unless it is kept.
func (c *Client) read(ctx context.Context, m *metav1.PartialObjectMetadata, into client.Object) error {
	if body := c.kept.get(versionOf(m)); body != nil {
		copyInto(body, into)
		return nil
	}
	return c.readLive(ctx, client.ObjectKeyFromObject(m), into)
}

func (c *Client) readLive(ctx context.Context, key client.ObjectKey, into client.Object) error {
	if err := c.live.Get(ctx, key, into); err != nil {
		return err
	}
	size, limit := size(into), maxSizeOf(into)
	if size > limit {
		return TooLargeError{Kind: kindOf(into), Name: key.Name, Limit: limit}
	}
	into.SetManagedFields(nil)
	c.kept.put(into.DeepCopyObject().(client.Object), size)
	return nil
}

// readWritten reads an object of which the cache does not have the last write.
func (c *Client) readWritten(ctx context.Context, id object, into client.Object) error {
	err := c.readLive(ctx, id.NamespacedName, into)
	if apierrors.IsNotFound(err) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.written[id].resourceVersion != "" {
			delete(c.written, id) // somebody deleted it, and the cache may never see it
		}
	}
	return err
}

// Metadata returns an empty object of the metadata of a kind of this package.
func Metadata(kind string) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	return m
}

// kindOf returns the kind of an object or a list with a body, "" for all others.
func kindOf(o runtime.Object) string {
	switch o.(type) {
	case *corev1.Secret, *corev1.SecretList:
		return secret
	case *corev1.ConfigMap, *corev1.ConfigMapList:
		return configMap
	default:
		return ""
	}
}

func newObject(kind string) client.Object {
	if kind == secret {
		return &corev1.Secret{}
	}
	return &corev1.ConfigMap{}
}

func setMetadata(o client.Object, m metav1.ObjectMeta) {
	switch o := o.(type) {
	case *corev1.Secret:
		o.ObjectMeta = m
	case *corev1.ConfigMap:
		o.ObjectMeta = m
	}
}

func copyInto(from, into client.Object) {
	switch from := from.(type) {
	case *corev1.Secret:
		from.DeepCopyInto(into.(*corev1.Secret))
	case *corev1.ConfigMap:
		from.DeepCopyInto(into.(*corev1.ConfigMap))
	}
}

// overhead is an upper bound of what an entry of a map has besides its key and its value.
const overhead = 64

// size returns the size of the data of an object, and of the metadata that others may
// make large.
func size(o client.Object) int {
	switch o := o.(type) {
	case *corev1.Secret:
		return sizeOf(o.Data) + sizeOf(o.Annotations) + sizeOf(o.Labels)
	case *corev1.ConfigMap:
		return sizeOf(o.Data) + sizeOf(o.BinaryData) + sizeOf(o.Annotations) + sizeOf(o.Labels)
	default:
		return 0
	}
}

func maxSizeOf(o client.Object) int {
	if kindOf(o) == configMap {
		return MaxConfigMapSize
	}
	return MaxSize
}

func sizeOf[T string | []byte](data map[string]T) int {
	total := 0
	for key, value := range data {
		total += overhead + len(key) + len(value)
	}
	return total
}
