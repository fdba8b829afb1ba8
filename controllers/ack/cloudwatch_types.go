// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MetricAlarm notifies a topic when a metric exceeds a threshold. The type is declared
// here, with the fields that FlagCache uses, because the module of ACK's
// cloudwatch-controller is not available.
//
// +kubebuilder:object:root=true
type MetricAlarm struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	Spec              MetricAlarmSpec   `json:"spec"`
	Status            MetricAlarmStatus `json:"status,omitempty,omitzero"`
}

// MetricAlarmStatus is the observed state of a MetricAlarm.
type MetricAlarmStatus struct {
	// ACKResourceMetadata identifies the AWS resource, nil before it is created.
	ACKResourceMetadata *ResourceMetadata `json:"ackResourceMetadata,omitempty"`
	Conditions          []*Condition      `json:"conditions,omitempty"`
}

// MetricAlarmSpec is the desired state of a MetricAlarm.
type MetricAlarmSpec struct {
	Name               string      `json:"name"`
	AlarmDescription   string      `json:"alarmDescription"`
	Namespace          string      `json:"namespace"`
	MetricName         string      `json:"metricName"`
	Dimensions         []Dimension `json:"dimensions,omitempty"`
	Statistic          string      `json:"statistic"`
	Period             int64       `json:"period"`
	EvaluationPeriods  int64       `json:"evaluationPeriods"`
	ComparisonOperator string      `json:"comparisonOperator"`
	// Threshold is an integer here and a float in the API of AWS.
	Threshold        int64    `json:"threshold"`
	TreatMissingData string   `json:"treatMissingData"`
	AlarmActions     []string `json:"alarmActions,omitempty"`
	// OKActions is oKActions in JSON.
	OKActions []string `json:"oKActions,omitempty"`
	Tags      []*Tag   `json:"tags,omitempty"`
}

// Dimension distinguishes metrics of the same name.
type Dimension struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// MetricAlarmList is a list of MetricAlarms.
//
// +kubebuilder:object:root=true
type MetricAlarmList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []MetricAlarm `json:"items"`
}
