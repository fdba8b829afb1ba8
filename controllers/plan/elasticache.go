// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// An ElastiCache cache is one identity of what cannot be changed in place, and
// everything that has it as the label flagcache.dev/cache:
//
//	Secret ──▶ subnet, parameter and security group, users ──▶ ReplicationGroup ──▶ alarms
//	                                                                │ endpoint
//	                              probe with exactly these bytes ◀──┘
//	                                   │ succeeded
//	                                   ▼
//	                         connection of a candidate revision
//
// A spec that asks for another identity gets a second cache beside the first. The
// revision that uses it is tried by a canary like every other; whichever cache no
// revision uses any more goes.

// planElastiCache plans the cache that the spec asks for. Others that exist are
// kept or taken down by obsolete.
func planElastiCache(s *observed.Index) cachePart {
	c := seeCache(s, cacheIdentity(s.FlagCache))
	part := cachePart{engine: c.engineWords(), nodes: c.nodes(), state: c.state(), identity: c.id, group: c.group}
	part.provisioned = c.judge()
	part.cost = c.cost()
	switch {
	case c.missing() != nil:
		part.later = c.observed()
		return c.withLastGood(part)
	case c.rejected():
		return servingCache(s, part)
	}
	if part.cost.held && c.group == nil {
		part.provisioned = c.not(part.cost.budget.Reason, "%s", part.cost.budget.Message)
	}
	c.plan(&part)
	c.connect(&part)
	return part
}

// elastiCache is a cache as it was seen.
type elastiCache struct {
	s    *observed.Index
	fc   *v1alpha1.FlagCache
	spec *v1alpha1.ElastiCacheSpec
	// id is the cache's identity.
	id string
	// secret holds its token and what is on record about it, nil before it was seen.
	secret *corev1.Secret
	group  *ack.ReplicationGroup
}

func seeCache(s *observed.Index, id string) elastiCache {
	c := elastiCache{s: s, fc: s.FlagCache, spec: s.FlagCache.Spec.Cache.ElastiCache, id: id}
	c.secret, _ = observed.Get[*corev1.Secret](s, c.secretName())
	c.group, _ = observed.Get[*ack.ReplicationGroup](s, c.name())
	return c
}

// cacheIdentity is a hash of whatever makes it another cache. IDs in AWS end in
// it, so two namespaces or names never share a cache, and a FlagCache that is made
// again finds the one that was retained.
func cacheIdentity(fc *v1alpha1.FlagCache) string {
	e := fc.Spec.Cache.ElastiCache
	subnets := make([]string, 0, len(e.SubnetIDs))
	for _, id := range e.SubnetIDs {
		subnets = append(subnets, string(id))
	}
	slices.Sort(subnets)
	key := ""
	if e.AtRestEncryption != nil {
		key = e.AtRestEncryption.KMSKeyID
	}
	parts := []string{
		fc.Namespace, fc.Name, string(e.Engine), e.SubnetGroupName, strings.Join(subnets, ","), e.VPCID,
		key, string(e.TransitEncryption), string(e.Authentication.Type), e.Region,
	}
	if tiered(e.NodeType) {
		parts = append(parts, "data tiering")
	}
	// AWS turns daily snapshots on only where it is told of which node they are to be
	// taken, and ACK tells it of the one that AWS chose for a group that began with them
	// (https://github.com/aws-controllers-k8s/community/issues/1846).
	if e.Snapshots != nil {
		parts = append(parts, "daily snapshots")
	}
	return observed.Fingerprint("", parts...)
}

// tiered tells whether nodes of a type keep part of their data on a disk. AWS makes
// those of the family r6gd only so, others never, and changes no group from one to
// the other (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/data-tiering.html).
func tiered(nodeType string) bool {
	family, _, _ := strings.Cut(strings.TrimPrefix(nodeType, "cache."), ".")
	return strings.HasSuffix(family, "gd")
}

// name of the cache's objects in Kubernetes.
func (c elastiCache) name() string { return observed.RevisionName(c.fc, c.id) }

func (c elastiCache) secretName() string { return cacheSecretName(c.fc, c.id) }

func cacheSecretName(fc *v1alpha1.FlagCache, id string) string { return fc.Name + "-cache-" + id }

// awsID is the name of the cache in AWS: at most 40 lower-case characters, which
// begin with a letter, and no two hyphens in a row
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_CreateReplicationGroup.html).
// AWS answers in lower case, so another spelling would be written back by ACK.
func (c elastiCache) awsID() string {
	return c.nameInAWS("fc", c.id)
}

// nameInAWS is the FlagCache's namespace and name, as far as there is room for them,
// between what tells names apart.
func (c elastiCache) nameInAWS(prefix, suffix string) string {
	most := 40 - len(prefix) - len(suffix) - len("--")
	words := strings.FieldsFunc(c.fc.Namespace+"-"+c.fc.Name, func(r rune) bool { return r == '-' })
	readable := strings.Join(words, "-")
	if len(readable) > most {
		readable = strings.TrimRight(readable[:most], "-")
	}
	return prefix + "-" + readable + "-" + suffix
}

