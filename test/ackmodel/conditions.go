// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"errors"
	"slices"

	core "github.com/aws-controllers-k8s/runtime/apis/core/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Messages of ACK's runtime.
const (
	syncedMessage          = "Resource synced successfully"
	notSyncedMessage       = "Resource not synced"
	unknownSyncedMessage   = "Unable to determine if desired resource state matches latest observed state"
	notManagedMessage      = "Resource already exists"
	roleUnavailableMessage = "IAM Role is not available"
	notManagedReason       = "This resource already exists but is not managed by ACK. To bring the resource under ACK management, you should " +
		"explicitly adopt the resource by enabling the ResourceAdoption feature gate and populating the `services.k8s.aws/adoption-policy` and " +
		"`services.k8s.aws/adoption-fields` annotations."
	lateInitializedMessage = "Late initialization successful"
)

// setCondition sets a condition with the time of the sync.
func (s *session) setCondition(o client.Object, kind ack.ConditionType, status corev1.ConditionStatus, message, reason *string) {
	*conditionOf(o, kind) = ack.Condition{Type: kind, Status: status, Message: message, Reason: reason, LastTransitionTime: ptr.To(metav1.NewTime(s.now.UTC()).Rfc3339Copy())}
}

// setStatus sets the status of a condition only, like most of the code of the elasticache-controller
// does: a new condition has no time.
func setStatus(o client.Object, kind ack.ConditionType, status corev1.ConditionStatus) {
	conditionOf(o, kind).Status = status
}

// conditionOf returns the condition of a type, which is added if there is none.
func conditionOf(o client.Object, kind ack.ConditionType) *ack.Condition {
	if c := ack.ConditionsOf(o).Get(kind); c != nil {
		return c
	}
	all, c := conditions(o), &ack.Condition{Type: kind}
	*all = append(slices.Clip(*all), c)
	return c
}

// conditions returns the conditions of an object to be changed.
func conditions(o client.Object) *[]*ack.Condition {
	all, _ := managed(o)
	return all
}

// managed returns the parts of the status that all kinds have.
func managed(o client.Object) (*[]*ack.Condition, **ack.ResourceMetadata) {
	switch o := o.(type) {
	case *ack.ReplicationGroup:
		return &o.Status.Conditions, &o.Status.ACKResourceMetadata
	case *ack.CacheSubnetGroup:
		return &o.Status.Conditions, &o.Status.ACKResourceMetadata
	case *ack.CacheParameterGroup:
		return &o.Status.Conditions, &o.Status.ACKResourceMetadata
	case *ack.User:
		return &o.Status.Conditions, &o.Status.ACKResourceMetadata
	case *ack.UserGroup:
		return &o.Status.Conditions, &o.Status.ACKResourceMetadata
	case *ack.Snapshot:
		return &o.Status.Conditions, &o.Status.ACKResourceMetadata
	case *ack.SecurityGroup:
		return &o.Status.Conditions, &o.Status.ACKResourceMetadata
	case *ack.MetricAlarm:
		return &o.Status.Conditions, &o.Status.ACKResourceMetadata
	}
	panic("not a kind of ACK")
}

// setMetadata sets the identity of a resource, as far as it is missing.
func setMetadata(o client.Object, arn string) {
	_, m := managed(o)
	if *m == nil {
		*m = &ack.ResourceMetadata{}
	}
	if arn != "" {
		(*m).ARN = ptr.To(core.AWSResourceName(arn))
	}
	if (*m).Region == nil {
		(*m).Region = ptr.To(core.AWSRegion(Region))
	}
	if (*m).Partition == nil {
		(*m).Partition = ptr.To(core.AWSPartition("aws"))
	}
	if (*m).OwnerAccountID == nil {
		(*m).OwnerAccountID = ptr.To(core.AWSAccountID(AccountID))
	}
}

// onError sets the conditions after an error of AWS in a copy of an object.
func (s *session) onError(o client.Object, err error) (client.Object, error) {
	o = copyOf(o)
	setMetadata(o, "")
	message := err.Error()
	var refused Error
	if errors.As(err, &refused) {
		message = refused.text()
	}
	if errors.As(err, &refused) && slices.Contains(s.manager.terminal(), refused.Code) {
		c := conditionOf(o, ack.ConditionTerminal)
		c.Status, c.Message = corev1.ConditionTrue, &message
		return o, errTerminal
	}
	if c := ack.ConditionsOf(o).Get(ack.ConditionTerminal); c != nil {
		c.Status, c.Message = corev1.ConditionFalse, nil
	}
	c := conditionOf(o, ack.ConditionRecoverable)
	c.Status, c.Message = corev1.ConditionTrue, &message
	return o, err
}

// onSuccess clears the conditions of errors.
func onSuccess(o client.Object) client.Object {
	for _, kind := range []ack.ConditionType{ack.ConditionTerminal, ack.ConditionRecoverable} {
		if c := ack.ConditionsOf(o).Get(kind); c != nil {
			c.Status, c.Message = corev1.ConditionFalse, nil
		}
	}
	return o
}

// ensureConditions completes the conditions at the end of a sync.
func (s *session) ensureConditions(o client.Object, err error) {
	if ack.ConditionsOf(o).Get(ack.ConditionSynced) == nil {
		judge, judges := s.manager.(syncedJudge)
		switch {
		case err == nil && judges && !judge.synced(o):
			s.setCondition(o, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(notSyncedMessage), ptr.To(""))
		case err == nil:
			s.setCondition(o, ack.ConditionSynced, corev1.ConditionTrue, ptr.To(syncedMessage), ptr.To(""))
		case errors.Is(err, errTerminal):
			s.setCondition(o, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(notSyncedMessage), ptr.To(err.Error()))
		default:
			s.setCondition(o, ack.ConditionSynced, corev1.ConditionUnknown, ptr.To(unknownSyncedMessage), ptr.To(err.Error()))
		}
	}
	all := ack.ConditionsOf(o)
	for _, kind := range []ack.ConditionType{ack.ConditionTerminal, ack.ConditionRecoverable} {
		if all.Is(kind) {
			s.setCondition(o, ack.ConditionReady, corev1.ConditionFalse, all.Get(kind).Message, ptr.To(string(kind)))
			return
		}
	}
	synced := all.Get(ack.ConditionSynced)
	s.setCondition(o, ack.ConditionReady, synced.Status, synced.Message, synced.Reason)
}
