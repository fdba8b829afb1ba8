// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/secret"
)

// Index is a Snapshot with its children looked up by type and name. It is built
// once per plan, and never changed.
type Index struct {
	Snapshot
	// Owned are the children that this FlagCache controls, in the order of the
	// Snapshot. A predecessor of the same name may have left others.
	Owned []Object
	// Revisions are the Deployments of revisions that are not being deleted, by the
	// revision in their name. That of the stable revision, and of one that serves in its
	// place, is among them even if somebody deleted it: as it will be made again, without
	// pods.
	Revisions map[string]*appsv1.Deployment
	// Records are what is on record about revisions.
	Records Records
	// Selected is the revision that the Service selects, which anybody can edit; "" if it
	// selects none. A Service that selects the pods of all revisions names the stable one
	// in an annotation.
	Selected string
	// Stable is the revision that clients are to be served by, "" before the first.
	Stable string
	// Predecessors are the revisions that served before, besides the stable one, and have a
	// Deployment; the first is the best replacement of the stable one.
	Predecessors []string
	// Baseline is the revision that clients are served by while no candidate serves them: the
	// stable one, or a predecessor while the stable one has no ready pods.
	Baseline string
	// Held: nothing but the flags is applied, so that what was found out is in the status alone.
	Held bool

	byName map[childKey]Object
}

type childKey struct {
	kind reflect.Type
	name string
}

// NewIndex indexes a Snapshot.
func NewIndex(s Snapshot) *Index {
	x := &Index{Snapshot: s, Revisions: map[string]*appsv1.Deployment{}, byName: map[childKey]Object{}}
	for _, child := range s.Children {
		if !x.Owns(child) {
			continue
		}
		x.Owned = append(x.Owned, child)
		x.byName[keyOf(child)] = child
		if d, ok := child.(*appsv1.Deployment); ok && d.DeletionTimestamp == nil {
			if revision, ok := RevisionOf(s.FlagCache, d.Name); ok {
				x.Revisions[revision] = d
			}
		}
	}
	x.Records = readRecords(x)
	x.Selected = selectedRevision(x)
	x.Stable = stableRevision(x)
	for revision := range x.Records.Holders {
		if x.Revisions[revision] == nil && (revision == x.Stable || x.Records.standsIn(revision)) {
			x.remake(revision)
		}
	}
	x.Predecessors = predecessors(x)
	x.Baseline = baselineRevision(x)
	return x
}

// remake adds the Deployment of a revision as it is made again from the record, if that
// has the template.
func (x *Index) remake(revision string) {
	if template, ok := x.Records.Template(revision); ok {
		x.Revisions[revision] = &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: x.FlagCache.Namespace, Name: RevisionName(x.FlagCache, revision)},
			Spec:       appsv1.DeploymentSpec{Template: template},
		}
	}
}

func keyOf(o Object) childKey { return childKey{kind: reflect.TypeOf(o), name: o.GetName()} }

// selectedRevision is the revision that the Service selects or names.
func selectedRevision(x *Index) string {
	svc, ok := Get[*corev1.Service](x, ServiceName(x.FlagCache))
	if !ok {
		return ""
	}
	if selected := svc.Spec.Selector[v1alpha1.LabelRevision]; selected != "" {
		return selected
	}
	return svc.Annotations[v1alpha1.AnnotationStable]
}

// SharesService reports whether the Service was observed to select the pods of all
// revisions.
func (x *Index) SharesService() bool {
	svc, ok := Get[*corev1.Service](x, ServiceName(x.FlagCache))
	return ok && svc.Spec.Selector[v1alpha1.LabelRevision] == ""
}

// Get returns the owned child of type T with a name.
func Get[T Object](x *Index, name string) (T, bool) {
	var none T
	child, ok := x.byName[childKey{kind: reflect.TypeOf(none), name: name}]
	if !ok {
		return none, false
	}
	return child.(T), true
}

// All returns the owned children of type T, in the order of the Snapshot.
func All[T Object](x *Index) []T {
	var all []T
	for _, child := range x.Owned {
		if typed, ok := child.(T); ok {
			all = append(all, typed)
		}
	}
	return all
}

