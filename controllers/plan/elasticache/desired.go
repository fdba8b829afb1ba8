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
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

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
func adoptable(d desired, o ack.Object) bool {
	adopted := o.GetAnnotations()[ack.AnnotationAdoptionPolicy] != ""
	return RefusalOf(o.ACKStatus()).Reason == v1alpha1.ReasonAlreadyExists && d.adopts() && !adopted && len(o.GetFinalizers()) == 0
}

func (d desired) engine() string { return strings.ToLower(string(d.spec.Engine)) }

func (d desired) usesIAM() bool {
	return d.spec.Authentication.Type == v1alpha1.AuthenticationIAM
}

func (d desired) usesToken() bool {
	return d.spec.Authentication.Type == v1alpha1.AuthenticationToken
}

// missingKind is the first kind without which there is no cache and that is not
// installed; nil where there is none.
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
func (d desired) tags() []ack.Tag {
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
	var tags []ack.Tag
	for _, key := range slices.Sorted(maps.Keys(values)) {
		tags = append(tags, ack.Tag{Key: key, Value: values[key]})
	}
	return tags
}
