// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/controllers/ack"
)

// conditionLateInitialized says whether ACK has filled in what it fills in.
const conditionLateInitialized = "ACK.LateInitialized"

// Texts of ACK.
const (
	textSynced     = "Resource synced successfully"
	textNotSynced  = "Resource not synced"
	textUnknown    = "Unable to determine if desired resource state matches latest observed state"
	textTerminal   = "resource is in terminal condition"
	textTaken      = "Resource already exists"
	textTakenWhy   = "This resource already exists but is not managed by ACK. To bring the resource under ACK management, you should explicitly adopt the resource by enabling the ResourceAdoption feature gate and populating the `services.k8s.aws/adoption-policy` and `services.k8s.aws/adoption-fields` annotations."
	textDeleting   = "Delete is in progress."
	textModifying  = "Modify is in progress."
	textUnmodified = "Replication Group can not be modified, it is not in 'available' state."
	textTagging    = "tags Update is in progress"
)

// condition is one as ACK makes it anew at each look, dated to the second.
func condition(kind string, status corev1.ConditionStatus, reason, message string) ack.Condition {
	now := metav1.Now().Rfc3339Copy()
	return ack.Condition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: &now}
}

// settled is an object as it should be. One whose creation failed looks the same
// to ACK, with a word more.
func settled(failed bool) []ack.Condition {
	conditions := []ack.Condition{condition(ack.ConditionSynced, corev1.ConditionTrue, "", textSynced)}
	if failed {
		conditions = append(conditions, condition(ack.ConditionTerminal, corev1.ConditionFalse, "", ""))
	}
	return append(conditions,
		condition(conditionLateInitialized, corev1.ConditionTrue, "Late initialization successful", "Late initialization successful"),
		condition(ack.ConditionReady, corev1.ConditionTrue, "", textSynced))
}

// unsettled is an object that AWS is at work on, or was at the look before.
func unsettled(message string) []ack.Condition {
	return []ack.Condition{
		condition(ack.ConditionSynced, corev1.ConditionFalse, "", message),
		condition(conditionLateInitialized, corev1.ConditionTrue, "Late initialization successful", "Late initialization successful"),
		condition(ack.ConditionReady, corev1.ConditionFalse, "", message),
	}
}

// refused is an object that something stands in the way of. Of one that exists in
// AWS, ACK says that it is in sync all the same.
func refused(message string, terminal, exists bool) []ack.Condition {
	trouble, synced := condition(ack.ConditionRecoverable, corev1.ConditionTrue, "", message), condition(ack.ConditionSynced, corev1.ConditionUnknown, message, textUnknown)
	if terminal {
		trouble.Type = ack.ConditionTerminal
		synced = condition(ack.ConditionSynced, corev1.ConditionFalse, textTerminal, textNotSynced)
	}
	if exists {
		synced = condition(ack.ConditionSynced, corev1.ConditionTrue, "", textSynced)
	}
	return []ack.Condition{trouble, synced, condition(ack.ConditionReady, corev1.ConditionFalse, trouble.Type, message)}
}

// taken is an object whose ID AWS has for something that is not ACK's.
func taken() []ack.Condition {
	return []ack.Condition{
		condition(ack.ConditionTerminal, corev1.ConditionTrue, textTakenWhy, textTaken),
		condition(ack.ConditionSynced, corev1.ConditionTrue, "", textSynced),
		condition(ack.ConditionReady, corev1.ConditionFalse, ack.ConditionTerminal, textTaken),
	}
}

// leaving is an object that is being deleted. Ready keeps what it last said.
func leaving(before []ack.Condition, message, synced string) []ack.Condition {
	conditions := []ack.Condition{
		condition(ack.ConditionRecoverable, corev1.ConditionTrue, "", message),
		condition(ack.ConditionSynced, corev1.ConditionFalse, "", synced),
	}
	if ready, ok := (ack.Status{Conditions: before}).Condition(ack.ConditionReady); ok {
		conditions = append(conditions, ready)
	}
	return conditions
}

// conditionsOf are those that an object has.
func conditionsOf(o *object) []ack.Condition {
	var status ack.Status
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.status(), &status); err != nil {
		return nil // what nobody can read is written anew
	}
	return status.Conditions
}
