// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// Identity is a hash of everything that AWS cannot change in place, by which the objects
// of a cache in Kubernetes are named. It is unique among the caches of a FlagCache.
func Identity(fc *v1alpha1.FlagCache) string {
	return observed.Fingerprint("", append([]string{fc.Namespace, fc.Name}, fixed(fc.Spec.Cache.ElastiCache)...)...)
}

// fixed is everything that AWS cannot change in place.
func fixed(e *v1alpha1.ElastiCacheSpec) []string {
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
		string(e.Engine), e.SubnetGroupName, strings.Join(subnets, ","), e.VPCID,
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
	return parts
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
	// aws is the ID of the cache in AWS: at most 40 lower-case characters, which begin
	// with a letter, and no two hyphens in a row
	// (https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_CreateReplicationGroup.html).
	// AWS answers in lower case, and ACK would write any other spelling back. It is "" for a
	// cache that does not exist yet where the operator cannot identify the cluster.
	aws string
}

// namesOf are the names of a cache.
func namesOf(x *observed.Index, id string) names {
	return names{fc: x.FlagCache, id: id, aws: idInAWS(x, id)}
}

// idInAWS is the ID of a cache in AWS. It is on record in every object of the cache, because
// what it is made of may change while AWS has the cache. Objects without a record are those
// of a release that made short IDs only. More people may edit a Secret than ACK's objects,
// so its record alone only chooses among the IDs that the cache may have.
func idInAWS(x *observed.Index, id string) string {
	fc, objects := x.FlagCache, x.OfCache(id)
	inACK := slices.DeleteFunc(slices.Clone(objects), func(o observed.Object) bool { return !ack.Is(o) })
	short, recorded := shortID(fc, id), recordedID(objects)
	if inObjects := recordedID(inACK); inObjects != "" {
		return inObjects
	}
	if fc.Spec.Cache.ElastiCache == nil || Identity(fc) != id {
		return cmp.Or(recorded, short)
	}
	own := newID(x.Operator.ClusterID, fc)
	possible := []string{own, short}
	for _, o := range inACK {
		if g, ok := o.(*ack.ReplicationGroup); ok {
			possible = append(possible, ack.Value(g.Spec.ReplicationGroupID))
		}
	}
	switch {
	case len(inACK) == 0 && x.AdoptionPermitted:
		return fc.Annotations[v1alpha1.AnnotationAdopt]
	case recorded != "" && slices.Contains(possible, recorded):
		return recorded
	case len(inACK) > 0, recorded == "" && len(objects) > 0, fc.Status.Cache != nil && fc.Status.Cache.ReplicationGroupID == short:
		return short
	default:
		return own
	}
}

// recordedID is the ID in AWS that is on record in some of a cache's objects, "" if it is in
// none.
func recordedID(objects []observed.Object) string {
	for _, o := range objects {
		if id := o.GetAnnotations()[v1alpha1.AnnotationAWSID]; id != "" {
			return id
		}
	}
	return ""
}

const (
	// maxID is the length of an ID in AWS.
	maxID = 40
	// maxReadable is how much of one is for people.
	maxReadable = 16
)

