// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// dependencies are what a group refers to.
type dependencies struct {
	objects []observed.Object
	// waiting is the first object that the group has to wait for, nil where there is
	// none: what is created in order exists sooner than what ACK waits for by itself.
	waiting observed.Object
	// parametersReady: AWS has the parameter group that the spec needs.
	parametersReady  bool
	securityGroupIDs []string
}

// need adds an object, unless it is to be deleted and created again, and waits until
// AWS has it.
func (deps *dependencies) need(x *observed.Index, d desired, seen Observed, o observed.Object) {
	if !recreated(x, d, seen, o) {
		deps.objects = append(deps.objects, synchronized(x, o, seen.dependency(o)))
	}
	if deps.waiting == nil && !seen.exists(o) {
		deps.waiting = o
	}
}

// planDependencies renders what the group refers to.
func planDependencies(x *observed.Index, d desired, seen Observed) dependencies {
	deps := dependencies{parametersReady: true}
	if len(d.spec.SubnetIDs) > 0 {
		deps.need(x, d, seen, d.subnetGroup())
	}
	if len(d.spec.Parameters) > 0 {
		parameters := d.parameterGroup()
		deps.need(x, d, seen, parameters)
		deps.parametersReady = seen.exists(parameters)
	}
	if d.usesIAM() {
		deps.needUsers(x, d, seen)
	}
	deps.needSecurityGroups(x, d, seen)
	return deps
}

// refused reports whether AWS refuses one of the objects.
func (deps *dependencies) refused(seen Observed) bool {
	return slices.ContainsFunc(deps.objects, func(desired observed.Object) bool {
		o := seen.dependency(desired)
		return o != nil && RefusalOf(ack.ConditionsOf(o)).Reason != ""
	})
}

// recreated reports whether an object that AWS has already is to be deleted and created
// again: the group does not use it.
func recreated(x *observed.Index, d desired, seen Observed, desired observed.Object) bool {
	o := seen.dependency(desired)
	if o == nil || o.GetDeletionTimestamp() != nil {
		return false
	}
	again := beingDeleted(x, o) && x.Since(ack.ConditionsOf(o).LastSyncTime().Time) >= retryInterval
	return adoptable(d, o) || again && (seen.Group == nil || unused(x, d, o))
}

// unused reports whether an existing group does not use an object yet: the parameters of
// another engine, and a user with another password, are created beside those in use.
func unused(x *observed.Index, d desired, o observed.Object) bool {
	switch o.(type) {
	case *ack.CacheParameterGroup, *ack.User:
		return len(safeToDelete(x, d.names, []observed.Object{o})) > 0
	default:
		return false
	}
}

// beingDeleted reports whether AWS may be deleting the object that it still has. ACK
// treats users and user groups as deleted when AWS begins to delete them, so a
// FlagCache that was deleted and is created again meets its own, and ACK does not
// retry.
func beingDeleted(x *observed.Index, o observed.Object) bool {
	return taken(o) && x.Since(x.FlagCache.CreationTimestamp.Time) < refusedRetry
}

// retryInterval is how soon to reconcile again where a clock decides and no watch
// notifies.
const retryInterval = 30 * time.Second

// needSecurityGroups takes the user's security groups, or creates one in the VPC.
// Without ACK's ec2-controller there is none, and the VPC's default one applies:
// that does not stop the cache.
func (deps *dependencies) needSecurityGroups(x *observed.Index, d desired, seen Observed) {
	for _, id := range d.spec.SecurityGroupIDs {
		deps.securityGroupIDs = append(deps.securityGroupIDs, string(id))
	}
	if len(deps.securityGroupIDs) == 0 && seen.Group != nil {
		deps.securityGroupIDs = ack.Values(seen.Group.Spec.SecurityGroupIDs) // ACK removes none
	}
	if d.spec.VPCID == "" || !x.ACK["SecurityGroup"] {
		return
	}
	desired := d.securityGroup()
	deps.objects = append(deps.objects, synchronized(x, desired, seen.dependency(desired)))
	existing, ok := seen.dependency(desired).(*ack.SecurityGroup)
	switch {
	case ok && ack.Value(existing.Status.ID) != "":
		deps.securityGroupIDs = []string{*existing.Status.ID}
	case seen.Group == nil && deps.waiting == nil:
		deps.waiting = desired
	}
}

