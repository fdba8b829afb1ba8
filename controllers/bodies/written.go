// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package bodies

import (
	"context"

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
	c.written[object{kindOf(o), client.ObjectKeyFromObject(o)}] = write{uid: o.GetUID(), resourceVersion: o.GetResourceVersion()}
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
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.written[id]
	switch {
	case !ok:
		return false
	case last.resourceVersion == "" && m != nil && m.UID == last.uid:
		return true
	case last.resourceVersion != "" && (m == nil || !reached(m.ResourceVersion, last.resourceVersion)):
		return true
	default:
		delete(c.written, id)
		return false
	}
}

// reached reports whether a version of an object, or of its predecessor, is at least that
// of a write.
func reached(seen, written string) bool {
	order, err := resourceversion.CompareResourceVersion(seen, written)
	return err == nil && order >= 0
}

// unlisted returns the objects in a namespace that were written and that the cache lacks.
func (c *Client) unlisted(kind, namespace string, listed map[object]bool) []object {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []object
	for id, last := range c.written {
		switch {
		case id.kind != kind || id.Namespace != namespace || listed[id]:
		case last.resourceVersion == "":
			delete(c.written, id) // the cache has the deletion
		default:
			missing = append(missing, id)
		}
	}
	return missing
}
