// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

func applied() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "shop", Name: "demo", UID: "uid-1", ResourceVersion: "7",
		Labels:        map[string]string{"team": "shop"},
		Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: `{"all": "of it again"}`, "note": "kept"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
	}
}

func TestSlimDropsManagedFieldsAndAppliedConfiguration(t *testing.T) {
	got, err := slim(&corev1.Secret{ObjectMeta: applied(), Data: map[string][]byte{"host": []byte("redis")}})
	if err != nil {
		t.Fatal(err)
	}
	want := &corev1.Secret{Data: map[string][]byte{"host": []byte("redis")}, ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "demo", UID: "uid-1", ResourceVersion: "7",
		Labels: map[string]string{"team": "shop"}, Annotations: map[string]string{"note": "kept"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cached object (-want +got):\n%s", diff)
	}
}

func TestIdentifyKeepsNameAndVersion(t *testing.T) {
	got, err := identify(&metav1.PartialObjectMetadata{ObjectMeta: applied()})
	if err != nil {
		t.Fatal(err)
	}
	want := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "demo", UID: "uid-1", ResourceVersion: "7"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cached metadata (-want +got):\n%s", diff)
	}
}

// TestChildrenAreFoundWithoutCommonLabels: a policy of the cluster may own the common
// labels, and children that are not found would be created again for ever.
func TestChildrenAreFoundWithoutCommonLabels(t *testing.T) {
	child := labels.Set{v1alpha1.LabelName: "demo", v1alpha1.LabelManagedBy: "platform"}
	all := []labels.Selector{ACKCacheOptions(nil).DefaultLabelSelector}
	for kind, options := range CacheOptions(nil).ByObject {
		if _, secret := kind.(*corev1.Secret); !secret {
			all = append(all, options.Label)
		}
	}
	for _, selector := range all {
		if !selector.Matches(child) {
			t.Errorf("%q does not select a child with the labels %v", selector, child)
		}
		if selector.Matches(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}) {
			t.Errorf("%q selects an object that is not a child", selector)
		}
	}
}

func TestTransformsKeepTombstones(t *testing.T) {
	tombstone := cache.DeletedFinalStateUnknown{Key: "shop/demo"}
	for name, transform := range map[string]cache.TransformFunc{"slim": slim, "identify": identify} {
		if got, err := transform(tombstone); got != any(tombstone) || err != nil {
			t.Errorf("%s returned %v, %v for a tombstone", name, got, err)
		}
	}
}
