// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Types of conditions. ACK rebuilds all of them in every reconcile, so lastTransitionTime
// is the time of its last sync. None has an observedGeneration: after a change of the
// spec the old conditions remain until ACK reconciles the object.
const (
	// ConditionReady summarizes the other conditions. It is True even for a group whose
	// creation failed, and keeps its last value while an object is being deleted.
	ConditionReady = "Ready"
	// ConditionSynced is True if the AWS resource matches the spec.
	ConditionSynced = "ACK.ResourceSynced"
	// ConditionTerminal is True if AWS rejected the request and ACK does not retry until
	// the spec changes.
	ConditionTerminal = "ACK.Terminal"
	// ConditionRecoverable is True if AWS rejected the request and ACK retries.
	ConditionRecoverable = "ACK.Recoverable"
	// ConditionAdvisory is information about the object that is not an error.
	ConditionAdvisory = "ACK.Advisory"
	// ConditionReferencesResolved is True if the objects that the spec refers to exist.
	// While they do not, it is the only condition.
	ConditionReferencesResolved = "ACK.ReferencesResolved"
	// ConditionIAMRoleSelected is True if ACK found the IAM role to use.
	ConditionIAMRoleSelected = "ACK.IAMRoleSelected"
)

// Condition is a condition of an ACK object.
type Condition struct {
	Type               string                 `json:"type"`
	Status             corev1.ConditionStatus `json:"status"`
	LastTransitionTime *metav1.Time           `json:"lastTransitionTime,omitempty"`
	Reason             string                 `json:"reason,omitempty"`
	Message            string                 `json:"message,omitempty"`
}

// Status is the common part of the statuses of all kinds.
type Status struct {
	// ACKResourceMetadata identifies the AWS resource, nil before it is created.
	ACKResourceMetadata *ResourceMetadata `json:"ackResourceMetadata,omitempty"`
	Conditions          []Condition       `json:"conditions,omitempty"`
}

// ResourceMetadata identifies an AWS resource.
type ResourceMetadata struct {
	ARN            string `json:"arn,omitempty"`
	OwnerAccountID string `json:"ownerAccountID,omitempty"`
	Region         string `json:"region,omitempty"`
}

// Condition returns the condition of a type; ok is false if there is none.
func (s Status) Condition(kind string) (c Condition, ok bool) {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c, true
		}
	}
	return Condition{}, false
}

// Is reports whether the condition of a type is True.
func (s Status) Is(kind string) bool {
	c, ok := s.Condition(kind)
	return ok && c.Status == corev1.ConditionTrue
}

// LastSyncTime returns when ACK last wrote the conditions, zero if it never did.
func (s Status) LastSyncTime() metav1.Time {
	var last metav1.Time
	for _, c := range s.Conditions {
		if c.LastTransitionTime != nil && last.Before(c.LastTransitionTime) {
			last = *c.LastTransitionTime
		}
	}
	return last
}

// Object is an object of any of the kinds.
//
// +kubebuilder:object:generate=false
type Object interface {
	metav1.Object
	// ACKStatus returns the common part of the status.
	ACKStatus() Status
}
