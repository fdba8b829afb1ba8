// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package bodies

import (
	"context"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Create implements client.Writer.
func (c *Client) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	if kindOf(o) == "" {
		return c.Client.Create(ctx, o, options...)
	}
	return c.remember(o, c.Client.Create(ctx, o, append(options, client.DisableReadYourWritesConsistency)...))
}

// Patch implements client.Writer.
func (c *Client) Patch(ctx context.Context, o client.Object, patch client.Patch, options ...client.PatchOption) error {
	if kindOf(o) == "" {
		return c.Client.Patch(ctx, o, patch, options...)
	}
	return c.remember(o, c.Client.Patch(ctx, o, patch, append(options, client.DisableReadYourWritesConsistency)...))
}

// Delete implements client.Writer.
func (c *Client) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	kind := kindOf(o)
	if kind == "" {
		return c.Client.Delete(ctx, o, options...)
	}
	if err := c.Client.Delete(ctx, o, append(options, client.DisableReadYourWritesConsistency)...); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[object{kind, client.ObjectKeyFromObject(o)}] = write{uid: o.GetUID()}
	return nil
}

// remember remembers a write that succeeded, and keeps what was written.
func (c *Client) remember(o client.Object, err error) error {
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.written[object{kindOf(o), client.ObjectKeyFromObject(o)}] = write{uid: o.GetUID(), resourceVersion: o.GetResourceVersion(), labels: maps.Clone(o.GetLabels())}
	c.mu.Unlock()
	if size := size(o); size <= MaxSize {
		body := o.DeepCopyObject().(client.Object)
		body.SetManagedFields(nil)
		c.kept.put(body, size)
	}
	return nil
}

// isBehind reports whether the cache, which has the metadata m of an object or nil, lacks
// the last write of it.
func (c *Client) isBehind(id object, m *metav1.PartialObjectMetadata) bool {
	_, behind := c.lastWrite(id, m)
	return behind
}

// lastWrite returns the last write of an object if the cache, which has its metadata m or
// nil, lacks it. Else it forgets the write.
func (c *Client) lastWrite(id object, m *metav1.PartialObjectMetadata) (write, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.written[id]
	switch {
	case !ok:
		return write{}, false
	case last.resourceVersion == "" && m != nil && m.UID == last.uid:
		return last, true
	case last.resourceVersion != "" && (m == nil || !reached(m.ResourceVersion, last.resourceVersion)):
		return last, true
	default:
		delete(c.written, id)
		return write{}, false
	}
}

// reached reports whether a version of an object, or of its predecessor, is at least that
// of a write.
func reached(seen, written string) bool {
	order, err := resourceversion.CompareResourceVersion(seen, written)
	return err == nil && order >= 0
}

// unlisted returns the objects in a namespace that were written and that a list lacks.
func (c *Client) unlisted(kind, namespace string, listed map[object]bool) []object {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []object
	for id := range c.written {
		if id.kind == kind && id.Namespace == namespace && !listed[id] {
			missing = append(missing, id)
		}
	}
	return missing
}
