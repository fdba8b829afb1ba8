// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan"
)

// Client is another client for all but ACK's kinds, and for those the client of
// the kind while the cluster has it.
func (k *ACKKinds) Client(others client.Client) client.Client {
	return ackClient{Client: others, kinds: k}
}

// ackClient sorts the calls that the operator makes by the kind that they are
// about.
type ackClient struct {
	client.Client
	kinds *ACKKinds
}

// of is the client of an object's or a list's kind. It is a NoKindMatchError where
// the cluster has no such kind.
func (c ackClient) of(o runtime.Object) (client.Client, error) {
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
	watched := c.kinds.lookUp(gvk.Kind)
	if watched == nil {
		return nil, noKind(gvk)
	}
	return watched.client, nil
}

func noKind(gvk schema.GroupVersionKind) error {
	return &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}}
}

// Get implements client.Reader.
func (c ackClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	to, err := c.of(o)
	if err != nil {
		return err
	}
	return to.Get(ctx, key, o, options...)
}

// List implements client.Reader.
func (c ackClient) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	to, err := c.of(list)
	if err != nil {
		return err
	}
	return to.List(ctx, list, options...)
}

// Create implements client.Writer.
func (c ackClient) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	to, err := c.of(o)
	if err != nil {
		return err
	}
	return to.Create(ctx, o, options...)
}

// Patch implements client.Writer.
func (c ackClient) Patch(ctx context.Context, o client.Object, patch client.Patch, options ...client.PatchOption) error {
	to, err := c.of(o)
	if err != nil {
		return err
	}
	return to.Patch(ctx, o, patch, options...)
}

// Delete implements client.Writer.
func (c ackClient) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	to, err := c.of(o)
	if err != nil {
		return err
	}
	return to.Delete(ctx, o, options...)
}

// observeACK reads which of ACK's kinds there are, and the children of those. A
// kind that cannot be read fails the look of a FlagCache whose plan rests on it;
// to all others it is as good as missing, so that trouble with the cloud holds
// back nothing of theirs.
func (r *Reconciler) observeACK(ctx context.Context, seen *plan.Snapshot) error {
	if r.ACK == nil {
		return nil
	}
	installed, err := r.ACK.Installed(ctx)
	if err != nil {
		return readError{"asking which kinds of ACK the cluster has", err}
	}
	ctx, cancel := context.WithTimeout(ctx, ackPatience)
	defer cancel()
	for _, kind := range ack.Kinds() {
		if !installed[kind.Kind] {
			continue
		}
		children, err := r.childrenOf(ctx, seen.FlagCache, childKind{kind.New(), kind.NewList()})
		switch {
		case err == nil:
			seen.Children = append(seen.Children, children...)
		case meta.IsNoMatchError(err), !restsOnACK(seen.FlagCache):
			installed[kind.Kind] = false
		default:
			return err
		}
	}
	seen.ACK = installed
	return nil
}

// restsOnACK tells whether a look must know all that there is of ACK's kinds: what
// runs in the cloud, and what is to be deleted before the FlagCache goes.
func restsOnACK(fc *v1alpha1.FlagCache) bool {
	return fc.Spec.Cache.Type == v1alpha1.CacheElastiCache || !fc.DeletionTimestamp.IsZero()
}
