// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// dependencies are what a group refers to.
type dependencies struct {
	objects []observed.Object
	// waiting is the first object that the group has to wait for, nil when there is
	// none: what is made in order is there sooner than what ACK waits for by itself.
	waiting          ack.Object
	securityGroupIDs []string
}

// plan asks for the cache's objects: the Secret first, then what the group refers
// to, then the group. A budget that is exceeded stops before anything is made.
func (c elastiCache) plan(part *cachePart) {
	if part.cost.held {
		part.later = append(part.later, c.observed()...)
		return
	}
	part.objects = append(part.objects, c.cacheSecret())
	if c.discarded() {
		part.later = append(part.later, slices.DeleteFunc(c.observed(), func(o observed.Object) bool { return o == observed.Object(c.group) })...)
		return
	}
	if !c.secretSuffices() || c.forgetsToken() {
		part.later = append(part.later, c.observed()...)
		return
	}
	deps := c.dependencies()
	part.objects = append(part.objects, deps.objects...)
	switch {
	case c.group == nil && (deps.waiting != nil || c.abandoned() || c.pause() > 0):
		part.again = c.pause()
		if deps.waiting != nil {
			part.again = soonest(part.again, cacheRetry)
		}
	default:
		if group := c.plannedGroup(deps); group != nil {
			part.objects = append(part.objects, group)
			part.changing = c.changing(group, deps)
			if part.changing && c.justLooked() {
				part.again = soonest(part.again, apart)
			}
		} else {
			part.later = append(part.later, c.group)
		}
	}
	part.objects = append(part.objects, c.alarms(&part.alarms)...)
	part.again = soonest(part.again, c.lookAgain())
}

// requeueAfter is when a clock decides and no watch tells: the schedule of rotations,
// and whether ACK is silent or AWS is to be asked again.
func (c elastiCache) lookAgain() time.Duration {
	again := c.rotationIn()
	if c.group != nil && !c.settled() {
		again = soonest(again, cacheRetry)
	}
	return again
}

// observed are the cache's objects as they are.
func (c elastiCache) observed() []observed.Object {
	return c.s.OfCache(c.id)
}

func (c elastiCache) dependencies() dependencies {
	var deps dependencies
	if len(c.spec.SubnetIDs) > 0 {
		deps.need(c, c.subnetGroup())
	}
	if len(c.spec.Parameters) > 0 {
		deps.need(c, c.parameterGroup())
	}
	if c.usesIAM() {
		c.needUsers(&deps)
	}
	c.needSecurityGroups(&deps)
	return deps
}

// need asks for an object and waits until AWS has it.
func (d *dependencies) need(c elastiCache, o observed.Object) {
	if !c.remade(o) {
		d.objects = append(d.objects, o)
	}
	if d.waiting == nil && !c.isThere(o) {
		d.waiting = o.(ack.Object)
	}
}

// isThere tells whether AWS has an object. That ACK calls it synced is not enough:
// so it calls what AWS has and is not ours.
func (c elastiCache) isThere(o observed.Object) bool {
	seen := seenLike(c.s, o)
	return seen != nil && seen.ACKStatus().Is(ack.ConditionSynced) && refusalOf(seen.ACKStatus()).reason == ""
}

// remade tells whether an object that AWS refused is to be deleted and made again:
// ACK tries it no more, and before there is a group nothing uses it.
func (c elastiCache) remade(o observed.Object) bool {
	seen := seenLike(c.s, o)
	if seen == nil || c.group != nil || seen.GetDeletionTimestamp() != nil {
		return false
	}
	r, waited := refusalOf(seen.ACKStatus()), c.s.Since(seen.ACKStatus().LastSyncTime().Time)
	return c.adoptable(seen) || r.terminal && r.retryable && waited >= refusedRetry || c.mayGo(seen) && waited >= cacheRetry
}

// mayGo: AWS has the object, perhaps for a moment only. ACK calls users and user
// groups gone when AWS begins to delete them, so a FlagCache that was deleted and is
// made again meets its own, and ACK looks no second time. There is no finalizer on
// what is not ACK's, so AWS keeps what is somebody else's.
func (c elastiCache) mayGo(o ack.Object) bool {
	taken := refusalOf(o.ACKStatus()).reason == v1alpha1.ReasonAlreadyExists && len(o.GetFinalizers()) == 0
	return taken && c.s.Since(c.fc.CreationTimestamp.Time) < refusedRetry
}

// seenLike is an object of ACK's as it was seen, nil where there is none.
func seenLike(s *observed.Index, o observed.Object) ack.Object {
	seen, _ := s.Like(o).(ack.Object)
	return seen
}

// subnetGroupName is the user's or ours; without one AWS takes its default, which
// ACK does not write back.
func (c elastiCache) subnetGroupName() string {
	switch {
	case c.spec.SubnetGroupName != "":
		return c.spec.SubnetGroupName
	case len(c.spec.SubnetIDs) > 0:
		return c.awsID()
	default:
		return ""
	}
}

