// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func condition(kind string, status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func isTrue(kind, reason, format string, args ...any) metav1.Condition {
	return condition(kind, metav1.ConditionTrue, reason, format, args...)
}

func isFalse(kind, reason, format string, args ...any) metav1.Condition {
	return condition(kind, metav1.ConditionFalse, reason, format, args...)
}

func isUnknown(kind, reason, format string, args ...any) metav1.Condition {
	return condition(kind, metav1.ConditionUnknown, reason, format, args...)
}