// meta is the metadata of one of the cache's objects.
func (c elastiCache) meta(name string) metav1.ObjectMeta {
	meta := observed.ChildMeta(c.fc, name, v1alpha1.ComponentCache)
	meta.Labels[v1alpha1.LabelCache] = c.id
	meta.Annotations = map[string]string{}
	if c.spec.Region != "" {
		meta.Annotations[ack.AnnotationRegion] = c.spec.Region
	}
	if c.adopts() {
		meta.Annotations[ack.AnnotationAdoptionPolicy] = ack.AdoptOrCreate
	}
	return meta
}

// lastingMeta is the metadata of what stays in AWS with deletionPolicy Retain, which
// is all but alarms. ACK judges by the mark whoever deletes the object, such as a
// namespace that goes, so it is there from the beginning.
func (c elastiCache) lastingMeta(name string) metav1.ObjectMeta {
	meta := c.meta(name)
	if retains(c.fc) {
		mark(meta.Annotations)
	}
	return meta
}

// adopts tells whether a person lets the FlagCache take over what AWS has.
func (c elastiCache) adopts() bool {
	return c.fc.Annotations[v1alpha1.AnnotationAdopt] == c.awsID()
}

func (c elastiCache) engineWords() string {
	return strings.ToLower(string(c.spec.Engine)) + " " + c.spec.EngineVersion
}

func (c elastiCache) nodes() int32 {
	if c.group == nil {
		return 0
	}
	return int32(len(c.group.Status.MemberClusters))
}

// state is AWS' own word.
func (c elastiCache) state() string {
	if c.group == nil || c.group.Status.State == "" {
		return stateProvisioning
	}
	return c.group.Status.State
}

// needed are the kinds without which there is no cache.
func (c elastiCache) needed() []string {
	kinds := []string{"ReplicationGroup"}
	if len(c.spec.SubnetIDs) > 0 {
		kinds = append(kinds, "CacheSubnetGroup")
	}
	if len(c.spec.Parameters) > 0 {
		kinds = append(kinds, "CacheParameterGroup")
	}
	if c.usesIAM() {
		kinds = append(kinds, "User", "UserGroup")
	}
	return kinds
}

// missing is the first kind that is needed and not installed.
func (c elastiCache) missing() *ack.Kind {
	needed := c.needed()
	for _, k := range ack.Kinds() {
		if slices.Contains(needed, k.Kind) && !c.s.ACK[k.Kind] {
			return &k
		}
	}
	return nil
}

func (c elastiCache) usesIAM() bool {
	return c.spec.Authentication.Type == v1alpha1.AuthenticationIAM
}

func (c elastiCache) usesToken() bool {
	return c.spec.Authentication.Type == v1alpha1.AuthenticationToken
}

// users are the revisions whose pods use the cache.
func (c elastiCache) users() []*appsv1.Deployment {
	var users []*appsv1.Deployment
	for _, d := range c.s.Revisions {
		if cacheOf(d) == c.id {
			users = append(users, d)
		}
	}
	slices.SortFunc(users, func(a, b *appsv1.Deployment) int { return cmp.Compare(a.Name, b.Name) })
	return users
}

// cacheOf is the identity of the cache that a revision's pods use, "" for one that
// is not ElastiCache's.
func cacheOf(d *appsv1.Deployment) string {
	return d.Spec.Template.Annotations[v1alpha1.AnnotationCache]
}

// rejected tells whether the cache was rolled back with the revision that was to
// use it. It stays away until the spec asks for something else, or a person says
// retry. A cache that a revision uses is none of that.
func (c elastiCache) rejected() bool {
	if len(c.users()) > 0 {
		return false
	}
	_, rejected := rejectedIntent(c.s)
	return rejected || c.group == nil && unreadableIntent(c.s) != ""
}

// cost of every group that there is and of the one that is wanted. While one
// replaces another both are paid for.
func (c elastiCache) cost() costPart {
	var current, wanted []billedGroup
	for _, group := range observed.All[*ack.ReplicationGroup](c.s) {
		billed := billedAsSeen(group)
		current = append(current, billed)
		if group.Name != c.name() || c.rejected() {
			wanted = append(wanted, billed)
		}
	}
	if !c.rejected() {
		wanted = append(wanted, c.billed())
	}
	return planCost(c.s, current, wanted)
}

// billed is the group that the spec asks for.
func (c elastiCache) billed() billedGroup {
	b := billedGroup{engine: c.spec.Engine, nodeType: c.spec.NodeType, nodes: c.spec.Replicas + 1, region: c.region()}
	if c.spec.Snapshots != nil {
		b.snapshotDays = c.spec.Snapshots.RetentionDays
	}
	return b
}

// billedAsSeen is a group that there is.
func billedAsSeen(group *ack.ReplicationGroup) billedGroup {
	b := billedGroup{
		engine: v1alpha1.EngineRedis, nodeType: group.Spec.CacheNodeType,
		nodes: int32(group.Spec.ReplicasPerNodeGroup) + 1, region: regionOf(group), snapshotDays: int32(group.Spec.SnapshotRetentionLimit),
	}
	if group.Spec.Engine == strings.ToLower(string(v1alpha1.EngineValkey)) {
		b.engine = v1alpha1.EngineValkey
	}
	return b
}

