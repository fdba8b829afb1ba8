// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import core "github.com/aws-controllers-k8s/runtime/apis/core/v1alpha1"

// Annotations that configure how ACK handles an object.
const (
	// AnnotationRegion is the AWS region of the object. Default: the controller's.
	AnnotationRegion = core.AnnotationRegion
	// AnnotationDeletionPolicy with DeletionRetain keeps the AWS resource when the object
	// is deleted.
	AnnotationDeletionPolicy = core.AnnotationDeletionPolicy
	// AnnotationAdoptionPolicy with AdoptOrCreate adopts an existing AWS resource with the
	// ID. With Adopt, ACK also writes the resource into the spec.
	AnnotationAdoptionPolicy = core.AnnotationAdoptionPolicy
	// AnnotationAdoptionFields is the ID of the resource to adopt, as JSON.
	AnnotationAdoptionFields = core.AnnotationAdoptionFields
	// AnnotationAdopted is ACK's mark of an object whose resource it adopted.
	AnnotationAdopted = core.AnnotationAdopted
	// AnnotationReadOnly with the value true has ACK read the resource and neither change
	// nor delete it.
	AnnotationReadOnly = core.AnnotationReadOnly
	// AnnotationLastNodeType is the node type that ACK last requested of AWS. ACK does not
	// request the same one again, even if AWS rolled it back. It is written by ACK, and
	// declared in a part of the elasticache-controller that depends on the SDK of AWS.
	AnnotationLastNodeType = "elasticache.services.k8s.aws/last-requested-cache-node-type"
)

// Values of annotations.
const (
	DeletionRetain = string(core.DeletionPolicyRetain)
	// Adopt and AdoptOrCreate are declared in the part of ACK's runtime that depends on the
	// SDK of AWS.
	Adopt         = "adopt"
	AdoptOrCreate = "adopt-or-create"
)
