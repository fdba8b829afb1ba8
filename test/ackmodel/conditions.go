// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Conditions of ACK. Each sync replaces all of them.

func (s *sync) synced(o client.Object) {
	s.setConditions(o, &ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionTrue}, &ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionTrue})
}

func (s *sync) inProgress(o client.Object, message string) {
	s.setConditions(o, &ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Message: &message},
		&ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Message: &message})
	s.pollAgain()
}

func (s *sync) recoverable(o client.Object, message string) {
	s.setConditions(o, &ack.Condition{Type: ack.ConditionRecoverable, Status: corev1.ConditionTrue, Message: &message},
		&ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionUnknown, Reason: &message},
		&ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ptr.To(string(ack.ConditionRecoverable)), Message: &message})
	s.pollAgain()
}

func (s *sync) terminal(o client.Object, message string) {
	s.setConditions(o, &ack.Condition{Type: ack.ConditionTerminal, Status: corev1.ConditionTrue, Message: &message},
		&ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Reason: ptr.To("resource is in terminal condition"), Message: ptr.To("Resource not synced")},
		&ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ptr.To(string(ack.ConditionTerminal)), Message: &message})
}

func (s *sync) setConditions(o client.Object, conditions ...*ack.Condition) {
	at := metav1.NewTime(s.now.Truncate(time.Second))
	for i := range conditions {
		conditions[i].LastTransitionTime = &at
	}
	reflect.ValueOf(o).Elem().FieldByName("Status").FieldByName("Conditions").Set(reflect.ValueOf(conditions))
}
