// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Types of conditions. ACK rebuilds all of them at each of its reconciles, so
// lastTransitionTime is when it last looked. None has an observedGeneration: after
// a change of the spec the old ones stand until ACK gets to the object.
const (
	// ConditionReady sums the others up. It is also True for a group whose creation
	// failed, and keeps its last value while an object is being deleted.
	ConditionReady = "Ready"
	// ConditionSynced says that the spec and AWS agree.
	ConditionSynced = "ACK.ResourceSynced"
	// ConditionTerminal says that AWS refused, and that ACK does not try again before
	// the spec changes.
	ConditionTerminal = "ACK.Terminal"
	// ConditionRecoverable says that AWS refused, and that ACK tries again.
	ConditionRecoverable = "ACK.Recoverable"
	// ConditionAdvisory is a word about the object that is no error.
	ConditionAdvisory = "ACK.Advisory"
	// ConditionReferencesResolved says whether the objects that the spec refers to
	// are there. While they are not, it is the only condition.
	ConditionReferencesResolved = "ACK.ReferencesResolved"
	// ConditionIAMRoleSelected says whether ACK found the role to act in.
	ConditionIAMRoleSelected = "ACK.IAMRoleSelected"
)

// Condition is ACK's.
type Condition struct {
	Type               string                 `json:"type"`
	Status             corev1.ConditionStatus `json:"status"`
	LastTransitionTime *metav1.Time           `json:"lastTransitionTime,omitempty"`
	Reason             string                 `json:"reason,omitempty"`
	Message            string                 `json:"message,omitempty"`
}

// Status is what the statuses of all kinds have in common.
type Status struct {
	// ACKResourceMetadata is what AWS calls the object; nil before it made one.
	ACKResourceMetadata *ResourceMetadata `json:"ackResourceMetadata,omitempty"`
	Conditions          []Condition       `json:"conditions,omitempty"`
}

// ResourceMetadata is what AWS calls an object.
type ResourceMetadata struct {
	ARN            string `json:"arn,omitempty"`
	OwnerAccountID string `json:"ownerAccountID,omitempty"`
	Region         string `json:"region,omitempty"`
}

// Condition of a type; ok is false where there is none.
func (s Status) Condition(kind string) (c Condition, ok bool) {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c, true
		}
	}
	return Condition{}, false
}

// Is tells whether a condition is there and True.
func (s Status) Is(kind string) bool {
	c, ok := s.Condition(kind)
	return ok && c.Status == corev1.ConditionTrue
}

// LookedAt is when ACK last wrote its conditions, zero before the first time.
func (s Status) LookedAt() metav1.Time {
	var last metav1.Time
	for _, c := range s.Conditions {
		if c.LastTransitionTime != nil && last.Before(c.LastTransitionTime) {
			last = *c.LastTransitionTime
		}
	}
	return last
}

// Object is any of the kinds.
//
// +kubebuilder:object:generate=false
type Object interface {
	metav1.Object
	// ACKStatus is what its status has in common with the others'.
	ACKStatus() Status
}
