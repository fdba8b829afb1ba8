// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"cmp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"golang.org/x/mod/semver"

	"github.com/flagcache/flagcache/test/awsplayer/query"
)

// isEmpty reports whether a request modifies nothing.
func isEmpty(in *elasticache.ModifyReplicationGroupInput) bool {
	return !slices.ContainsFunc(query.Set(in), func(name string) bool { return name != "ReplicationGroupId" && name != "ApplyImmediately" })
}

// set sets a setting to the value of a parameter, if the request has it.
func set[T any](setting *T, parameter *T) {
	if parameter != nil {
		*setting = *parameter
	}
}

// modified returns the settings that a request leads to.
func modified(g *group, in *elasticache.ModifyReplicationGroupInput) (settings, error) {
	s := g.current
	set(&s.description, in.ReplicationGroupDescription)
	set(&s.nodeType, in.CacheNodeType)
	set(&s.engine, in.Engine)
	if in.EngineVersion != nil {
		s.engineVersion = fullVersion(*in.EngineVersion)
	}
	set(&s.parameterGroup, in.CacheParameterGroupName)
	if family := familyOf(s.engine, s.engineVersion); in.CacheParameterGroupName == nil && strings.HasPrefix(s.parameterGroup, "default.") {
		s.parameterGroup = "default." + family // AWS' own follows the engine
	}
	set(&s.automaticFailover, in.AutomaticFailoverEnabled)
	set(&s.multiAZ, in.MultiAZEnabled)
	set(&s.autoMinorVersionUpgrade, in.AutoMinorVersionUpgrade)
	set(&s.snapshotWindow, in.SnapshotWindow)
	set(&s.maintenanceWindow, in.PreferredMaintenanceWindow)
	set(&s.notificationTopic, in.NotificationTopicArn)
	set(&s.snapshottingCluster, in.SnapshottingClusterId)
	if in.SnapshotRetentionLimit != nil {
		if g.current.retention == 0 && *in.SnapshotRetentionLimit > 0 && in.SnapshottingClusterId == nil {
			return s, invalidCombination("Must specify both SnapshotRetentionLimit and SnapshottingClusterId to turn on snapshots")
		}
		s.retention = *in.SnapshotRetentionLimit
	}
	s.durability = cmp.Or(in.Durability, s.durability)
	s.ipDiscovery = cmp.Or(in.IpDiscovery, s.ipDiscovery)
	if in.SecurityGroupIds != nil {
		s.securityGroups = in.SecurityGroupIds
	}
	if in.TransitEncryptionEnabled != nil && *in.TransitEncryptionEnabled != g.transit {
		return s, invalidCombination("Encryption in transit cannot be changed in one step.")
	}
	if err := modifyUserGroups(&s, in); err != nil {
		return s, err
	}
	if err := modifyToken(&s, in); err != nil {
		return s, err
	}
	if s.engine == g.current.engine && semver.Compare("v"+s.engineVersion, "v"+g.current.engineVersion) < 0 || s.engine == "redis" && g.current.engine == "valkey" {
		return s, invalidCombination("The engine version cannot be downgraded from %s %s to %s %s.", g.current.engine, g.current.engineVersion, s.engine, s.engineVersion)
	}
	return s, nil
}

func modifyUserGroups(s *settings, in *elasticache.ModifyReplicationGroupInput) error {
	groups := slices.Clone(s.userGroups)
	for _, id := range in.UserGroupIdsToRemove {
		if !slices.Contains(groups, id) {
			return &types.UserGroupNotFoundFault{Message: text("User group %s is not associated with the replication group.", id)}
		}
		groups = slices.DeleteFunc(groups, func(group string) bool { return group == id })
	}
	for _, id := range in.UserGroupIdsToAdd {
		if slices.Contains(groups, id) {
			return invalidValue("User group %s is associated with the replication group already.", id)
		}
		groups = append(groups, id)
	}
	if aws.ToBool(in.RemoveUserGroups) {
		groups = nil
	}
	s.userGroups = groups
	return nil
}

// modifyToken changes the AUTH token by a strategy: ROTATE adds a token and keeps the
// current one, SET makes a token the only one, and DELETE removes it in favour of user
// groups (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth.html).
func modifyToken(s *settings, in *elasticache.ModifyReplicationGroupInput) error {
	token, strategy := aws.ToString(in.AuthToken), in.AuthTokenUpdateStrategy
	switch {
	case strategy == types.AuthTokenUpdateStrategyTypeDelete:
		if token != "" || len(s.userGroups) == 0 {
			return invalidCombination("The AUTH token can be deleted only in a request that adds user groups.")
		}
		s.tokens, s.open = nil, false
	case token == "" && strategy != "":
		return invalidCombination("AuthTokenUpdateStrategy requires AuthToken.")
	case token == "":
		if len(in.UserGroupIdsToAdd) > 0 {
			s.tokens, s.open = nil, false // user groups replace it
		}
	case strategy == types.AuthTokenUpdateStrategyTypeSet:
		if len(s.tokens) == 0 {
			return invalidCombination("An AUTH token must be rotated in before it can be set.")
		}
		if !slices.Contains(s.tokens, token) && len(s.tokens) > 1 {
			return invalidValue("The AUTH token is not one of the current ones.")
		}
		s.tokens, s.open = []string{token}, false
	case strategy != "" && strategy != types.AuthTokenUpdateStrategyTypeRotate:
		return invalidValue("The strategy %s is unknown.", strategy)
	case len(s.tokens) == 0: // clients without a token stay until it is set
		s.tokens, s.open = []string{token}, true
	case s.tokens[0] != token:
		s.tokens = []string{token, s.tokens[0]}
	}
	return nil
}

