// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/controllers/ack"
)

// conditionLateInitialized is True once ACK has written AWS's defaults into the spec.
const conditionLateInitialized ack.ConditionType = "ACK.LateInitialized"

// ACK's messages and reasons, verbatim.
const (
	messageSynced        = "Resource synced successfully"
	messageNotSynced     = "Resource not synced"
	messageUnknown       = "Unable to determine if desired resource state matches latest observed state"
	reasonTerminal       = "resource is in terminal condition"
	messageAlreadyExists = "Resource already exists"
	reasonAlreadyExists  = "This resource already exists but is not managed by ACK. To bring the resource under ACK management, you should explicitly adopt the resource by enabling the ResourceAdoption feature gate and populating the `services.k8s.aws/adoption-policy` and `services.k8s.aws/adoption-fields` annotations."
	messageDeleting      = "Delete is in progress."
	messageModifying     = "Modify is in progress."
	messageNotModifiable = "Replication Group can not be modified, it is not in 'available' state."
	messageTagsUpdating  = "tags Update is in progress"
)

// condition builds a condition as ACK does on each reconcile: with the current time,
// to the second, whether or not the status changed.
func condition(kind ack.ConditionType, status corev1.ConditionStatus, reason, message string) *ack.Condition {
	now := metav1.Now().Rfc3339Copy()
	c := &ack.Condition{Type: kind, Status: status, LastTransitionTime: &now}
	if reason != "" {
		c.Reason = &reason
	}
	if message != "" {
		c.Message = &message
	}
	return c
}

// syncedConditions are those of an object that matches AWS. A group whose creation
// failed gets them too, with ACK.Terminal=False in addition.
func syncedConditions(failed bool) ack.Conditions {
	conditions := ack.Conditions{condition(ack.ConditionSynced, corev1.ConditionTrue, "", messageSynced)}
	if failed {
		conditions = append(conditions, condition(ack.ConditionTerminal, corev1.ConditionFalse, "", ""))
	}
	return append(conditions,
		condition(conditionLateInitialized, corev1.ConditionTrue, "Late initialization successful", "Late initialization successful"),
		condition(ack.ConditionReady, corev1.ConditionTrue, "", messageSynced))
}

// notSyncedConditions are those of an object that AWS is changing, or was at the
// previous reconcile.
func notSyncedConditions(message string) ack.Conditions {
	return ack.Conditions{
		condition(ack.ConditionSynced, corev1.ConditionFalse, "", message),
		condition(conditionLateInitialized, corev1.ConditionTrue, "Late initialization successful", "Late initialization successful"),
		condition(ack.ConditionReady, corev1.ConditionFalse, "", message),
	}
}

// errorConditions are those of an object whose reconcile failed. If the object exists
// in AWS, ACK reports it as synced nonetheless.
func errorConditions(message string, terminal, exists bool) ack.Conditions {
	trouble, synced := condition(ack.ConditionRecoverable, corev1.ConditionTrue, "", message), condition(ack.ConditionSynced, corev1.ConditionUnknown, message, messageUnknown)
	if terminal {
		trouble.Type = ack.ConditionTerminal
		synced = condition(ack.ConditionSynced, corev1.ConditionFalse, reasonTerminal, messageNotSynced)
	}
	if exists {
		synced = condition(ack.ConditionSynced, corev1.ConditionTrue, "", messageSynced)
	}
	return ack.Conditions{trouble, synced, condition(ack.ConditionReady, corev1.ConditionFalse, string(trouble.Type), message)}
}

// alreadyExistsConditions are those of an object whose ID is taken in AWS by a
// resource that ACK does not manage.
func alreadyExistsConditions() ack.Conditions {
	return ack.Conditions{
		condition(ack.ConditionTerminal, corev1.ConditionTrue, reasonAlreadyExists, messageAlreadyExists),
		condition(ack.ConditionSynced, corev1.ConditionTrue, "", messageSynced),
		condition(ack.ConditionReady, corev1.ConditionFalse, string(ack.ConditionTerminal), messageAlreadyExists),
	}
}

// deletingConditions are those of an object that is being deleted. Ready keeps its
// previous value.
func deletingConditions(before ack.Conditions, message, synced string) ack.Conditions {
	conditions := ack.Conditions{
		condition(ack.ConditionRecoverable, corev1.ConditionTrue, "", message),
		condition(ack.ConditionSynced, corev1.ConditionFalse, "", synced),
	}
	if ready := before.Get(ack.ConditionReady); ready != nil {
		conditions = append(conditions, ready)
	}
	return conditions
}

// conditionsOf returns an object's conditions.
func conditionsOf(o *object) ack.Conditions {
	var status struct {
		Conditions ack.Conditions `json:"conditions"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.status(), &status); err != nil {
		return nil // conditions that cannot be decoded are overwritten
	}
	return status.Conditions
}