// Like returns the owned child of the same type and name, nil if there is none.
func (x *Index) Like(o Object) Object { return x.byName[keyOf(o)] }

// OfCache returns the owned objects of one ElastiCache cache, by its identity.
func (x *Index) OfCache(id string) []Object {
	var objects []Object
	for _, child := range x.Owned {
		if child.GetLabels()[v1alpha1.LabelCache] == id {
			objects = append(objects, child)
		}
	}
	return objects
}

// CacheIDs returns the identities of the ElastiCache caches with owned objects,
// sorted.
func (x *Index) CacheIDs() []string {
	var ids []string
	for _, child := range x.Owned {
		if id := child.GetLabels()[v1alpha1.LabelCache]; id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// SecretValue returns one value of an owned Secret, empty if there is none.
func (x *Index) SecretValue(name, key string) secret.String {
	holder, ok := Get[*corev1.Secret](x, name)
	if !ok {
		return secret.String{}
	}
	return secret.New(string(holder.Data[key]))
}

// Owns reports whether the FlagCache, and not a predecessor of the same name, controls an
// object, or may take it back.
func (s Snapshot) Owns(o Object) bool {
	return metav1.IsControlledBy(o, s.FlagCache) || s.mayAdopt(o)
}

// mayAdopt reports whether an object was left by a predecessor, and a person permits the
// FlagCache to take such objects back. The permission is for this FlagCache alone: its UID
// is in no manifest.
func (s Snapshot) mayAdopt(o Object) bool {
	permitted := s.FlagCache.UID != "" && s.FlagCache.Annotations[v1alpha1.AnnotationAdoptChildren] == string(s.FlagCache.UID)
	return permitted && Orphaned(o) && o.GetLabels()[v1alpha1.LabelName] == s.FlagCache.Name
}

// Orphaned reports whether an object looks as if a FlagCache had left it without an owner.
// Those of a cache in ElastiCache are bound to the UID of their FlagCache.
func Orphaned(o Object) bool {
	return len(o.GetOwnerReferences()) == 0 && o.GetAnnotations()[v1alpha1.AnnotationApplied] != "" && o.GetLabels()[v1alpha1.LabelCache] == ""
}

// Conflicts returns the children that have the name of a desired object and
// another owner.
func (x *Index) Conflicts(desired []Object) []Object {
	foreign := map[childKey]Object{}
	for _, child := range x.Children {
		if !x.Owns(child) {
			foreign[keyOf(child)] = child
		}
	}
	var conflicts []Object
	for _, o := range desired {
		if child := foreign[keyOf(o)]; child != nil {
			conflicts = append(conflicts, child)
		}
	}
	return conflicts
}

// Same reports whether two objects have the same type and name.
func Same(a, b Object) bool { return keyOf(a) == keyOf(b) }

// Contains reports whether an object of the same type and name is among objects.
func Contains(objects []Object, o Object) bool {
	return slices.ContainsFunc(objects, func(other Object) bool { return Same(other, o) })
}

// Without returns the objects that are not among others.
func Without(objects, others []Object) []Object {
	return slices.DeleteFunc(slices.Clone(objects), func(o Object) bool { return Contains(others, o) })
}

// NotDeleting returns the objects that are not being deleted yet.
func NotDeleting(objects []Object) []Object {
	return slices.DeleteFunc(slices.Clone(objects), func(o Object) bool { return o.GetDeletionTimestamp() != nil })
}

// KindOf returns the kind of an object, by its Go type if the object does not
// name it.
func KindOf(o Object) string {
	if kind := o.GetObjectKind().GroupVersionKind().Kind; kind != "" {
		return kind
	}
	name := fmt.Sprintf("%T", o)
	return name[strings.LastIndex(name, ".")+1:]
}

// maxClockSkew is how far a recorded time may be ahead of the clock: the clocks of
// two operator pods differ, and clocks are set.
const maxClockSkew = time.Minute

// Since returns how long ago a recorded time is. A time further ahead than clocks
// differ was written by a clock that has been set back since; it counts as long
// ago, because waiting for it could take forever.
func (s Snapshot) Since(at time.Time) time.Duration {
	if passed := s.Now.Sub(at); passed >= -maxClockSkew {
		return passed
	}
	return math.MaxInt64
}
