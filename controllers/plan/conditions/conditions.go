// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conditions builds the conditions of a FlagCache. Parts of the planner
// return them; the time of a transition and the observed generation are set where
// the status is put together.
package conditions

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// New is a condition with a formatted message.
func New(kind string, status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// True is a condition that holds.
func True(kind, reason, format string, args ...any) metav1.Condition {
	return New(kind, metav1.ConditionTrue, reason, format, args...)
}

// False is a condition that does not hold.
func False(kind, reason, format string, args ...any) metav1.Condition {
	return New(kind, metav1.ConditionFalse, reason, format, args...)
}

// Unknown is a condition of which it is not known whether it holds.
func Unknown(kind, reason, format string, args ...any) metav1.Condition {
	return New(kind, metav1.ConditionUnknown, reason, format, args...)
}
