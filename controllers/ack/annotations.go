// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

// Annotations by which ACK is told how to treat an object.
const (
	// AnnotationRegion is the AWS region of the object. Default: the controller's.
	AnnotationRegion = "services.k8s.aws/region"
	// AnnotationDeletionPolicy says with DeletionRetain that what AWS has stays when
	// the object goes.
	AnnotationDeletionPolicy = "services.k8s.aws/deletion-policy"
	// AnnotationAdoptionPolicy says with AdoptOrCreate that what AWS already has
	// under the ID is taken over.
	AnnotationAdoptionPolicy = "services.k8s.aws/adoption-policy"
	// AnnotationAdoptionFields is the ID of what is adopted, as JSON.
	AnnotationAdoptionFields = "services.k8s.aws/adoption-fields"
)

// Values of annotations.
const (
	DeletionRetain = "retain"
	AdoptOrCreate  = "adopt-or-create"
)