// validateGroup performs the checks of AWS on the settings of a group. The caller holds
// the lock.
func validateGroup(a *account, g *group, s settings) error {
	tiered := strings.HasPrefix(s.nodeType, "cache.r6gd.")
	for _, token := range s.tokens {
		if len(token) < 16 || len(token) > 128 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return invalidValue("The AUTH token must have 16 to 128 printable characters.")
		}
	}
	switch {
	case s.replicas < 0 || s.replicas > 5:
		return invalidValue("A shard has 0 to 5 replicas.")
	case len(s.tokens) > 0 && !g.transit, len(s.userGroups) > 0 && !g.transit:
		return invalidCombination("Authentication requires encryption in transit.")
	case len(s.tokens) > 0 && len(s.userGroups) > 0:
		return invalidCombination("An AUTH token and user groups exclude each other.")
	case len(s.userGroups) > 1:
		return invalidValue("A replication group has at most one user group.")
	case s.automaticFailover && s.replicas == 0:
		return invalidCombination("Automatic failover requires a replica.")
	case s.multiAZ && !s.automaticFailover:
		return invalidCombination("Multi-AZ requires automatic failover.")
	case tiered != g.dataTiering:
		return invalidCombination("Data tiering is required for nodes of the family r6gd, and not supported for others.")
	case g.kmsKey != "" && !g.atRest:
		return invalidCombination("A KMS key requires encryption at rest.")
	case s.engine != "redis" && s.engine != "valkey":
		return invalidValue("Engine %s is unknown.", s.engine)
	case !semver.IsValid("v" + s.engineVersion):
		return invalidValue("Version %s is unknown.", s.engineVersion)
	case !slices.Contains(nodeTypes, s.nodeType):
		return invalidValue("Invalid Cache Node Type: %s.", s.nodeType)
	case s.retention < 0 || s.retention > 35:
		return invalidValue("Snapshots are retained for 0 to 35 days.")
	}
	return validateReferences(a, g, s)
}

// validateReferences checks that the resources that a group refers to exist and fit. The
// caller holds the lock.
func validateReferences(a *account, g *group, s settings) error {
	if a.subnetGroups[g.subnetGroup] == nil {
		return &types.CacheSubnetGroupNotFoundFault{Message: text("Cache Subnet Group %s does not exist.", g.subnetGroup)}
	}
	parameters := a.parameterGroups[s.parameterGroup]
	if parameters == nil {
		return &types.CacheParameterGroupNotFoundFault{Message: text("CacheParameterGroup not found: %s", s.parameterGroup)}
	}
	if family := familyOf(s.engine, s.engineVersion); parameters.family != family {
		return invalidCombination("Expected a parameter group of family %s but found one of family %s.", family, parameters.family)
	}
	for _, id := range s.userGroups {
		u := a.userGroups[id]
		if u == nil || !u.deletedAt.IsZero() {
			return &types.UserGroupNotFoundFault{Message: text("User group %s not found.", id)}
		}
		if u.status() != statusActive {
			return &types.InvalidUserGroupStateFault{Message: text("User group %s is %s.", id, u.status())}
		}
	}
	return nil
}

// fullVersion is a version with a patch level, as AWS reports it.
func fullVersion(version string) string {
	if strings.Count(version, ".") == 1 {
		return version + ".0"
	}
	return version
}

// families are the families of parameter groups.
var families = []string{"redis5.0", "redis6.x", "redis7", "valkey7", "valkey8", "valkey9"}

// familyOf is the family of the parameter groups for an engine.
func familyOf(engine, version string) string {
	major, minor, _ := strings.Cut(version, ".")
	switch {
	case engine == "redis" && major == "6":
		return "redis6.x"
	case engine == "redis" && major < "6":
		minor, _, _ = strings.Cut(minor, ".")
		return engine + major + "." + minor
	}
	return engine + major
}

// nodeTypes are the types of nodes, in ascending size within a family.
var nodeTypes = func() []string {
	var types []string
	for _, family := range []string{"t2", "t3", "t4g"} {
		for _, size := range []string{"micro", "small", "medium"} {
			types = append(types, "cache."+family+"."+size)
		}
	}
	for _, family := range []string{"m4", "m5", "m6g", "m7g", "r4", "r5", "r6g", "r7g", "r6gd"} {
		for _, size := range []string{"large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge", "24xlarge"} {
			types = append(types, "cache."+family+"."+size)
		}
	}
	return types
}()
