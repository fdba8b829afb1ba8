// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackkinds

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Client returns a client that uses the client of the kind for ACK's kinds and
// others for all other kinds.
func (k *Kinds) Client(others client.Client) client.Client {
	return router{Client: others, kinds: k}
}

// router is a client that routes the calls that the operator makes by kind.
type router struct {
	client.Client
	kinds *Kinds
}

// of returns the client of an object's or a list's kind, and a NoKindMatchError if
// the cluster does not serve the kind.
func (c router) of(o runtime.Object) (client.Client, error) {
	gvk, err := c.GroupVersionKindFor(o)
	if err != nil {
		return nil, err
	}
	switch gvk.GroupVersion() {
	case ack.ElastiCache, ack.EC2, ack.CloudWatch:
	default:
		return c.Client, nil
	}
	gvk.Kind = strings.TrimSuffix(gvk.Kind, "List")
	watched := c.kinds.get(gvk.Kind)
	if watched == nil {
		return nil, noKind(gvk)
	}
	return watched.client, nil
}

func noKind(gvk schema.GroupVersionKind) error {
	return &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}}
}

// Get implements client.Reader.
func (c router) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	to, err := c.of(o)
	if err != nil {
		return err
	}
	return to.Get(ctx, key, o, options...)
}

// List implements client.Reader.
func (c router) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	to, err := c.of(list)
	if err != nil {
		return err
	}
	return to.List(ctx, list, options...)
}

// Create implements client.Writer.
func (c router) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	to, err := c.of(o)
	if err != nil {
		return err
	}
	return to.Create(ctx, o, options...)
}

// Patch implements client.Writer.
func (c router) Patch(ctx context.Context, o client.Object, patch client.Patch, options ...client.PatchOption) error {
	to, err := c.of(o)
	if err != nil {
		return err
	}
	return to.Patch(ctx, o, patch, options...)
}

// Delete implements client.Writer.
func (c router) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	to, err := c.of(o)
	if err != nil {
		return err
	}
	return to.Delete(ctx, o, options...)
}