// needUsers adds the users and their group. A group of Redis OSS must have a user
// named default; ours has no rights, so that nobody can connect without a name. One of
// Valkey needs none and takes no user without a password
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Clusters.RBAC.html).
// An existing group keeps its users until AWS has the others.
func (deps *dependencies) needUsers(x *observed.Index, d desired, seen Observed) {
	users := d.users(environments(d.fc, seen.Users))
	group := d.renderUserGroup(users)
	for _, user := range users {
		deps.need(x, d, seen, user)
	}
	existing, ok := seen.dependency(group).(*ack.UserGroup)
	if ok && slices.ContainsFunc(users, func(user *ack.User) bool { return !seen.exists(user) }) {
		group.Spec.UserIDs = existing.Spec.UserIDs
	}
	if deps.waiting == nil || seen.Group != nil || ok {
		deps.need(x, d, seen, group)
	}
}

// subnetGroupName is the user's or ours; without one AWS takes its default, which
// ACK does not write back.
func (d desired) subnetGroupName() string {
	switch {
	case d.spec.SubnetGroupName != "":
		return d.spec.SubnetGroupName
	case len(d.spec.SubnetIDs) > 0:
		return d.aws
	default:
		return ""
	}
}

func (d desired) subnetGroup() *ack.CacheSubnetGroup {
	group := &ack.CacheSubnetGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "CacheSubnetGroup"},
		ObjectMeta: d.retainableMeta(d.object()),
		Spec: ack.CacheSubnetGroupSpec{
			CacheSubnetGroupName:        ptr.To(d.aws),
			CacheSubnetGroupDescription: ptr.To(d.owner()),
			Tags:                        d.tags(),
		},
	}
	for _, id := range d.spec.SubnetIDs {
		group.Spec.SubnetIDs = append(group.Spec.SubnetIDs, ptr.To(string(id)))
	}
	return group
}

// securityGroup admits the clients' security groups on Redis' port, and no one
// else. AWS identifies it by an ID of its own, by which alone one could be adopted,
// so a FlagCache that adopts a group creates another security group.
func (d desired) securityGroup() *ack.SecurityGroup {
	port := ptr.To[int64](connection.DefaultPort)
	rule := &ack.IPPermission{IPProtocol: ptr.To("tcp"), FromPort: port, ToPort: port}
	for _, id := range d.spec.ClientSecurityGroupIDs {
		rule.UserIDGroupPairs = append(rule.UserIDGroupPairs, &ack.UserIDGroupPair{GroupID: ptr.To(string(id))})
	}
	return &ack.SecurityGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.EC2.String(), Kind: "SecurityGroup"},
		ObjectMeta: d.retainableMeta(d.object()),
		Spec: ack.SecurityGroupSpec{
			Name:         ptr.To(d.aws + "-" + observed.Fingerprint(d.fc.UID)),
			Description:  ptr.To(d.owner()),
			VPCID:        ptr.To(d.spec.VPCID),
			IngressRules: []*ack.IPPermission{rule},
			Tags:         securityGroupTags(d.tags()),
		},
	}
}

// securityGroupTags are tags as EC2's API has them.
func securityGroupTags(tags []*ack.Tag) []*ack.SecurityGroupTag {
	return ack.Map(tags, func(tag *ack.Tag) *ack.SecurityGroupTag { return &ack.SecurityGroupTag{Key: tag.Key, Value: tag.Value} })
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
	return d.aws + familySuffix(d.spec)
}

func (d desired) parameterGroup() *ack.CacheParameterGroup {
	group := &ack.CacheParameterGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "CacheParameterGroup"},
		ObjectMeta: d.retainableMeta(d.object() + familySuffix(d.spec)),
		Spec: ack.CacheParameterGroupSpec{
			CacheParameterGroupName:   ptr.To(d.parameterGroupName()),
			CacheParameterGroupFamily: ptr.To(family(d.spec)),
			Description:               ptr.To(d.owner()),
			Tags:                      d.tags(),
		},
	}
	for _, name := range slices.Sorted(maps.Keys(d.spec.Parameters)) {
		group.Spec.ParameterNameValues = append(group.Spec.ParameterNameValues,
			&ack.ParameterNameValue{ParameterName: &name, ParameterValue: ptr.To(string(d.spec.Parameters[name]))})
	}
	return group
}