// newID is the ID of a new cache, "" for an unknown cluster. 64 bits of a hash of the
// cluster and of everything that identifies the cache are the unique part: whoever can
// choose names cannot find one with the ID of another's cache, and clusters that share an
// AWS account have different ones.
func newID(cluster string, fc *v1alpha1.FlagCache) string {
	if cluster == "" {
		return ""
	}
	hash := sha256.New()
	for _, part := range append([]string{cluster, fc.Namespace, fc.Name}, fixed(fc.Spec.Cache.ElastiCache)...) {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return join("fc", readable(fc, maxReadable), hex.EncodeToString(hash.Sum(nil)[:8]))
}

// shortID is the ID of a cache that an earlier release created. It ends in the identity.
func shortID(fc *v1alpha1.FlagCache, id string) string { return fitting("fc", fc, id) }

// fitting is an ID with as much of the FlagCache's namespace and name as there is room for.
func fitting(prefix string, fc *v1alpha1.FlagCache, suffix string) string {
	return join(prefix, readable(fc, maxID-len(prefix)-len(suffix)-len("--")), suffix)
}

func join(parts ...string) string { return strings.Join(parts, "-") }

// readable is the FlagCache's namespace and name, as far as there is room for them.
func readable(fc *v1alpha1.FlagCache, room int) string {
	text := join(strings.FieldsFunc(fc.Namespace+"-"+fc.Name, func(r rune) bool { return r == '-' })...)
	if len(text) > room {
		text = strings.TrimRight(text[:room], "-")
	}
	return text
}

// object is the name of the cache's objects in Kubernetes, or its beginning.
func (n names) object() string { return observed.RevisionName(n.fc, n.id) }

// secret is the name of the Secret that holds the token.
func (n names) secret() string { return n.fc.Name + "-cache-" + n.id }

// userGroup is the ID of the user group.
func (n names) userGroup() string { return n.aws }

// serviceUser is the flag service's user. For IAM a user's name is its ID
// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html).
func (n names) serviceUser() string { return n.aws }

// defaultUser is the ID of the user named default: one letter instead of the "fc"
// in front.
func (n names) defaultUser() string { return "d" + strings.TrimPrefix(n.aws, "fc") }

// probeUserID is the ID of the probe's user that has a token as its password. It has the
// unique part of the cache's ID.
func (n names) probeUserID(token secret.String) string {
	return fitting("p", n.fc, n.aws[strings.LastIndex(n.aws, "-")+1:]+"-"+tokenMark(n.fc, token))
}

// owner names the FlagCache in descriptions.
func (n names) owner() string { return "FlagCache " + n.fc.Namespace + "/" + n.fc.Name }

// desired is the cache that the spec requests.
type desired struct {
	names
	spec *v1alpha1.ElastiCacheSpec
	// token is the one that the cache's Secret was observed to hold.
	token secret.String
	// cluster is the ID of the cluster, "" if it is unknown.
	cluster string
	// trusted: what AWS has with IDs that derive from the cache's may be adopted.
	trusted bool
}

// meta is the metadata of one of the cache's objects.
func (d desired) meta(name string) metav1.ObjectMeta {
	meta := observed.ChildMeta(d.fc, name, v1alpha1.ComponentCache)
	meta.Labels[v1alpha1.LabelCache] = d.id
	meta.Annotations = map[string]string{v1alpha1.AnnotationAWSID: d.aws}
	if d.spec.Region != "" {
		meta.Annotations[ack.AnnotationRegion] = d.spec.Region
	}
	if d.trusted && d.adopts() {
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

// adopts reports whether the user requests the FlagCache to take over what AWS has.
func (n names) adopts() bool {
	return n.aws != "" && n.fc.Annotations[v1alpha1.AnnotationAdopt] == n.aws
}

// adoptable reports whether AWS has the object and it may be adopted. ACK finds that
// out only for an object that is created again.
func adoptable(d desired, o observed.Object) bool {
	adopted := o.GetAnnotations()[ack.AnnotationAdoptionPolicy] != ""
	return d.trusted && d.adopts() && !adopted && taken(o)
}

// taken reports whether AWS has what an object requests, and ACK has not taken it. There is
// no finalizer on what is not ACK's, so AWS keeps it when the object is deleted.
func taken(o observed.Object) bool {
	return RefusalOf(ack.ConditionsOf(o)).Reason == v1alpha1.ReasonAlreadyExists && len(o.GetFinalizers()) == 0
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

// Tags that identify the FlagCache of a resource in AWS.
const (
	tagCluster   = "flagcache.dev/cluster"
	tagNamespace = "flagcache.dev/namespace"
	tagName      = "flagcache.dev/name"
)

// tags are ours and the user's, in the order of their keys. Ours cannot be
// overwritten: costs are attributed by them, and by some it is recognized to whom a
// resource belongs.
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
		tagNamespace:  d.fc.Namespace,
		tagName:       d.fc.Name,
	})
	if d.cluster != "" {
		values[tagCluster] = d.cluster
	}
	var tags []*ack.Tag
	for _, key := range slices.Sorted(maps.Keys(values)) {
		tags = append(tags, &ack.Tag{Key: &key, Value: ptr.To(values[key])})
	}
	return tags
}
