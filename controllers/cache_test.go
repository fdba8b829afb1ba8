// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	cacheoptions "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
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
	long := strings.Repeat("x", 1000)
	ours := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "FlagCache", Name: "demo", UID: "uid-0", Controller: ptr.To(true)}
	theirs := metav1.OwnerReference{APIVersion: long, Kind: long, Name: long, UID: types.UID(long)}
	controlling := theirs
	controlling.Controller = ptr.To(true)
	tests := map[string]struct{ owners, want []metav1.OwnerReference }{
		"of nobody":               {},
		"of a FlagCache":          {[]metav1.OwnerReference{theirs, ours}, []metav1.OwnerReference{ours}},
		"of somebody":             {[]metav1.OwnerReference{theirs}, []metav1.OwnerReference{{Kind: "Foreign"}}},
		"controlled by something": {[]metav1.OwnerReference{controlling}, []metav1.OwnerReference{{Kind: "Foreign", Controller: ptr.To(true)}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := &metav1.PartialObjectMetadata{ObjectMeta: applied()}
			o.OwnerReferences = test.owners
			o.Labels[v1alpha1.LabelName], o.Labels[v1alpha1.LabelAllow] = "demo", v1alpha1.AllowTrue
			got, err := identify(o)
			if err != nil {
				t.Fatal(err)
			}
			want := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "demo", UID: "uid-1", ResourceVersion: "7", OwnerReferences: test.want,
				Labels: map[string]string{v1alpha1.LabelName: "demo", v1alpha1.LabelAllow: v1alpha1.AllowTrue},
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("cached metadata (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSlimFlagCacheKeepsRequestsOnly(t *testing.T) {
	fc := &v1alpha1.FlagCache{ObjectMeta: applied()}
	requests := map[string]string{v1alpha1.AnnotationReconcileAt: "now"}
	for _, key := range v1alpha1.RequestAnnotations() {
		requests[key] = "3f2a91c0"
	}
	maps.Copy(fc.Annotations, requests)
	// One that config/admission does not know has no effect.
	fc.Annotations["flagcache.dev/other"] = "3f2a91c0"
	shared, size := fc.Annotations, len(fc.Annotations)
	got, err := slimFlagCache(fc)
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "demo", UID: "uid-1", ResourceVersion: "7", Annotations: requests,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cached object (-want +got):\n%s", diff)
	}
	if len(shared) != size {
		t.Errorf("the transform changed annotations that a reader may hold: %v", shared)
	}
	// The comparison of the cached object with that of the API server must not fail for ever.
	fc.Annotations = shared
	if live, cached := requestsOf(fc), requestsOf(got.(*v1alpha1.FlagCache)); !maps.Equal(live, cached) {
		t.Errorf("the API server has the requests %v, and the cache has %v", live, cached)
	}
}

// TestSlimChildKeepsChildrenOnly: anybody can put the label of children on a large object.
func TestSlimChildKeepsChildrenOnly(t *testing.T) {
	owner := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "FlagCache", Name: "demo", UID: "uid-0", Controller: ptr.To(true)}
	tests := map[string]struct {
		owners      []metav1.OwnerReference
		annotations map[string]string
		keeps       bool
	}{
		"a child":                   {owners: []metav1.OwnerReference{owner}, keeps: true},
		"one that a FlagCache left": {annotations: map[string]string{v1alpha1.AnnotationApplied: "hash"}, keeps: true},
		"an object of nobody":       {},
		"an object of something":    {owners: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "x", Controller: ptr.To(true)}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := &appsv1.Deployment{ObjectMeta: applied(), Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](3)}}
			o.OwnerReferences, o.Labels = test.owners, map[string]string{v1alpha1.LabelName: "demo"}
			maps.Copy(o.Annotations, test.annotations)
			got, err := slimChild(o)
			if err != nil {
				t.Fatal(err)
			}
			d := got.(*appsv1.Deployment)
			if keeps := d.Spec.Replicas != nil; keeps != test.keeps {
				t.Errorf("the spec is kept: %t, not %t", keeps, test.keeps)
			}
			if d.Name != "demo" || d.ResourceVersion != "7" || d.Labels[v1alpha1.LabelName] != "demo" {
				t.Errorf("the object is not identified by %v", d.ObjectMeta)
			}
		})
	}
}

