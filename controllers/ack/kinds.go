// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	"reflect"
	"slices"

	ec2 "github.com/aws-controllers-k8s/ec2-controller/apis/v1alpha1"
	elasticache "github.com/aws-controllers-k8s/elasticache-controller/apis/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Groups and versions of ACK's controllers.
var (
	// ElastiCache is served by the elasticache-controller.
	ElastiCache = elasticache.GroupVersion
	// EC2 is served by the ec2-controller.
	EC2 = ec2.GroupVersion
	// CloudWatch is served by the cloudwatch-controller.
	CloudWatch = schema.GroupVersion{Group: "cloudwatch.services.k8s.aws", Version: "v1alpha1"}
)

// Kind is one of ACK's kinds.
//
// +kubebuilder:object:generate=false
type Kind struct {
	schema.GroupVersionKind
	// Resource is the plural name of the kind in the API.
	Resource string
	// New returns an empty object of the kind, NewList an empty list.
	New     func() client.Object
	NewList func() client.ObjectList
}

// Controller returns the name of the ACK controller of the kind, to install if it is
// missing.
func (k Kind) Controller() string { return ControllerOf(k.GroupVersion()) }

// CRD returns the name of the kind's CustomResourceDefinition.
func (k Kind) CRD() string { return k.Resource + "." + k.Group }

// ControllerOf returns the name of the ACK controller of a group.
func ControllerOf(gv schema.GroupVersion) string {
	switch gv {
	case EC2:
		return "ec2-controller"
	case CloudWatch:
		return "cloudwatch-controller"
	default:
		return "elasticache-controller"
	}
}

// Kinds returns all kinds that FlagCache uses.
func Kinds() []Kind {
	return []Kind{
		kind(ElastiCache, "ReplicationGroup", "replicationgroups",
			func() client.Object { return &ReplicationGroup{} }, func() client.ObjectList { return &ReplicationGroupList{} }),
		kind(ElastiCache, "CacheSubnetGroup", "cachesubnetgroups",
			func() client.Object { return &CacheSubnetGroup{} }, func() client.ObjectList { return &CacheSubnetGroupList{} }),
		kind(ElastiCache, "CacheParameterGroup", "cacheparametergroups",
			func() client.Object { return &CacheParameterGroup{} }, func() client.ObjectList { return &CacheParameterGroupList{} }),
		kind(ElastiCache, "User", "users",
			func() client.Object { return &User{} }, func() client.ObjectList { return &UserList{} }),
		kind(ElastiCache, "UserGroup", "usergroups",
			func() client.Object { return &UserGroup{} }, func() client.ObjectList { return &UserGroupList{} }),
		kind(ElastiCache, "Snapshot", "snapshots",
			func() client.Object { return &Snapshot{} }, func() client.ObjectList { return &SnapshotList{} }),
		kind(EC2, "SecurityGroup", "securitygroups",
			func() client.Object { return &SecurityGroup{} }, func() client.ObjectList { return &SecurityGroupList{} }),
		kind(CloudWatch, "MetricAlarm", "metricalarms",
			func() client.Object { return &MetricAlarm{} }, func() client.ObjectList { return &MetricAlarmList{} }),
	}
}

func kind(gv schema.GroupVersion, name, resource string, newObject func() client.Object, newList func() client.ObjectList) Kind {
	return Kind{GroupVersionKind: gv.WithKind(name), Resource: resource, New: newObject, NewList: newList}
}

// Is reports whether an object is of one of the kinds.
func Is(o runtime.Object) bool {
	switch o.(type) {
	case *ReplicationGroup, *CacheSubnetGroup, *CacheParameterGroup, *User, *UserGroup, *Snapshot, *SecurityGroup, *MetricAlarm:
		return true
	default:
		return false
	}
}

// KindOf returns the kind of an object by its Go type, because objects from a cache have
// no type metadata; zero if it is not an ACK kind.
func KindOf(o runtime.Object) Kind {
	for _, k := range Kinds() {
		if reflect.TypeOf(k.New()) == reflect.TypeOf(o) {
			return k
		}
	}
	return Kind{}
}

// AddToScheme adds all kinds to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	for _, k := range Kinds() {
		s.AddKnownTypeWithName(k.GroupVersionKind, k.New())
		s.AddKnownTypeWithName(k.GroupVersion().WithKind(k.Kind+"List"), k.NewList())
	}
	for _, gv := range []schema.GroupVersion{ElastiCache, EC2, CloudWatch} {
		metav1.AddToGroupVersion(s, gv)
	}
	return nil
}

// writtenBack are fields of specs that ACK may write although FlagCache does not, by kind.
var writtenBack = map[string][]string{
	"ReplicationGroup": {"logDeliveryConfigurations", "nodeGroupConfiguration"},
	"User":             {"authenticationMode"},
	"SecurityGroup":    {"egressRules"},
}

// IsForeign reports whether a field of an object's spec that FlagCache does not write was
// set by others than ACK. ACK fills in the specs of snapshots and alarms.
func IsForeign(o runtime.Object, field string) bool {
	kind := KindOf(o).Kind
	switch kind {
	case "", "Snapshot", "MetricAlarm":
		return false
	default:
		return !slices.Contains(writtenBack[kind], field)
	}
}
