// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// orphan deletes the FlagCache without its children, and creates it again.
func (w *world) orphan() {
	for _, child := range w.children {
		child.SetOwnerReferences(nil)
		annotations := map[string]string{v1alpha1.AnnotationApplied: "hash"}
		for key, value := range child.GetAnnotations() {
			annotations[key] = value
		}
		child.SetAnnotations(annotations)
	}
	w.fc.UID, w.fc.Status = "uid-2", v1alpha1.FlagCacheStatus{Operator: w.fc.Status.Operator}
}

// adopt annotates the FlagCache.
func (w *world) adopt(value string) {
	w.fc.Annotations = map[string]string{v1alpha1.AnnotationAdoptChildren: value}
}

// The clients of a FlagCache that was deleted with --cascade=orphan and created again are
// served throughout.
func TestChildrenThatLostTheirOwner(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	stable := w.fc.Status.Revisions.Stable
	w.note("the FlagCache is deleted with --cascade=orphan, and created again")
	w.orphan()
	w.reconcile()
	w.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)
	w.expectMessage(v1alpha1.ConditionStalled, "Service demo", v1alpha1.AnnotationAdoptChildren)
	w.note("the annotation has the UID of the old one")
	w.adopt("uid-1")
	w.reconcile()
	w.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)
	w.note("the annotation has the UID of the new one")
	w.adopt("uid-2")
	w.reconcile()
	if got := w.fc.Status.Revisions.Stable; got != stable {
		t.Errorf("the stable revision is %q, it was %q", got, stable)
	}
	w.podsAvailable()
	w.reconcile()
	w.podsAvailable()
	w.reconcile()
	w.reconcile()
	w.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	for _, child := range w.children {
		if !metav1.IsControlledBy(child, w.fc) {
			t.Errorf("%s has no owner", name(child))
		}
	}
	expectGolden(t, "orphans-taken-back.golden", strings.Join(w.trace, "\n")+"\n")
}

// What others own, or what belongs to a cloud cache, is not taken back.
func TestWhatIsNotAnOrphan(t *testing.T) {
	cases := map[string]func(*corev1.Service){
		"of another owner":            func(o *corev1.Service) { o.OwnerReferences = []metav1.OwnerReference{{UID: "another"}} },
		"not applied by the operator": func(o *corev1.Service) { o.Annotations = nil },
		"of another FlagCache":        func(o *corev1.Service) { o.Labels[v1alpha1.LabelName] = "other" },
		"of a cache in ElastiCache":   func(o *corev1.Service) { o.Labels[v1alpha1.LabelCache] = "1a2b" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache())
			w.adopt("uid-1")
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "demo-redis",
				Labels:      map[string]string{v1alpha1.LabelName: "demo"},
				Annotations: map[string]string{v1alpha1.AnnotationApplied: "hash"},
			}}
			if s := w.snapshot(); !s.Owns(service) {
				t.Fatal("an orphan is not taken back")
			}
			change(service)
			if s := w.snapshot(); s.Owns(service) {
				t.Error("it is taken back")
			}
			w.put(observed.Object(service))
			w.reconcile()
			w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
		})
	}
}