// TestLargeChildrenAreNotKept: whoever may write a child can make it large, and only its name is
// then used.
func TestLargeChildrenAreNotKept(t *testing.T) {
	owner := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "FlagCache", Name: "demo", UID: "uid-0", Controller: ptr.To(true)}
	tests := map[string]struct {
		large client.Object
		keeps bool
	}{
		"small variables": {&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Env: slices.Repeat([]corev1.EnvVar{{Name: "a"}}, maxChild/5)}},
		}}}}, false},
		"as large as it may be": {&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Env: []corev1.EnvVar{{Value: strings.Repeat("x", maxChild-1000)}}}},
		}}}}, true},
		"an object of ACK":      {&ack.User{Spec: ack.UserSpec{AccessString: ptr.To(strings.Repeat("x", maxACKChild))}}, false},
		"another object of ACK": {&ack.User{Spec: ack.UserSpec{AccessString: ptr.To(strings.Repeat("x", maxACKChild-1000))}}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.large.SetName("demo")
			test.large.SetLabels(map[string]string{v1alpha1.LabelName: "demo"})
			test.large.SetOwnerReferences([]metav1.OwnerReference{owner})
			got, err := slimChild(test.large)
			if err != nil {
				t.Fatal(err)
			}
			kept := got.(client.Object)
			if keeps := storedSize(kept) > 1000; keeps != test.keeps || (flagCacheOf(kept) == "demo") != test.keeps || kept.GetName() != "demo" {
				t.Errorf("%d bytes are kept of %s, whose owner is %v", storedSize(kept), kept.GetName(), kept.GetOwnerReferences())
			}
		})
	}
}

// TestChildrenAreFoundWithoutCommonLabels: a policy of the cluster may own the common
// labels, and children that are not found would be created again for ever.
func TestChildrenAreFoundWithoutCommonLabels(t *testing.T) {
	child := labels.Set{v1alpha1.LabelName: "demo", v1alpha1.LabelManagedBy: "platform"}
	all := []labels.Selector{ACKCacheOptions(nil).DefaultLabelSelector}
	for kind, options := range CacheOptions(nil).ByObject {
		switch kind.(type) {
		case *corev1.ConfigMap, *v1alpha1.FlagCache:
		default:
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

// TestSecretsOfOthersNeedConsent: the label of children is not consent, and consent makes
// no child.
func TestSecretsOfOthersNeedConsent(t *testing.T) {
	secrets := func(options cacheoptions.Options) labels.Selector {
		for kind, o := range options.ByObject {
			if _, ok := kind.(*corev1.Secret); ok {
				return o.Label
			}
		}
		return labels.Nothing()
	}
	child := labels.Set(observed.ChildMeta(&v1alpha1.FlagCache{ObjectMeta: applied()}, "demo-redis", v1alpha1.ComponentCache).Labels)
	old := labels.Merge(child, labels.Set{v1alpha1.LabelAllow: v1alpha1.AllowTrue})
	for name, test := range map[string]struct {
		labels         labels.Set
		child, allowed bool
	}{
		"a child":                     {child, true, false},
		"a child of an older release": {old, true, true},
		"one with consent":            {labels.Set{v1alpha1.LabelAllow: v1alpha1.AllowTrue}, false, true},
		"one without consent":         {labels.Set{v1alpha1.LabelAllow: "false"}, false, false},
	} {
		if got := secrets(CacheOptions(nil)).Matches(test.labels); got != test.child {
			t.Errorf("%s is cached as a child: %t", name, got)
		}
		if got := secrets(AllowedCacheOptions(nil)).Matches(test.labels); got != test.allowed {
			t.Errorf("%s is cached as one of others: %t", name, got)
		}
	}
}

func TestTransformsKeepTombstones(t *testing.T) {
	tombstone := cache.DeletedFinalStateUnknown{Key: "shop/demo"}
	for name, transform := range map[string]cache.TransformFunc{"slim": slim, "slimFlagCache": slimFlagCache, "slimChild": slimChild, "identify": identify} {
		if got, err := transform(tombstone); got != any(tombstone) || err != nil {
			t.Errorf("%s returned %v, %v for a tombstone", name, got, err)
		}
	}
}
