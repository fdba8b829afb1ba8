// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SecurityGroup controls who may connect to the resources that use it.
//
// +kubebuilder:object:root=true
type SecurityGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	Spec              SecurityGroupSpec   `json:"spec"`
	Status            SecurityGroupStatus `json:"status,omitempty,omitzero"`
}

// SecurityGroupSpec is the desired state of a SecurityGroup.
type SecurityGroupSpec struct {
	Name         string         `json:"name"`
	Description  string         `json:"description"`
	VPCID        string         `json:"vpcID"`
	IngressRules []IPPermission `json:"ingressRules,omitempty"`
	Tags         []Tag          `json:"tags,omitempty"`
}

// IPPermission allows security groups to connect to a range of ports.
type IPPermission struct {
	IPProtocol       string            `json:"ipProtocol"`
	FromPort         int64             `json:"fromPort"`
	ToPort           int64             `json:"toPort"`
	UserIDGroupPairs []UserIDGroupPair `json:"userIDGroupPairs,omitempty"`
}

// UserIDGroupPair names a security group.
type UserIDGroupPair struct {
	GroupID     string `json:"groupID"`
	Description string `json:"description,omitempty"`
}

// SecurityGroupStatus is the observed state of a SecurityGroup.
type SecurityGroupStatus struct {
	Status `json:",inline"`
	// ID is the ID that other resources refer to, such as sg-0123456789abcdef0.
	ID string `json:"id,omitempty"`
}

// SecurityGroupList is a list of SecurityGroups.
//
// +kubebuilder:object:root=true
type SecurityGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []SecurityGroup `json:"items"`
}

// ACKStatus implements Object.
func (g *SecurityGroup) ACKStatus() Status { return g.Status.Status }
