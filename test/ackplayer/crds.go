// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/controllers/ack"
)

//go:embed schemas.yaml
var schemas []byte

// installLimit bounds the time until an API server serves a new kind, or has removed
// one.
const installLimit = 30 * time.Second

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// CRDs returns the definitions of all simulated kinds.
func CRDs() ([]*unstructured.Unstructured, error) {
	specs := map[string]any{}
	if err := yaml.Unmarshal(schemas, &specs); err != nil {
		return nil, fmt.Errorf("reading the schemas: %w", err)
	}
	var crds []*unstructured.Unstructured
	for _, k := range ack.Kinds() {
		crds = append(crds, crd(k, specs[k.Kind]))
	}
	return crds, nil
}

func crd(k ack.Kind, spec any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{
			"group": k.Group,
			"scope": "Namespaced",
			"names": map[string]any{
				"kind": k.Kind, "listKind": k.Kind + "List",
				"plural": k.Resource, "singular": strings.ToLower(k.Kind),
			},
			"versions": []any{map[string]any{
				"name": k.Version, "served": true, "storage": true,
				"subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object",
					"properties": map[string]any{
						"spec":   spec,
						"status": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
					},
				}},
			}},
		},
	}}
	u.SetGroupVersionKind(crdKind)
	u.SetName(k.CRD())
	return u
}

// InstallCRDs installs the CRDs of the simulated kinds and waits until the API server
// serves them.
func InstallCRDs(ctx context.Context, c client.Client) error {
	crds, err := CRDs()
	if err != nil {
		return err
	}
	for _, u := range crds {
		apply := client.ApplyConfigurationFromUnstructured(u)
		if err := c.Apply(ctx, apply, client.FieldOwner("ackplayer"), client.ForceOwnership); err != nil {
			return fmt.Errorf("installing %s: %w", u.GetName(), err)
		}
	}
	for _, k := range ack.Kinds() {
		if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, installLimit, true, served(c, k)); err != nil {
			return fmt.Errorf("waiting until %s is served: %w", k.CRD(), err)
		}
	}
	return nil
}

// served reports whether objects of a kind can be listed.
func served(c client.Client, k ack.Kind) wait.ConditionWithContextFunc {
	return func(ctx context.Context) (bool, error) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(k.GroupVersion().WithKind(k.Kind + "List"))
		return c.List(ctx, list, client.Limit(1)) == nil, nil
	}
}

// RemoveCRDs removes the CRDs together with all their objects and waits until they are
// removed. Objects with a finalizer need a running player that removes it.
func RemoveCRDs(ctx context.Context, c client.Client) error {
	var errs error
	for _, k := range ack.Kinds() {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(crdKind)
		u.SetName(k.CRD())
		if err := client.IgnoreNotFound(c.Delete(ctx, u)); err != nil {
			errs = errors.Join(errs, fmt.Errorf("removing %s: %w", k.CRD(), err))
			continue
		}
		removed := func(ctx context.Context) (bool, error) {
			return apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(u), u)), nil
		}
		if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, installLimit, true, removed); err != nil {
			errs = errors.Join(errs, fmt.Errorf("waiting until %s is removed: %w", k.CRD(), err))
		}
	}
	return errs
}
