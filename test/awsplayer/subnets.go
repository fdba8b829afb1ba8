// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
)

// subnetGroup is a set of subnets for the nodes of replication groups.
type subnetGroup struct {
	name, description string
	subnets           []string
}

func validateSubnets(ids []string) error {
	if len(ids) == 0 {
		return invalidValue("A subnet group requires subnets.")
	}
	for _, id := range ids {
		if !strings.HasPrefix(id, "subnet-") {
			return &types.InvalidSubnet{Message: text("Subnet %s is invalid.", id)}
		}
	}
	return nil
}

func createCacheSubnetGroup(a *account, in *elasticache.CreateCacheSubnetGroupInput) (*elasticache.CreateCacheSubnetGroupOutput, error) {
	g := &subnetGroup{name: strings.ToLower(aws.ToString(in.CacheSubnetGroupName)), description: aws.ToString(in.CacheSubnetGroupDescription), subnets: in.SubnetIds}
	switch {
	case g.name == "" || len(g.name) > 255 || g.description == "":
		return nil, invalidValue("A subnet group requires a name and a description.")
	case a.subnetGroups[g.name] != nil:
		return nil, &types.CacheSubnetGroupAlreadyExistsFault{Message: text("Cache subnet group %s already exists.", g.name)}
	}
	if err := validateSubnets(g.subnets); err != nil {
		return nil, err
	}
	a.subnetGroups[g.name], a.tags[a.arn("subnetgroup", g.name)] = g, in.Tags
	return &elasticache.CreateCacheSubnetGroupOutput{CacheSubnetGroup: a.describeSubnetGroup(g)}, nil
}

// describeSubnetGroup describes a subnet group as AWS does.
func (a *account) describeSubnetGroup(g *subnetGroup) *types.CacheSubnetGroup {
	d := &types.CacheSubnetGroup{
		ARN: aws.String(a.arn("subnetgroup", g.name)), CacheSubnetGroupName: aws.String(g.name), CacheSubnetGroupDescription: aws.String(g.description),
		VpcId: aws.String("vpc-0"), SupportedNetworkTypes: []types.NetworkType{types.NetworkTypeIpv4},
	}
	for i, id := range g.subnets {
		d.Subnets = append(d.Subnets, types.Subnet{
			SubnetIdentifier: aws.String(id), SubnetAvailabilityZone: &types.AvailabilityZone{Name: aws.String(a.region + string("abc"[i%3]))},
			SupportedNetworkTypes: []types.NetworkType{types.NetworkTypeIpv4},
		})
	}
	return d
}

// findSubnetGroup returns the subnet group with a name. The caller holds the lock.
func (a *account) findSubnetGroup(name *string) (*subnetGroup, error) {
	if g := a.subnetGroups[strings.ToLower(aws.ToString(name))]; g != nil {
		return g, nil
	}
	return nil, &types.CacheSubnetGroupNotFoundFault{Message: text("Cache Subnet Group %s does not exist.", aws.ToString(name))}
}

func describeCacheSubnetGroups(a *account, in *elasticache.DescribeCacheSubnetGroupsInput) (*elasticache.DescribeCacheSubnetGroupsOutput, error) {
	out := &elasticache.DescribeCacheSubnetGroupsOutput{CacheSubnetGroups: []types.CacheSubnetGroup{}}
	names := sortedKeys(a.subnetGroups)
	if in.CacheSubnetGroupName != nil {
		g, err := a.findSubnetGroup(in.CacheSubnetGroupName)
		if err != nil {
			return nil, err
		}
		names = []string{g.name}
	}
	for _, name := range names {
		out.CacheSubnetGroups = append(out.CacheSubnetGroups, *a.describeSubnetGroup(a.subnetGroups[name]))
	}
	return out, nil
}

func modifyCacheSubnetGroup(a *account, in *elasticache.ModifyCacheSubnetGroupInput) (*elasticache.ModifyCacheSubnetGroupOutput, error) {
	g, err := a.findSubnetGroup(in.CacheSubnetGroupName)
	if err != nil {
		return nil, err
	}
	if in.SubnetIds != nil {
		if err := validateSubnets(in.SubnetIds); err != nil {
			return nil, err
		}
		g.subnets = in.SubnetIds
	}
	set(&g.description, in.CacheSubnetGroupDescription)
	return &elasticache.ModifyCacheSubnetGroupOutput{CacheSubnetGroup: a.describeSubnetGroup(g)}, nil
}

func deleteCacheSubnetGroup(a *account, in *elasticache.DeleteCacheSubnetGroupInput) (*elasticache.DeleteCacheSubnetGroupOutput, error) {
	subnets, err := a.findSubnetGroup(in.CacheSubnetGroupName)
	if err != nil {
		return nil, err
	}
	for _, g := range a.groups {
		if g.subnetGroup == subnets.name {
			return nil, &types.CacheSubnetGroupInUse{Message: text("Cache subnet group %s is currently in use by a cache cluster.", subnets.name)}
		}
	}
	delete(a.subnetGroups, subnets.name)
	delete(a.tags, a.arn("subnetgroup", subnets.name))
	return &elasticache.DeleteCacheSubnetGroupOutput{}, nil
}
