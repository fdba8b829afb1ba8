// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"cmp"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// Observed is a cache as it was observed.
type Observed struct {
	// ID of the cache in AWS.
	ID string
	// Group is nil if there is none.
	Group *ack.ReplicationGroup
	// Inspected is a group of somebody that is read for an adoption; nil if there is none.
	Inspected *ack.ReplicationGroup
	// Secret holds the token and what is on record about it; nil if there is none.
	Secret *corev1.Secret
	// Users are the revisions whose pods use the cache, the stable one first.
	Users []user
	// Dependencies are all objects of ACK's kinds that the FlagCache has.
	Dependencies []observed.Object
}

// user is a revision whose pods use the cache.
type user struct {
	deployment *appsv1.Deployment
	// connection of its pods; known is false where no Secret holds it unchanged.
	connection connection.Connection
	known      bool
}

// observe collects what was observed of a cache.
func observe(x *observed.Index, n names) Observed {
	o := Observed{ID: n.aws}
	o.Secret, _ = observed.Get[*corev1.Secret](x, n.secret())
	if g, ok := observed.Get[*ack.ReplicationGroup](x, n.object()); ok {
		if inspects(g) && !n.mayTake(x, g) {
			o.Inspected = g
		} else {
			o.Group = g
		}
	}
	for _, child := range x.Owned {
		if ack.Is(child) {
			o.Dependencies = append(o.Dependencies, child)
		}
	}
	for _, d := range x.Revisions {
		if identityOf(d) == n.id {
			u := user{deployment: d}
			u.connection, u.known = connection.Of(x, d)
			o.Users = append(o.Users, u)
		}
	}
	rank := func(u user) int {
		if u.deployment == x.Revisions[x.Stable] {
			return 0
		}
		return 1
	}
	slices.SortFunc(o.Users, func(a, b user) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.deployment.Name, b.deployment.Name))
	})
	return o
}

// identityOf is the identity of the cache that a revision's pods use, "" for one
// that is not ElastiCache's.
func identityOf(d *appsv1.Deployment) string {
	return d.Spec.Template.Annotations[v1alpha1.AnnotationCache]
}

// token is the token on record, empty before a Secret was observed to hold it: it is not
// used before.
func (o Observed) token() secret.String {
	if o.Secret == nil {
		return secret.String{}
	}
	return secret.New(string(o.Secret.Data[TokenKey]))
}

// lastGood is the connection of the revision that uses the cache, the stable one
// first; nil if there is none.
func (o Observed) lastGood() *connection.Connection {
	for _, u := range o.Users {
		if u.known {
			return &u.connection
		}
	}
	return nil
}

// An adoption first has ACK read the group that AWS has, without the right to change or
// delete it:
//
//	AlreadyExists ──▶ read-only ReplicationGroup: ACK writes AWS' tags into its spec ──▶
//	tags name this FlagCache, or the policy permits it ──▶ the group's own spec, no longer
//	read-only ──▶ what the group refers to is adopted
//
// ACK reads the tags of groups only. What a group refers to has IDs that derive from its
// own, which nobody else can have as long as the group exists.

// inspection is the object by which ACK reads a group. It has no tags, so that those it has
// later are AWS'.
func (d desired) inspection(at time.Time) *ack.ReplicationGroup {
	g := d.renderGroup(ack.ReplicationGroupSpec{ReplicationGroupID: &d.aws, Description: ptr.To(d.owner())}, change{At: toSecond(at)})
	delete(g.Annotations, v1alpha1.AnnotationRetained)
	maps.Copy(g.Annotations, map[string]string{
		ack.AnnotationAdoptionPolicy: ack.Adopt,
		ack.AnnotationAdoptionFields: observed.ToJSON(map[string]string{"replicationGroupID": d.aws}),
		ack.AnnotationReadOnly:       "true",
		ack.AnnotationDeletionPolicy: ack.DeletionRetain,
	})
	return g
}

