// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

// Annotations that configure how ACK handles an object.
const (
	// AnnotationRegion is the AWS region of the object. Default: the controller's.
	AnnotationRegion = "services.k8s.aws/region"
	// AnnotationDeletionPolicy with DeletionRetain keeps the AWS resource when the object
	// is deleted.
	AnnotationDeletionPolicy = "services.k8s.aws/deletion-policy"
	// AnnotationAdoptionPolicy with AdoptOrCreate adopts an existing AWS resource with the
	// ID.
	AnnotationAdoptionPolicy = "services.k8s.aws/adoption-policy"
	// AnnotationAdoptionFields is the ID of the resource to adopt, as JSON.
	AnnotationAdoptionFields = "services.k8s.aws/adoption-fields"
)

// Values of annotations.
const (
	DeletionRetain = "retain"
	AdoptOrCreate  = "adopt-or-create"
)
