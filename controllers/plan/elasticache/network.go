// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// subnetGroupName is the user's or ours; without one AWS takes its default, which
// ACK does not write back.
func (d desired) subnetGroupName() string {
	switch {
	case d.spec.SubnetGroupName != "":
		return d.spec.SubnetGroupName
	case len(d.spec.SubnetIDs) > 0:
		return d.aws()
	default:
		return ""
	}
}

func (d desired) subnetGroup() *ack.CacheSubnetGroup {
	group := &ack.CacheSubnetGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "CacheSubnetGroup"},
		ObjectMeta: d.retainableMeta(d.object()),
		Spec: ack.CacheSubnetGroupSpec{
			CacheSubnetGroupName:        d.aws(),
			CacheSubnetGroupDescription: d.owner(),
			Tags:                        d.tags(),
		},
	}
	for _, id := range d.spec.SubnetIDs {
		group.Spec.SubnetIDs = append(group.Spec.SubnetIDs, string(id))
	}
	return group
}

// securityGroup lets the clients' security groups in on Redis' port, and nobody
// else. AWS identifies it by an ID of its own, by which alone one could be adopted,
// so a FlagCache that adopts a group creates another security group.
func (d desired) securityGroup() *ack.SecurityGroup {
	rule := ack.IPPermission{IPProtocol: "tcp", FromPort: connection.DefaultPort, ToPort: connection.DefaultPort}
	for _, id := range d.spec.ClientSecurityGroupIDs {
		rule.UserIDGroupPairs = append(rule.UserIDGroupPairs, ack.UserIDGroupPair{GroupID: string(id)})
	}
	return &ack.SecurityGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.EC2.String(), Kind: "SecurityGroup"},
		ObjectMeta: d.retainableMeta(d.object()),
		Spec: ack.SecurityGroupSpec{
			Name:         d.aws() + "-" + observed.Fingerprint(d.fc.UID),
			Description:  d.owner(),
			VPCID:        d.spec.VPCID,
			IngressRules: []ack.IPPermission{rule},
			Tags:         d.tags(),
		},
	}
}

// family of the engine's parameters, such as redis7 and valkey8
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html).
func family(spec *v1alpha1.ElastiCacheSpec) string {
	major, minor, _ := strings.Cut(spec.EngineVersion, ".")
	family := strings.ToLower(string(spec.Engine)) + major
	switch {
	case spec.Engine == v1alpha1.EngineRedis && major == "6":
		return family + ".x"
	case spec.Engine == v1alpha1.EngineRedis && len(major) == 1 && major < "6":
		minor, _, _ = strings.Cut(minor, ".")
		return family + "." + minor
	default:
		return family
	}
}

// familySuffix is the family as it may stand in an ID.
func familySuffix(spec *v1alpha1.ElastiCacheSpec) string {
	return "-" + strings.ReplaceAll(family(spec), ".", "-")
}

// parameterGroupName is ours where the spec has parameters, else AWS' own of the
// family. Ours has the family in its name, because a family cannot be changed.
func (d desired) parameterGroupName() string {
	if len(d.spec.Parameters) == 0 {
		return "default." + family(d.spec)
	}
	return d.aws() + familySuffix(d.spec)
}

func (d desired) parameterGroup() *ack.CacheParameterGroup {
	group := &ack.CacheParameterGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "CacheParameterGroup"},
		ObjectMeta: d.retainableMeta(d.object() + familySuffix(d.spec)),
		Spec: ack.CacheParameterGroupSpec{
			CacheParameterGroupName:   d.parameterGroupName(),
			CacheParameterGroupFamily: family(d.spec),
			Description:               d.owner(),
			Tags:                      d.tags(),
		},
	}
	for _, name := range slices.Sorted(maps.Keys(d.spec.Parameters)) {
		group.Spec.ParameterNameValues = append(group.Spec.ParameterNameValues,
			ack.Parameter{ParameterName: name, ParameterValue: string(d.spec.Parameters[name])})
	}
	return group
}
