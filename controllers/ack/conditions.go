// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	"slices"

	core "github.com/aws-controllers-k8s/runtime/apis/core/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Types of conditions. ACK rebuilds all of them in every reconcile, so lastTransitionTime
// is the time of its last sync. None has an observedGeneration: after a change of the
// spec the old conditions remain until ACK reconciles the object.
const (
	// ConditionReady summarizes the other conditions. It is True even for a group whose
	// creation failed, and keeps its last value while an object is being deleted.
	ConditionReady = core.ConditionTypeReady
	// ConditionSynced is True if the AWS resource matches the spec.
	ConditionSynced = core.ConditionTypeResourceSynced
	// ConditionTerminal is True if AWS rejected the request and ACK does not retry until
	// the spec changes.
	ConditionTerminal = core.ConditionTypeTerminal
	// ConditionRecoverable is True if AWS rejected the request and ACK retries.
	ConditionRecoverable = core.ConditionTypeRecoverable
	// ConditionAdvisory is information about the object that is not an error.
	ConditionAdvisory = core.ConditionTypeAdvisory
	// ConditionReferencesResolved is True if the objects that the spec refers to exist.
	// While they do not, it is the only condition.
	ConditionReferencesResolved = core.ConditionTypeReferencesResolved
	// ConditionIAMRoleSelected is True if ACK found the IAM role to use.
	ConditionIAMRoleSelected = core.ConditionTypeIAMRoleSelected
)

// Conditions are all conditions of an object.
type Conditions []*Condition

// ConditionsOf returns the conditions of an object of any of the kinds; none of another
// object.
func ConditionsOf(o runtime.Object) Conditions {
	switch o := o.(type) {
	case *ReplicationGroup:
		return o.Status.Conditions
	case *CacheSubnetGroup:
		return o.Status.Conditions
	case *CacheParameterGroup:
		return o.Status.Conditions
	case *User:
		return o.Status.Conditions
	case *UserGroup:
		return o.Status.Conditions
	case *Snapshot:
		return o.Status.Conditions
	case *SecurityGroup:
		return o.Status.Conditions
	case *MetricAlarm:
		return o.Status.Conditions
	default:
		return nil
	}
}

// Get returns the condition of a type, nil if there is none.
func (c Conditions) Get(kind ConditionType) *Condition {
	i := slices.IndexFunc(c, func(c *Condition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return c[i]
}

// Is reports whether the condition of a type is True.
func (c Conditions) Is(kind ConditionType) bool {
	found := c.Get(kind)
	return found != nil && found.Status == corev1.ConditionTrue
}

// LastSyncTime returns when ACK last wrote the conditions, zero if it never did.
func (c Conditions) LastSyncTime() metav1.Time {
	var last metav1.Time
	for _, condition := range c {
		if at := condition.LastTransitionTime; at != nil && last.Before(at) {
			last = *at
		}
	}
	return last
}
