// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elasticache "github.com/aws-controllers-k8s/elasticache-controller/apis/v1alpha1"

	"github.com/flagcache/flagcache/controllers/ack"
)

// vpc is the only VPC of the account.
const vpc = "vpc-0"

// zone returns an availability zone: they take turns.
func zone(i int) string { return Region + string("abc"[i%3]) }

type subnetGroupManager struct{}

func (subnetGroupManager) terminal() []string {
	return []string{
		"CacheSubnetGroupQuotaExceeded", "CacheSubnetQuotaExceededFault", "SubnetInUse", "InvalidSubnet", "InvalidParameter",
		"InvalidParameterValue", "InvalidParameterCombination",
	}
}

func (subnetGroupManager) find(s *session, o client.Object) (client.Object, error) {
	latest := o.(*ack.CacheSubnetGroup)
	known, ok := s.SubnetGroups[*latest.Spec.CacheSubnetGroupName]
	err := s.call("DescribeCacheSubnetGroups", "", func() error {
		if !ok {
			return errNotFound
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	describeSubnetGroup(latest, known)
	latest.Status.Events = []*ack.Event{}
	latest.Spec.SubnetIDs = known.DeepCopy().SubnetIDs
	return latest, s.call("DescribeEvents", "", func() error { return nil })
}

func describeSubnetGroup(o *ack.CacheSubnetGroup, known ack.CacheSubnetGroupSpec) {
	setMetadata(o, arn("subnetgroup", *known.CacheSubnetGroupName))
	o.Spec.CacheSubnetGroupName, o.Spec.CacheSubnetGroupDescription = known.CacheSubnetGroupName, known.CacheSubnetGroupDescription
	o.Status.VPCID, o.Status.Subnets = ptr.To(vpc), nil
	for i, id := range known.SubnetIDs {
		zone := &elasticache.AvailabilityZone{Name: ptr.To(zone(i))}
		o.Status.Subnets = append(o.Status.Subnets, &elasticache.Subnet{SubnetIdentifier: ptr.To(*id), SubnetAvailabilityZone: zone})
	}
}

func (m subnetGroupManager) create(s *session, o client.Object) (client.Object, error) {
	return m.send(s, "CreateCacheSubnetGroup", o)
}

func (m subnetGroupManager) update(s *session, desired, _ client.Object, _ fields) (client.Object, error) {
	return m.send(s, "ModifyCacheSubnetGroup", desired)
}

func (subnetGroupManager) send(s *session, action string, o client.Object) (client.Object, error) {
	sent := o.(*ack.CacheSubnetGroup)
	name := *sent.Spec.CacheSubnetGroupName
	if err := s.call(action, name, func() error { s.SubnetGroups[name] = *sent.Spec.DeepCopy(); return nil }); err != nil {
		return nil, err
	}
	describeSubnetGroup(sent, s.SubnetGroups[name])
	return sent, nil
}

func (subnetGroupManager) remove(s *session, o client.Object) (client.Object, error) {
	const action = "DeleteCacheSubnetGroup"
	name := *o.(*ack.CacheSubnetGroup).Spec.CacheSubnetGroupName
	return nil, s.call(action, name, func() error {
		if s.used(func(spec ack.ReplicationGroupSpec) *string { return spec.CacheSubnetGroupName }, name) {
			return Error{action, "CacheSubnetGroupInUse", fmt.Sprintf("Cache subnet group %s is currently in use by a cache cluster.", name)}
		}
		delete(s.SubnetGroups, name)
		return nil
	})
}

// used reports whether a group has a setting with a value.
func (a *Account) used(setting func(ack.ReplicationGroupSpec) *string, value string) bool {
	for _, g := range a.Groups {
		if ack.Value(setting(g.Spec)) == value {
			return true
		}
	}
	return false
}

func (subnetGroupManager) compare(a, b client.Object) fields { return compareSpecs(a, b) }

type parameterGroupManager struct{}

func (parameterGroupManager) terminal() []string {
	return []string{"CacheParameterGroupAlreadyExists", "CacheParameterGroupQuotaExceeded", "InvalidGlobalReplicationGroupState", "InvalidParameterCombination", "InvalidParameterValue"}
}

func (parameterGroupManager) find(s *session, o client.Object) (client.Object, error) {
	latest := o.(*ack.CacheParameterGroup)
	known, ok := s.ParameterGroups[*latest.Spec.CacheParameterGroupName]
	err := s.call("DescribeCacheParameterGroups", "", func() error {
		if !ok {
			return errNotFound
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	describeParameterGroup(latest, known)
	latest.Spec.ParameterNameValues = known.DeepCopy().ParameterNameValues
	describeParameters(latest)
	latest.Status.Events = []*ack.Event{}
	return latest, s.call("DescribeEvents", "", func() error { return nil })
}

func describeParameterGroup(o *ack.CacheParameterGroup, known ack.CacheParameterGroupSpec) {
	setMetadata(o, arn("parametergroup", *known.CacheParameterGroupName))
	o.Spec.CacheParameterGroupName, o.Spec.CacheParameterGroupFamily, o.Spec.Description = known.CacheParameterGroupName, known.CacheParameterGroupFamily, known.Description
	o.Status.IsGlobal = ptr.To(false)
}

// describeParameters sets the parameters in the status: those that were set, and in AWS all others.
func describeParameters(o *ack.CacheParameterGroup) {
	o.Status.Parameters = []*elasticache.Parameter{{ParameterName: ptr.To("maxmemory"), Source: ptr.To("system")}}
	for _, p := range o.Spec.ParameterNameValues {
		o.Status.Parameters = append(o.Status.Parameters, &elasticache.Parameter{ParameterName: p.ParameterName, ParameterValue: p.ParameterValue, Source: ptr.To("user")})
	}
}

// create creates a parameter group without its parameters, which are set by the next sync.
func (parameterGroupManager) create(s *session, o client.Object) (client.Object, error) {
	created := o.(*ack.CacheParameterGroup)
	name := *created.Spec.CacheParameterGroupName
	known := *created.Spec.DeepCopy()
	known.ParameterNameValues = nil
	if err := s.call("CreateCacheParameterGroup", name, func() error { s.ParameterGroups[name] = known; return nil }); err != nil {
		return nil, err
	}
	describeParameterGroup(created, known)
	if len(created.Spec.ParameterNameValues) > 0 {
		setStatus(created, ack.ConditionSynced, corev1.ConditionFalse)
	}
	return created, nil
}

func (parameterGroupManager) update(s *session, desired, latest client.Object, differing fields) (client.Object, error) {
	d, updated := desired.(*ack.CacheParameterGroup), latest.(*ack.CacheParameterGroup)
	name := *d.Spec.CacheParameterGroupName
	if !differing["ParameterNameValues"] {
		return updated, nil
	}
	err := s.call("ModifyCacheParameterGroup", name, func() error {
		known := s.ParameterGroups[name]
		known.ParameterNameValues = d.DeepCopy().Spec.ParameterNameValues
		s.ParameterGroups[name] = known
		return nil
	})
	if err != nil {
		return nil, err
	}
	updated.Spec.ParameterNameValues = d.DeepCopy().Spec.ParameterNameValues
	describeParameters(updated)
	return updated, nil
}

func (parameterGroupManager) remove(s *session, o client.Object) (client.Object, error) {
	const action = "DeleteCacheParameterGroup"
	name := *o.(*ack.CacheParameterGroup).Spec.CacheParameterGroupName
	return nil, s.call(action, name, func() error {
		if s.used(func(spec ack.ReplicationGroupSpec) *string { return spec.CacheParameterGroupName }, name) {
			return Error{action, "InvalidCacheParameterGroupState", fmt.Sprintf("One or more cache clusters are still members of the parameter group %s.", name)}
		}
		delete(s.ParameterGroups, name)
		return nil
	})
}

func (parameterGroupManager) compare(a, b client.Object) fields {
	differing := compareSpecs(a, b, "ParameterNameValues")
	if !slices.Equal(parametersOf(a), parametersOf(b)) {
		differing["ParameterNameValues"] = true
	}
	return differing
}

func parametersOf(o client.Object) []string {
	var list []string
	for _, p := range o.(*ack.CacheParameterGroup).Spec.ParameterNameValues {
		list = append(list, ack.Value(p.ParameterName)+"="+ack.Value(p.ParameterValue))
	}
	slices.Sort(list)
	return list
}