// inspects reports whether an object is an inspection.
func inspects(o observed.Object) bool {
	return o.GetAnnotations()[ack.AnnotationReadOnly] == "true" && o.GetAnnotations()[ack.AnnotationAdoptionPolicy] == ack.Adopt
}

// read reports whether ACK has written what AWS has into an inspection.
func read(g *ack.ReplicationGroup) bool {
	return g.Annotations[ack.AnnotationAdopted] == "true" && len(g.Finalizers) > 0 && g.Spec.CacheNodeType != nil
}

// mayTake reports whether an inspected group may be taken over.
func (n names) mayTake(x *observed.Index, g *ack.ReplicationGroup) bool {
	ours := x.Operator.ClusterID != "" && tagOf(g, tagCluster) == x.Operator.ClusterID &&
		tagOf(g, tagNamespace) == n.fc.Namespace && tagOf(g, tagName) == n.fc.Name
	return n.adopts() && g.DeletionTimestamp == nil && read(g) && (ours || x.AdoptionPermitted)
}

// inspectable reports whether a group in AWS is to be read for an adoption: its ID is taken,
// or that of something that it refers to.
func inspectable(c planned) bool {
	if !c.adopts() || c.seen.Inspected != nil {
		return false
	}
	if c.seen.Group != nil {
		return c.seen.Group.DeletionTimestamp == nil && taken(c.seen.Group)
	}
	if c.trusted || c.deps.waiting == nil {
		return false
	}
	waiting := c.seen.dependency(c.deps.waiting)
	return waiting != nil && taken(waiting)
}

// tagOf is the value of a tag of a group, "" for none.
func tagOf(g *ack.ReplicationGroup, key string) string {
	if g == nil {
		return ""
	}
	for _, tag := range g.Spec.Tags {
		if tag != nil && ack.Value(tag.Key) == key {
			return ack.Value(tag.Value)
		}
	}
	return ""
}

// nodes is the number of nodes that AWS names.
func (o Observed) nodes() int32 {
	if o.Group == nil {
		return 0
	}
	return int32(len(o.Group.Status.MemberClusters))
}

// state is AWS' name for the state of the group.
func (o Observed) state() string {
	if o.Group == nil || ack.GroupState(o.Group) == "" {
		return cache.StateProvisioning
	}
	return ack.GroupState(o.Group)
}

// dependency is the observed object of the same kind and name, nil where there is
// none.
func (o Observed) dependency(desired observed.Object) observed.Object {
	for _, d := range o.Dependencies {
		if observed.Same(d, desired) {
			return d
		}
	}
	return nil
}

// exists reports whether AWS has an object. ACK.ResourceSynced does not suffice: it
// is also True for what AWS has and is not ours.
func (o Observed) exists(desired observed.Object) bool {
	d := o.dependency(desired)
	return d != nil && ack.ConditionsOf(d).Is(ack.ConditionSynced) && RefusalOf(ack.ConditionsOf(d)).Reason == ""
}

// ofAnother reports whether the group's object is about another group, because somebody
// changed its ID. ACK creates that group, and its endpoint must not be taken for the
// cache's.
func (o Observed) ofAnother() bool { return o.otherID() != o.ID }

// otherID is the ID that the group's object names, or its status is about; the cache's if
// it has no other.
func (o Observed) otherID() string {
	if id := ack.Value(o.Group.Spec.ReplicationGroupID); id != o.ID {
		return id
	}
	return cmp.Or(ack.GroupID(o.Group), o.ID)
}

// usable reports whether the group serves. At first that takes every condition that
// ACK has; a group in use stays usable through whatever AWS does to it.
func (o Observed) usable() bool {
	if o.Group == nil || ack.PrimaryEndpoint(o.Group) == nil || o.ofAnother() {
		return false
	}
	state := ack.GroupState(o.Group)
	if len(o.Users) > 0 {
		return state != ack.GroupCreating && state != ack.GroupDeleting
	}
	return state == ack.GroupAvailable && ack.ConditionsOf(o.Group).Is(ack.ConditionReady)
}
