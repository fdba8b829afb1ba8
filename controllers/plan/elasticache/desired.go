// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Identity is a hash of everything that AWS cannot change in place. IDs in AWS end
// in it, so two namespaces or names never share a cache, and a FlagCache that is
// created again finds the cache that was retained.
func Identity(fc *v1alpha1.FlagCache) string {
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
	// AWS turns daily snapshots on only where the request names the node to take them
	// of, and ACK names the one that AWS chose for a group created with them
	// (https://github.com/aws-controllers-k8s/community/issues/1846).
	if e.Snapshots != nil {
		parts = append(parts, "daily snapshots")
	}
	return observed.Fingerprint("", parts...)
}

// tiered reports whether nodes of a type keep part of their data on a disk. AWS
// creates those of the family r6gd only so, others never, and changes no group from
// one to the other (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/data-tiering.html).
func tiered(nodeType string) bool {
	family, _, _ := strings.Cut(strings.TrimPrefix(nodeType, "cache."), ".")
	return strings.HasSuffix(family, "gd")
}

// names are those of the objects of one cache, in Kubernetes and in AWS.
type names struct {
	fc *v1alpha1.FlagCache
	// id is the cache's identity.
	id string
}

// object is the name of the cache's objects in Kubernetes, or its beginning.
func (n names) object() string { return observed.RevisionName(n.fc, n.id) }

// secret is the name of the Secret that holds the token.
func (n names) secret() string { return n.fc.Name + "-cache-" + n.id }

// aws is the ID of the cache in AWS: at most 40 lower-case characters, which begin
// with a letter, and no two hyphens in a row
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_CreateReplicationGroup.html).
// AWS answers in lower case, and ACK would write any other spelling back.
func (n names) aws() string { return n.inAWS("fc", n.id) }

// inAWS is the FlagCache's namespace and name, as far as there is room for them,
// between a prefix and a suffix that make the ID unique.
func (n names) inAWS(prefix, suffix string) string {
	room := 40 - len(prefix) - len(suffix) - len("--")
	parts := strings.FieldsFunc(n.fc.Namespace+"-"+n.fc.Name, func(r rune) bool { return r == '-' })
	readable := strings.Join(parts, "-")
	if len(readable) > room {
		readable = strings.TrimRight(readable[:room], "-")
	}
	return prefix + "-" + readable + "-" + suffix
}

// userGroup is the ID of the user group.
func (n names) userGroup() string { return n.aws() }

// serviceUser is the flag service's user. For IAM a user's name is its ID
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html).
func (n names) serviceUser() string { return n.aws() }

// defaultUser is the ID of the user named default: one letter instead of the "fc"
// in front.
func (n names) defaultUser() string { return "d" + strings.TrimPrefix(n.aws(), "fc") }

// probeUserID is the ID of the probe's user that has a token as its password.
func (n names) probeUserID(token string) string { return n.inAWS("p", n.id+"-"+tokenMark(n.fc, token)) }

// owner names the FlagCache in descriptions.
func (n names) owner() string { return "FlagCache " + n.fc.Namespace + "/" + n.fc.Name }

// desired is the cache that the spec requests.
type desired struct {
	names
	spec *v1alpha1.ElastiCacheSpec
	// token is the one that the cache's Secret was observed to hold.
	token string
}

// meta is the metadata of one of the cache's objects.
func (d desired) meta(name string) metav1.ObjectMeta {
	meta := observed.ChildMeta(d.fc, name, v1alpha1.ComponentCache)
	meta.Labels[v1alpha1.LabelCache] = d.id
	meta.Annotations = map[string]string{}
	if d.spec.Region != "" {
		meta.Annotations[ack.AnnotationRegion] = d.spec.Region
	}
	if d.adopts() {
		meta.Annotations[ack.AnnotationAdoptionPolicy] = ack.AdoptOrCreate
	}
	return meta
}

// retainableMeta is the metadata of what stays in AWS with deletionPolicy Retain,
// which is everything but alarms. Whoever deletes the object, such as the deletion
// of a namespace, ACK follows the annotation, so it is set from the beginning.
func (d desired) retainableMeta(name string) metav1.ObjectMeta {
	meta := d.meta(name)
	if retains(d.fc) {
		setRetain(meta.Annotations)
	}
	return meta
}

// adopts reports whether the user allows the FlagCache to take over what AWS has.
func (d desired) adopts() bool {
	return d.fc.Annotations[v1alpha1.AnnotationAdopt] == d.aws()
}

// adoptable reports whether AWS has the object and it may be adopted. ACK finds that
// out only for an object that is created again.
func adoptable(d desired, o observed.Object) bool {
	adopted := o.GetAnnotations()[ack.AnnotationAdoptionPolicy] != ""
	return RefusalOf(ack.ConditionsOf(o)).Reason == v1alpha1.ReasonAlreadyExists && d.adopts() && !adopted && len(o.GetFinalizers()) == 0
}

func (d desired) engine() string { return strings.ToLower(string(d.spec.Engine)) }

func (d desired) usesIAM() bool {
	return d.spec.Authentication.Type == v1alpha1.AuthenticationIAM
}

func (d desired) usesToken() bool {
	return d.spec.Authentication.Type == v1alpha1.AuthenticationToken
}

// missingKind is the first kind that the cache needs and that is not installed; nil if
// all are.
func missingKind(d desired, installed map[string]bool) *ack.Kind {
	needed := []string{"ReplicationGroup"}
	if len(d.spec.SubnetIDs) > 0 {
		needed = append(needed, "CacheSubnetGroup")
	}
	if len(d.spec.Parameters) > 0 {
		needed = append(needed, "CacheParameterGroup")
	}
	if d.usesIAM() {
		needed = append(needed, "User", "UserGroup")
	}
	for _, k := range ack.Kinds() {
		if slices.Contains(needed, k.Kind) && !installed[k.Kind] {
			return &k
		}
	}
	return nil
}

// tags are ours and the user's, in the order of their keys. Ours cannot be
// overwritten: costs are attributed by them.
func (d desired) tags() []*ack.Tag {
	values := map[string]string{}
	for key, value := range d.spec.Tags {
		values[key] = string(value)
	}
	maps.Copy(values, map[string]string{
		"Service":     d.fc.Name,
		"Feature":     "feature-flags",
		"Environment": d.fc.Spec.Environment,
		"ManagedBy":   "flagcache",
		"FlagCache":   d.fc.Namespace + "/" + d.fc.Name,
	})
	var tags []*ack.Tag
	for _, key := range slices.Sorted(maps.Keys(values)) {
		tags = append(tags, &ack.Tag{Key: &key, Value: ptr.To(values[key])})
	}
	return tags
}