func (c elastiCache) subnetGroup() *ack.CacheSubnetGroup {
	group := &ack.CacheSubnetGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "CacheSubnetGroup"},
		ObjectMeta: c.lastingMeta(c.name()),
		Spec: ack.CacheSubnetGroupSpec{
			CacheSubnetGroupName:        c.awsID(),
			CacheSubnetGroupDescription: "FlagCache " + c.fc.Namespace + "/" + c.fc.Name,
			Tags:                        c.tags(),
		},
	}
	for _, id := range c.spec.SubnetIDs {
		group.Spec.SubnetIDs = append(group.Spec.SubnetIDs, string(id))
	}
	return group
}

// family of the engine's parameters, such as redis7 and valkey8
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html).
func (c elastiCache) family() string {
	major, minor, _ := strings.Cut(c.spec.EngineVersion, ".")
	family := strings.ToLower(string(c.spec.Engine)) + major
	switch {
	case c.spec.Engine == v1alpha1.EngineRedis && major == "6":
		return family + ".x"
	case c.spec.Engine == v1alpha1.EngineRedis && len(major) == 1 && major < "6":
		minor, _, _ = strings.Cut(minor, ".")
		return family + "." + minor
	default:
		return family
	}
}

// parameterGroupName is ours where the spec has parameters, else AWS' own of the
// family. Ours has the family in its name, because a family cannot be changed.
func (c elastiCache) parameterGroupName() string {
	if len(c.spec.Parameters) == 0 {
		return "default." + c.family()
	}
	return c.awsID() + "-" + strings.ReplaceAll(c.family(), ".", "-")
}

func (c elastiCache) parameterGroup() *ack.CacheParameterGroup {
	group := &ack.CacheParameterGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "CacheParameterGroup"},
		ObjectMeta: c.lastingMeta(c.name() + "-" + strings.ReplaceAll(c.family(), ".", "-")),
		Spec: ack.CacheParameterGroupSpec{
			CacheParameterGroupName:   c.parameterGroupName(),
			CacheParameterGroupFamily: c.family(),
			Description:               "FlagCache " + c.fc.Namespace + "/" + c.fc.Name,
			Tags:                      c.tags(),
		},
	}
	for _, name := range slices.Sorted(maps.Keys(c.spec.Parameters)) {
		group.Spec.ParameterNameValues = append(group.Spec.ParameterNameValues,
			ack.Parameter{ParameterName: name, ParameterValue: string(c.spec.Parameters[name])})
	}
	return group
}

// needSecurityGroups takes the user's security groups, or makes one in the VPC.
// Without ACK's ec2-controller there is none, and the VPC's default one counts:
// that does not stop the cache.
func (c elastiCache) needSecurityGroups(deps *dependencies) {
	for _, id := range c.spec.SecurityGroupIDs {
		deps.securityGroupIDs = append(deps.securityGroupIDs, string(id))
	}
	if len(deps.securityGroupIDs) == 0 && c.group != nil {
		deps.securityGroupIDs = c.group.Spec.SecurityGroupIDs // ACK takes none away
	}
	if c.spec.VPCID == "" || !c.s.ACK["SecurityGroup"] {
		return
	}
	wanted := c.securityGroup()
	deps.objects = append(deps.objects, wanted)
	seen, ok := observed.Get[*ack.SecurityGroup](c.s, wanted.Name)
	switch {
	case ok && seen.Status.ID != "":
		deps.securityGroupIDs = []string{seen.Status.ID}
	case c.group == nil && deps.waiting == nil:
		deps.waiting = wanted
	}
}

// securityGroup lets the clients' security groups in on Redis' port, and nobody
// else. AWS tells them apart by an ID of its own, by which alone one could be
// adopted, so a FlagCache that adopts a group makes itself another.
func (c elastiCache) securityGroup() *ack.SecurityGroup {
	rule := ack.IPPermission{IPProtocol: "tcp", FromPort: connection.DefaultPort, ToPort: connection.DefaultPort}
	for _, id := range c.spec.ClientSecurityGroupIDs {
		rule.UserIDGroupPairs = append(rule.UserIDGroupPairs, ack.UserIDGroupPair{GroupID: string(id)})
	}
	return &ack.SecurityGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.EC2.String(), Kind: "SecurityGroup"},
		ObjectMeta: c.lastingMeta(c.name()),
		Spec: ack.SecurityGroupSpec{
			Name:         c.awsID() + "-" + observed.Fingerprint(c.fc.UID),
			Description:  "FlagCache " + c.fc.Namespace + "/" + c.fc.Name,
			VPCID:        c.spec.VPCID,
			IngressRules: []ack.IPPermission{rule},
			Tags:         c.tags(),
		},
	}
}

// tags are ours and the user's, in the order of their keys. Ours cannot be
// overwritten: costs are told apart by them.
func (c elastiCache) tags() []ack.Tag {
	values := map[string]string{}
	for key, value := range c.spec.Tags {
		values[key] = string(value)
	}
	maps.Copy(values, map[string]string{
		"Service":     c.fc.Name,
		"Feature":     "feature-flags",
		"Environment": c.fc.Spec.Environment,
		"ManagedBy":   "flagcache",
		"FlagCache":   c.fc.Namespace + "/" + c.fc.Name,
	})
	var tags []ack.Tag
	for _, key := range slices.Sorted(maps.Keys(values)) {
		tags = append(tags, ack.Tag{Key: key, Value: values[key]})
	}
	return tags
}
