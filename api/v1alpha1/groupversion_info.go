// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 defines the FlagCache resource: its spec, its status, its
// conditions with their reasons, and its validation by the API server. It has no
// logic.
//
// +kubebuilder:object:generate=true
// +groupName=flagcache.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of the types in this package.
	GroupVersion = schema.GroupVersion{Group: "flagcache.dev", Version: "v1alpha1"}

	// SchemeBuilder registers the types of this package.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the types of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &FlagCache{}, &FlagCacheList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
