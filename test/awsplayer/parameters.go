// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
)

// parameterGroup is a set of parameters of the engine.
type parameterGroup struct {
	name, family, description string
	// values are those that differ from the defaults.
	values map[string]string
}

// engineParameter is a parameter of the engine. Allowed is a range, as 0-100, a list of
// values, or "" for any.
type engineParameter struct {
	name, value, kind, allowed string
	fixed                      bool
}

// engineParameters are some of the parameters of Redis OSS 7 and Valkey
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html).
var engineParameters = []engineParameter{
	{name: "activedefrag", value: "no", kind: "string", allowed: "yes,no"},
	{name: "appendonly", value: "no", kind: "string", allowed: "yes,no", fixed: true},
	{name: "close-on-replica-write", value: "yes", kind: "string", allowed: "yes,no"},
	{name: "cluster-enabled", value: "no", kind: "string", allowed: "yes,no"},
	{name: "databases", value: "16", kind: "integer", allowed: "1-1200000"},
	{name: "lazyfree-lazy-eviction", value: "no", kind: "string", allowed: "yes,no"},
	{name: "lazyfree-lazy-expire", value: "no", kind: "string", allowed: "yes,no"},
	{name: "lfu-decay-time", value: "1", kind: "integer", allowed: "0-1000000"},
	{name: "lfu-log-factor", value: "10", kind: "integer", allowed: "1-1000000"},
	{name: "maxmemory", value: "", kind: "integer", fixed: true},
	{name: "maxmemory-policy", value: "volatile-lru", kind: "string", allowed: "volatile-lru,allkeys-lru,volatile-lfu,allkeys-lfu,volatile-random,allkeys-random,volatile-ttl,noeviction"},
	{name: "maxmemory-samples", value: "3", kind: "integer", allowed: "1-1000000"},
	{name: "min-replicas-to-write", value: "0", kind: "integer", allowed: "0-1000000"},
	{name: "notify-keyspace-events", value: "", kind: "string"},
	{name: "reserved-memory-percent", value: "25", kind: "integer", allowed: "0-100"},
	{name: "slowlog-log-slower-than", value: "10000", kind: "integer", allowed: "-1-1000000000"},
	{name: "slowlog-max-len", value: "128", kind: "integer", allowed: "0-1000000"},
	{name: "tcp-keepalive", value: "300", kind: "integer", allowed: "0-1000000"},
	{name: "timeout", value: "0", kind: "integer", allowed: "0,20-1000000"},
	{name: "tracking-table-max-keys", value: "1000000", kind: "integer", allowed: "1-100000000"},
}

// validateParameter performs the checks of AWS on a value for a parameter.
func validateParameter(name, value string) error {
	i := slices.IndexFunc(engineParameters, func(p engineParameter) bool { return p.name == name })
	if i < 0 {
		return invalidValue("The parameter %s does not exist.", name)
	}
	p := engineParameters[i]
	if p.fixed {
		return invalidValue("The parameter %s cannot be modified.", name)
	}
	if p.allowed == "" {
		return nil
	}
	for allowed := range strings.SplitSeq(p.allowed, ",") {
		if allowed == value || p.kind == "integer" && within(value, allowed) {
			return nil
		}
	}
	return invalidValue("The value %q of the parameter %s is none of %s.", value, name, p.allowed)
}

// within reports whether an integer is in a range, as -1-100.
func within(value, limits string) bool {
	split := strings.LastIndex(limits, "-")
	if split <= 0 {
		return false
	}
	low, errLow := strconv.ParseInt(limits[:split], 10, 64)
	high, errHigh := strconv.ParseInt(limits[split+1:], 10, 64)
	n, err := strconv.ParseInt(value, 10, 64)
	return err == nil && errLow == nil && errHigh == nil && low <= n && n <= high
}

func createCacheParameterGroup(a *account, in *elasticache.CreateCacheParameterGroupInput) (*elasticache.CreateCacheParameterGroupOutput, error) {
	g := &parameterGroup{
		name: strings.ToLower(aws.ToString(in.CacheParameterGroupName)), family: aws.ToString(in.CacheParameterGroupFamily),
		description: aws.ToString(in.Description), values: map[string]string{},
	}
	switch {
	case !groupID.MatchString(g.name) || g.description == "":
		return nil, invalidValue("A parameter group requires a valid name and a description.")
	case !slices.Contains(families, g.family):
		return nil, invalidValue("CacheParameterGroupFamily %s is not a valid parameter group family.", g.family)
	case a.parameterGroups[g.name] != nil:
		return nil, &types.CacheParameterGroupAlreadyExistsFault{Message: text("Parameter group %s already exists.", g.name)}
	}
	a.parameterGroups[g.name], a.tags[a.arn("parametergroup", g.name)] = g, in.Tags
	return &elasticache.CreateCacheParameterGroupOutput{CacheParameterGroup: a.describeParameterGroup(g)}, nil
}

// describeParameterGroup describes a parameter group as AWS does.
func (a *account) describeParameterGroup(g *parameterGroup) *types.CacheParameterGroup {
	return &types.CacheParameterGroup{
		ARN: aws.String(a.arn("parametergroup", g.name)), CacheParameterGroupName: aws.String(g.name),
		CacheParameterGroupFamily: aws.String(g.family), Description: aws.String(g.description), IsGlobal: aws.Bool(false),
	}
}

