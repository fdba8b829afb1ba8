// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// Inventory maps every object of a namespace, as KIND/NAME, to its resource version. It
// excludes Events, which expire, and the objects that Kubernetes creates in each
// namespace, which may appear at any time after the namespace.
type Inventory map[string]string

// inEveryNamespace are the objects that Kubernetes creates in each namespace.
var inEveryNamespace = []string{"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}

// Inventory lists the objects of all API resources in a namespace.
func (c *Cluster) Inventory(ctx context.Context, namespace string) (Inventory, error) {
	resources, err := c.listable()
	if err != nil {
		return nil, err
	}
	client, err := metadata.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("creating a metadata client: %w", err)
	}
	inventory := Inventory{}
	for resource, kind := range resources {
		list, err := client.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue // the resource was just added or removed
		}
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", resource.Resource, err)
		}
		for _, o := range list.Items {
			if name := kind + "/" + o.Name; !slices.Contains(inEveryNamespace, name) {
				inventory[name] = o.ResourceVersion
			}
		}
	}
	return inventory, nil
}

// listable returns the namespaced resources that can be listed, with their kinds.
func (c *Cluster) listable() (map[schema.GroupVersionResource]string, error) {
	client, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("creating a discovery client: %w", err)
	}
	lists, err := client.ServerPreferredNamespacedResources()
	if err != nil {
		return nil, fmt.Errorf("discovering API resources: %w", err)
	}
	resources := map[schema.GroupVersionResource]string{}
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("parsing API resources: %w", err)
		}
		for _, r := range list.APIResources {
			if r.Kind != "Event" && slices.Contains(r.Verbs, "list") && !strings.Contains(r.Name, "/") {
				resources[group.WithResource(r.Name)] = r.Kind
			}
		}
	}
	return resources, nil
}

// NotIn returns the objects that are not in an earlier inventory, sorted.
func (i Inventory) NotIn(earlier Inventory) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(i)) {
		if _, ok := earlier[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}
