// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

func TestConditionsOfEveryKind(t *testing.T) {
	first, last := metav1.NewTime(time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)), metav1.NewTime(time.Date(2026, 6, 1, 12, 0, 1, 0, time.UTC))
	for _, kind := range Kinds() {
		o := kind.New()
		if never := ConditionsOf(o).LastSyncTime(); !Is(o) || KindOf(o).Kind != kind.Kind || len(ConditionsOf(o)) > 0 || !never.IsZero() {
			t.Errorf("a new %s is one: %t, %q, with the conditions %v", kind.Kind, Is(o), KindOf(o).Kind, ConditionsOf(o))
		}
		reflect.ValueOf(o).Elem().FieldByName("Status").FieldByName("Conditions").Set(reflect.ValueOf([]*Condition{
			{Type: ConditionSynced, Status: corev1.ConditionTrue, LastTransitionTime: &last},
			{Type: ConditionReady, Status: corev1.ConditionFalse, LastTransitionTime: &first},
			{Type: ConditionAdvisory, Status: corev1.ConditionTrue},
		}))
		c := ConditionsOf(o)
		if !c.Is(ConditionSynced) || c.Is(ConditionReady) || c.Is(ConditionTerminal) || c.Get(ConditionTerminal) != nil || c.LastSyncTime() != last {
			t.Errorf("the conditions of %s are read as synced %t, ready %t, terminal %t, last synced at %s",
				kind.Kind, c.Is(ConditionSynced), c.Is(ConditionReady), c.Is(ConditionTerminal), c.LastSyncTime())
		}
	}
	if o := (&corev1.Secret{}); Is(o) || ConditionsOf(o) != nil || KindOf(o).Kind != "" {
		t.Error("a Secret is taken for an ACK object")
	}
}

// The kinds have the names that ACK's modules register.
func TestKindsMatchTheModules(t *testing.T) {
	s := runtime.NewScheme()
	if err := AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range Kinds() {
		if got, _, err := s.ObjectKinds(kind.New()); err != nil || len(got) != 1 || got[0] != kind.GroupVersionKind {
			t.Errorf("%s is registered as %v: %v", kind.Kind, got, err)
		}
	}
}

func TestAbsentFieldsAreZero(t *testing.T) {
	empty := &ReplicationGroup{}
	creating := &ReplicationGroup{Status: ReplicationGroupStatus{NodeGroups: []*NodeGroup{{PrimaryEndpoint: &Endpoint{}}}}}
	partial := &ReplicationGroup{Status: ReplicationGroupStatus{NodeGroups: []*NodeGroup{nil}}}
	for _, g := range []*ReplicationGroup{empty, creating, partial} {
		if GroupState(g) != "" || PrimaryEndpoint(g) != nil || ReaderEndpoint(g) != nil || Region(g.Status.ACKResourceMetadata) != "" || Address(PrimaryEndpoint(g)) != "" {
			t.Errorf("%+v is read as state %q, endpoint %v", g.Status, GroupState(g), PrimaryEndpoint(g))
		}
	}
	if got := Values([]*string{ptr.To("a"), nil}); !reflect.DeepEqual(got, []string{"a", ""}) {
		t.Errorf("the values are %q", got)
	}
	g := &ReplicationGroup{Status: ReplicationGroupStatus{
		Status:              ptr.To(GroupAvailable),
		ACKResourceMetadata: &ResourceMetadata{Region: ptr.To[AWSRegion]("eu-west-1")},
		NodeGroups: []*NodeGroup{{
			PrimaryEndpoint: &Endpoint{Address: ptr.To("primary.example"), Port: ptr.To[int64](6379)},
			ReaderEndpoint:  &Endpoint{Address: ptr.To("::1"), Port: ptr.To[int64](6380)},
		}},
	}}
	if GroupState(g) != GroupAvailable || Address(PrimaryEndpoint(g)) != "primary.example:6379" || Address(ReaderEndpoint(g)) != "[::1]:6380" ||
		Region(g.Status.ACKResourceMetadata) != "eu-west-1" {
		t.Errorf("the group is read as %s at %s and %s", GroupState(g), Address(PrimaryEndpoint(g)), Address(ReaderEndpoint(g)))
	}
}
