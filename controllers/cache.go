// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// childKind is a kind of child.
type childKind struct {
	object client.Object
	list   client.ObjectList
}

// childKinds returns the kinds of children, except those of ACK.
func childKinds() []childKind {
	return []childKind{
		{&corev1.Secret{}, &corev1.SecretList{}},
		{&corev1.ConfigMap{}, &corev1.ConfigMapList{}},
		{&corev1.Service{}, &corev1.ServiceList{}},
		{&corev1.ServiceAccount{}, &corev1.ServiceAccountList{}},
		{&appsv1.Deployment{}, &appsv1.DeploymentList{}},
		{&appsv1.StatefulSet{}, &appsv1.StatefulSetList{}},
		{&appsv1.ControllerRevision{}, &appsv1.ControllerRevisionList{}},
		{&batchv1.Job{}, &batchv1.JobList{}},
		{&policyv1.PodDisruptionBudget{}, &policyv1.PodDisruptionBudgetList{}},
		{&autoscalingv2.HorizontalPodAutoscaler{}, &autoscalingv2.HorizontalPodAutoscalerList{}},
		{&networkingv1.NetworkPolicy{}, &networkingv1.NetworkPolicyList{}},
	}
}

// CacheOptions restrict the manager's cache to children of FlagCaches, and to Secrets
// whose owners allow FlagCaches to use them. No namespaces means all.
func CacheOptions(namespaces []string) cache.Options {
	managed := managed()
	allowed := labels.SelectorFromSet(labels.Set{v1alpha1.LabelAllow: v1alpha1.AllowTrue})
	byObject := map[client.Object]cache.ByObject{}
	for _, kind := range childKinds() {
		selector := managed
		if _, ok := kind.object.(*corev1.Secret); ok {
			selector = allowed
		}
		byObject[kind.object] = cache.ByObject{Label: selector}
	}
	return cache.Options{DefaultTransform: slim, DefaultNamespaces: only(namespaces), ByObject: byObject}
}

// managed selects the children of FlagCaches. The label is the operator's own: others
// that are in common use, such as LabelManagedBy, may be owned by policies of the cluster.
func managed() labels.Selector {
	named, err := labels.NewRequirement(v1alpha1.LabelName, selection.Exists, nil)
	if err != nil {
		panic(fmt.Sprintf("the name of a label is not valid: %v", err))
	}
	return labels.NewSelector().Add(*named)
}

// ACKCacheOptions restrict a cache of ACK's kinds to the children of FlagCaches. They
// are not part of CacheOptions because the manager's cache requires its kinds to
// exist.
func ACKCacheOptions(namespaces []string) cache.Options {
	return cache.Options{DefaultTransform: slim, DefaultNamespaces: only(namespaces), DefaultLabelSelector: managed()}
}

// FlagFilesCacheOptions are the options of the cache of ConfigMap versions. It is a
// separate cache, of metadata only, because any ConfigMap may hold flags and a cluster
// may have very many.
func FlagFilesCacheOptions(namespaces []string) cache.Options {
	return cache.Options{DefaultTransform: identify, DefaultNamespaces: only(namespaces)}
}

// only restricts a cache to the namespaces; none means all.
func only(namespaces []string) map[string]cache.Config {
	if len(namespaces) == 0 {
		return nil
	}
	configs := map[string]cache.Config{}
	for _, namespace := range namespaces {
		configs[namespace] = cache.Config{}
	}
	return configs
}

// slim is a cache transform. It drops what no reader needs and what may be as large as
// the rest of the object: the managed fields, and the annotation that client-side
// kubectl apply sets.
func slim(o any) (any, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return o, nil // a tombstone, whose object was transformed before
	}
	// An object may be transformed again while it is read, so write only what differs.
	if m.GetManagedFields() != nil {
		m.SetManagedFields(nil)
	}
	if annotations := m.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		delete(annotations, corev1.LastAppliedConfigAnnotation)
	}
	return o, nil
}

// identify is a cache transform. It keeps only the name and the version of an object.
func identify(o any) (any, error) {
	m, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil // a tombstone
	}
	return &metav1.PartialObjectMetadata{
		TypeMeta: m.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		},
	}, nil
}
