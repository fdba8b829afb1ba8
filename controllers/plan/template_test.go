// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// A ControllerRevision of an operator that did not keep templates gets the one that runs, in
// an annotation, because its data cannot change.
func TestTemplateOfAnOlderRecord(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache()))
	stable := sim.stable()
	holder := mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+stable)
	holder.Data = runtime.RawExtension{Raw: []byte(`{"revision":"` + stable + `"}`)}
	v2(sim)
	want := mustFind[*appsv1.Deployment](sim.world, "demo-"+stable).Spec.Template
	sim.deleteDeployment(stable)
	sim.tick()
	if d := cmp.Diff(want, mustFind[*appsv1.Deployment](sim.world, "demo-"+stable).Spec.Template); d != "" {
		t.Errorf("the Deployment was made again with another template (-want +got):\n%s", d)
	}
	if holder := mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+stable); string(holder.Data.Raw) != `{"revision":"`+stable+`"}` {
		t.Errorf("the data were changed to %s", holder.Data.Raw)
	}
}

// A template that somebody else wrote into a ControllerRevision is not applied, whatever it has,
// and that of the operator is recorded again.
func TestForgedTemplate(t *testing.T) {
	forged := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "flag-service", Image: "evil"}}}}
	forgeries := map[string]func(stable, candidate *appsv1.ControllerRevision){
		"without a seal": func(stable, _ *appsv1.ControllerRevision) {
			stable.Data.Raw = observed.RevisionData("", &forged)
			delete(stable.Annotations, v1alpha1.AnnotationSeal)
		},
		"with the seal of the template before": func(stable, _ *appsv1.ControllerRevision) { stable.Data.Raw = observed.RevisionData("", &forged) },
		"in the annotation": func(stable, _ *appsv1.ControllerRevision) {
			stable.Data.Raw = observed.RevisionData("", nil)
			stable.Annotations[v1alpha1.AnnotationTemplate] = observed.TemplateAnnotation(forged)
		},
		"of another revision": func(stable, candidate *appsv1.ControllerRevision) {
			stable.Data, stable.Annotations[v1alpha1.AnnotationSeal] = candidate.Data, candidate.Annotations[v1alpha1.AnnotationSeal]
		},
	}
	for name, forge := range forgeries {
		for _, deletes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, Deployment deleted %v", name, deletes), func(t *testing.T) {
				sim := newSimulation(t, withCanary(aFlagCache()))
				stable, candidate := sim.stable(), v2(sim)
				sim.tick()
				holder := mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+stable)
				forge(holder, mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+candidate))
				if !deletes {
					sim.tick()
				}
				sim.deleteDeployment(stable)
				sim.reconcile()
				d, exists := observed.Get[*appsv1.Deployment](sim.index(), "demo-"+stable)
				if exists == deletes {
					t.Errorf("the Deployment exists: %v, the template is known: %v", exists, !deletes)
				}
				if exists && d.Spec.Template.Spec.Containers[0].Image != "flag-service:v1" {
					t.Errorf("it runs image %s", d.Spec.Template.Spec.Containers[0].Image)
				}
			})
		}
	}
}

// A Deployment that somebody edited to have privileges is not put on record as it runs.
func TestPrivilegedTemplateIsNotRecorded(t *testing.T) {
	edits := map[string]func(*corev1.PodSpec){
		"network of the host": func(s *corev1.PodSpec) { s.HostNetwork = true },
		"path of the host": func(s *corev1.PodSpec) {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
		},
		"privileged": func(s *corev1.PodSpec) { s.Containers[0].SecurityContext.Privileged = ptr.To(true) },
		"a capability": func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
		},
		"not restricted": func(s *corev1.PodSpec) { s.InitContainers = []corev1.Container{{Name: "other"}} },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			sim := newSimulation(t, withCanary(aFlagCache()))
			stable := sim.stable()
			v2(sim)
			d := mustFind[*appsv1.Deployment](sim.world, "demo-"+stable)
			if !observed.Unprivileged(d.Spec.Template) {
				t.Fatal("the template of the operator counts as privileged")
			}
			holder := mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+stable)
			holder.Data = runtime.RawExtension{Raw: observed.RevisionData(stable, nil)}
			edit(&d.Spec.Template.Spec)
			sim.tick()
			holder = mustFind[*appsv1.ControllerRevision](sim.world, "demo-"+stable)
			if templates := observed.TemplatesOf(holder); len(templates) > 0 {
				t.Errorf("the edited template is on record: %+v", templates[0].Spec)
			}
		})
	}
}

// Whatever somebody writes in place of a template is not used, and not expanded without
// bounds.
func TestTemplateThatCannotBeDecoded(t *testing.T) {
	huge := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Args: []string{strings.Repeat("a", 2<<20)}}}}}
	if text := observed.TemplateAnnotation(huge); text != "" {
		t.Errorf("a template of 2 MiB is kept, in %d bytes", len(text))
	}
	random := make([]byte, 100<<10)
	source := rand.NewChaCha8([32]byte{1})
	for i := range random {
		random[i] = "0123456789abcdef"[source.Uint64()%16]
	}
	large := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Args: []string{string(random)}}}}}
	if text := observed.TemplateAnnotation(large); text != "" {
		t.Errorf("a template that leaves no space for the record is annotated, in %d bytes", len(text))
	}
	kept := observed.TemplatesOf(&appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: observed.RevisionData("deadbeef", &large)}})
	if d := cmp.Diff([]corev1.PodTemplateSpec{large}, kept); d != "" {
		t.Errorf("a template of 100 KiB is not kept in the data:\n%s", d)
	}
	for name, text := range map[string]string{
		"not base64":   "none of your business",
		"not gzip":     base64.StdEncoding.EncodeToString([]byte("text")),
		"no container": observed.TemplateAnnotation(corev1.PodTemplateSpec{}),
	} {
		holder := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationTemplate: text}}}
		if len(observed.TemplatesOf(holder)) > 0 {
			t.Errorf("%s: it counts as a template", name)
		}
	}
}