// findParameterGroup returns the parameter group with a name. The caller holds the lock.
func (a *account) findParameterGroup(name *string) (*parameterGroup, error) {
	if g := a.parameterGroups[strings.ToLower(aws.ToString(name))]; g != nil {
		return g, nil
	}
	return nil, &types.CacheParameterGroupNotFoundFault{Message: text("CacheParameterGroup not found: %s", aws.ToString(name))}
}

// ownParameterGroup returns the parameter group with a name if it is not one of AWS. The
// caller holds the lock.
func (a *account) ownParameterGroup(name *string) (*parameterGroup, error) {
	g, err := a.findParameterGroup(name)
	if err == nil && strings.HasPrefix(g.name, "default.") {
		return nil, &types.InvalidCacheParameterGroupStateFault{Message: text("The default parameter group %s cannot be changed.", g.name)}
	}
	return g, err
}

func describeCacheParameterGroups(a *account, in *elasticache.DescribeCacheParameterGroupsInput) (*elasticache.DescribeCacheParameterGroupsOutput, error) {
	out := &elasticache.DescribeCacheParameterGroupsOutput{CacheParameterGroups: []types.CacheParameterGroup{}}
	names := sortedKeys(a.parameterGroups)
	if in.CacheParameterGroupName != nil {
		g, err := a.findParameterGroup(in.CacheParameterGroupName)
		if err != nil {
			return nil, err
		}
		names = []string{g.name}
	}
	for _, name := range names {
		out.CacheParameterGroups = append(out.CacheParameterGroups, *a.describeParameterGroup(a.parameterGroups[name]))
	}
	return out, nil
}

// describeCacheParameters returns the parameters of a source: user for those that were
// modified, system for the others.
func describeCacheParameters(a *account, in *elasticache.DescribeCacheParametersInput) (*elasticache.DescribeCacheParametersOutput, error) {
	g, err := a.findParameterGroup(in.CacheParameterGroupName)
	if err != nil {
		return nil, err
	}
	out := &elasticache.DescribeCacheParametersOutput{Parameters: []types.Parameter{}}
	for _, p := range engineParameters {
		value, source := p.value, "system"
		if own, ok := g.values[p.name]; ok {
			value, source = own, "user"
		}
		if in.Source != nil && *in.Source != source {
			continue
		}
		out.Parameters = append(out.Parameters, types.Parameter{
			ParameterName: aws.String(p.name), ParameterValue: aws.String(value), Source: aws.String(source), DataType: aws.String(p.kind),
			AllowedValues: optional(p.allowed), IsModifiable: aws.Bool(!p.fixed), ChangeType: types.ChangeTypeImmediate, MinimumEngineVersion: aws.String("5.0.0"),
		})
	}
	return out, nil
}

// maxParameters is the number of parameters that a request can modify.
const maxParameters = 20

func modifyCacheParameterGroup(a *account, in *elasticache.ModifyCacheParameterGroupInput) (*elasticache.ModifyCacheParameterGroupOutput, error) {
	g, err := a.ownParameterGroup(in.CacheParameterGroupName)
	if err != nil {
		return nil, err
	}
	if n := len(in.ParameterNameValues); n == 0 || n > maxParameters {
		return nil, invalidValue("A request modifies 1 to %d parameters.", maxParameters)
	}
	for _, p := range in.ParameterNameValues {
		if err := validateParameter(aws.ToString(p.ParameterName), aws.ToString(p.ParameterValue)); err != nil {
			return nil, err
		}
	}
	for _, p := range in.ParameterNameValues {
		g.values[*p.ParameterName] = aws.ToString(p.ParameterValue)
	}
	return &elasticache.ModifyCacheParameterGroupOutput{CacheParameterGroupName: &g.name}, nil
}

func resetCacheParameterGroup(a *account, in *elasticache.ResetCacheParameterGroupInput) (*elasticache.ResetCacheParameterGroupOutput, error) {
	g, err := a.ownParameterGroup(in.CacheParameterGroupName)
	if err != nil {
		return nil, err
	}
	if aws.ToBool(in.ResetAllParameters) == (len(in.ParameterNameValues) > 0) {
		return nil, invalidCombination("Either ResetAllParameters or ParameterNameValues is required.")
	}
	if aws.ToBool(in.ResetAllParameters) {
		clear(g.values)
	}
	for _, p := range in.ParameterNameValues {
		delete(g.values, aws.ToString(p.ParameterName))
	}
	return &elasticache.ResetCacheParameterGroupOutput{CacheParameterGroupName: &g.name}, nil
}

func deleteCacheParameterGroup(a *account, in *elasticache.DeleteCacheParameterGroupInput) (*elasticache.DeleteCacheParameterGroupOutput, error) {
	parameters, err := a.ownParameterGroup(in.CacheParameterGroupName)
	if err != nil {
		return nil, err
	}
	for _, g := range a.groups {
		if g.current.parameterGroup == parameters.name || g.next.parameterGroup == parameters.name {
			return nil, &types.InvalidCacheParameterGroupStateFault{Message: text("One or more cache clusters are still members of the parameter group %s.", parameters.name)}
		}
	}
	delete(a.parameterGroups, parameters.name)
	delete(a.tags, a.arn("parametergroup", parameters.name))
	return &elasticache.DeleteCacheParameterGroupOutput{}, nil
}