// regionOf a group, "" while AWS has not said and the spec does not either.
func regionOf(group *ack.ReplicationGroup) string {
	if region := group.Annotations[ack.AnnotationRegion]; region != "" {
		return region
	}
	if meta := group.Status.ACKResourceMetadata; meta != nil {
		return meta.Region
	}
	return ""
}

// servingCache fills in how the cache of the revision that serves is, where the one
// that the spec asks for was rejected.
func servingCache(s *observed.Index, part cachePart) cachePart {
	d := s.Revisions[s.Stable]
	if d == nil || cacheOf(d) == "" {
		return part
	}
	c := seeCache(s, cacheOf(d))
	part.state, part.nodes, part.group = c.state(), c.nodes(), c.group
	return part
}

// connect finds out how clients reach the cache. A connection counts from the
// first probe on that succeeded with exactly its bytes; until then, and whenever
// AWS says less than it did, the last good one stands.
func (c elastiCache) connect(part *cachePart) {
	connection, ok := c.connection()
	if ok && c.verified(connection) {
		part.connection = &connection
		if !c.onRecord(connection) {
			// If it cannot be written now, the answer must still be there at the next look.
			part.next = c.probed(connection)
		}
		return
	}
	*part = c.withLastGood(*part)
	if ok {
		part.next = c.probed(connection)
	}
	if part.provisioned.Status == metav1.ConditionTrue && part.connection == nil {
		part.provisioned = conditions.False(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonVerifying,
			"ReplicationGroup %s is available and does not answer the probe yet%s", c.name(), c.nextTrouble(part.next))
	}
}

// nextTrouble says what the probe of a connection that is not verified found.
func (c elastiCache) nextTrouble(next *connection.Connection) string {
	if next == nil || c.s.NextProbe.Of != next.Hash(c.fc.UID) || c.s.NextProbe.Message == "" {
		return ""
	}
	return ": " + c.s.NextProbe.Message
}

// connection is what AWS says, with the token on record.
func (c elastiCache) connection() (connection.Connection, bool) {
	if c.group == nil || c.group.DeletionTimestamp != nil || !c.usable() || !c.secretSuffices() {
		return connection.Connection{}, false
	}
	endpoint := c.group.PrimaryEndpoint()
	connection := connection.Connection{
		Provider: providerElastiCache,
		Host:     endpoint.Address,
		Port:     int(endpoint.Port),
		TLS:      c.spec.TransitEncryption == v1alpha1.TransitEncryptionRequired,
	}
	if connection.TLS {
		connection.CA = c.s.Operator.ElastiCacheCA
	}
	switch {
	case c.usesToken():
		connection.Password = c.token()
	case c.usesIAM():
		connection.Username, connection.IAMCache, connection.IAMRegion = c.iamUser(), c.awsID(), c.region()
	}
	return connection, true
}

const providerElastiCache = "elasticache"

// region is the spec's, else where AWS made the group, else where ACK makes those
// that name none.
func (c elastiCache) region() string {
	switch {
	case c.spec.Region != "":
		return c.spec.Region
	case c.group != nil:
		return regionOf(c.group)
	}
	for _, other := range observed.All[*ack.ReplicationGroup](c.s) {
		if other.Annotations[ack.AnnotationRegion] == "" {
			return regionOf(other)
		}
	}
	return ""
}

// verified says that a probe succeeded with exactly these bytes. It is on record in
// the connection's own Secret, which is not written before.
func (c elastiCache) verified(connection connection.Connection) bool {
	return c.onRecord(connection) || c.s.NextProbe.Health == observed.Healthy && c.s.NextProbe.Of == c.probed(connection).Hash(c.fc.UID)
}

func (c elastiCache) onRecord(connection connection.Connection) bool {
	_, ok := observed.Get[*corev1.Secret](c.s, observed.PrivateConnectionName(c.fc, connection.Hash(c.fc.UID)))
	return ok
}

// probed is the connection as the operator's probe uses it. Pods that log in by IAM
// do so with AWS credentials that the operator has not, so it has a user of its
// own, who may touch the probe's key and nothing else.
func (c elastiCache) probed(connection connection.Connection) *connection.Connection {
	if c.usesIAM() {
		connection.Username, connection.Password = probeUser(c.fc, c.token()), c.token()
		connection.IAMCache, connection.IAMRegion = "", ""
	}
	return &connection
}

// withLastGood gives the part the connection of the revision that uses the cache,
// the one that serves first.
func (c elastiCache) withLastGood(part cachePart) cachePart {
	users := c.users()
	stable := c.s.Stable
	slices.SortStableFunc(users, func(a, b *appsv1.Deployment) int {
		return cmp.Compare(served(b, stable), served(a, stable))
	})
	for _, d := range users {
		if connection, ok := connection.Of(c.s, d); ok {
			part.connection = &connection
			return part
		}
	}
	return part
}

func served(d *appsv1.Deployment, stable string) int {
	if d.Labels[v1alpha1.LabelRevision] == stable {
		return 1
	}
	return 0
}
