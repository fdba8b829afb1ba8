// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcrds

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// definitions is the kind of CRDs.
var definitions = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

const (
	// limit bounds the time until an API server serves a kind, or has removed one.
	limit = 30 * time.Second
	// interval between two checks.
	interval = 50 * time.Millisecond
)

// Install installs all CRDs, or updates them, and waits until the API server serves them.
func Install(ctx context.Context, c client.Client) error {
	crds, err := All(ctx)
	if err != nil {
		return err
	}
	for _, crd := range crds {
		apply := client.ApplyConfigurationFromUnstructured(crd)
		if err := c.Apply(ctx, apply, client.FieldOwner("ackcrds"), client.ForceOwnership); err != nil {
			return fmt.Errorf("installing %s: %w", crd.GetName(), err)
		}
	}
	for _, crd := range crds {
		if err := wait.PollUntilContextTimeout(ctx, interval, limit, true, served(c, crd)); err != nil {
			return fmt.Errorf("waiting until %s is served: %w", crd.GetName(), err)
		}
	}
	return nil
}

// served reports whether objects of the kind that a CRD defines can be listed.
func served(c client.Client, crd *unstructured.Unstructured) wait.ConditionWithContextFunc {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "listKind")
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1alpha1", Kind: kind})
	return func(ctx context.Context) (bool, error) {
		return c.List(ctx, list, client.Limit(1)) == nil, nil
	}
}

// Remove removes all CRDs together with their objects and waits until they are removed.
// Objects with a finalizer need a running controller that removes it.
func Remove(ctx context.Context, c client.Client) error {
	crds, err := All(ctx)
	if err != nil {
		return err
	}
	var errs error
	for _, crd := range crds {
		if err := client.IgnoreNotFound(c.Delete(ctx, crd)); err != nil {
			errs = errors.Join(errs, fmt.Errorf("removing %s: %w", crd.GetName(), err))
			continue
		}
		removed := func(ctx context.Context) (bool, error) {
			return apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(crd), crd)), nil
		}
		if err := wait.PollUntilContextTimeout(ctx, interval, limit, true, removed); err != nil {
			errs = errors.Join(errs, fmt.Errorf("waiting until %s is removed: %w", crd.GetName(), err))
		}
	}
	return errs
}
