// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

const (
	// maxTemplate is the size of a pod template in JSON, beyond which it is not kept. One
	// with as many variables as the API allows has about 280 KiB.
	maxTemplate = 1 << 20
	// maxAnnotatedTemplate is the size of a compressed template in an annotation. The
	// record beside it needs the rest of the 256 KiB of all annotations.
	maxAnnotatedTemplate = 32 << 10
)

// revisionData are the data of a ControllerRevision. They cannot change, as the pod
// template of a revision cannot
// (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/).
type revisionData struct {
	Revision string `json:"revision"`
	// Template is the pod template in JSON, compressed; empty in the data of operators
	// that did not keep it.
	Template []byte `json:"template,omitempty"`
}

// RevisionData are the data of a new ControllerRevision: the revision, and the pod
// template from which its Deployment can be made again, nil if that is not known.
func RevisionData(revision string, template *corev1.PodTemplateSpec) []byte {
	data := revisionData{Revision: revision}
	if template != nil {
		data.Template = compress(*template)
	}
	return []byte(ToJSON(data))
}

// TemplateAnnotation is a pod template as an annotation, for a ControllerRevision whose
// data lack it; "" for one that is too large.
func TemplateAnnotation(template corev1.PodTemplateSpec) string {
	text := base64.StdEncoding.EncodeToString(compress(template))
	if len(text) > maxAnnotatedTemplate {
		return ""
	}
	return text
}

// TemplatesOf returns the pod templates that a ControllerRevision holds, whoever wrote them:
// that of its data, and that of its annotation.
func TemplatesOf(holder *appsv1.ControllerRevision) []corev1.PodTemplateSpec {
	var templates []corev1.PodTemplateSpec
	var data revisionData
	if json.Unmarshal(holder.Data.Raw, &data) == nil && len(data.Template) > 0 {
		if template, err := decompress(data.Template); err == nil {
			templates = append(templates, template)
		}
	}
	if compressed, err := base64.StdEncoding.DecodeString(holder.Annotations[v1alpha1.AnnotationTemplate]); err == nil && len(compressed) > 0 {
		if template, err := decompress(compressed); err == nil {
			templates = append(templates, template)
		}
	}
	return templates
}

// compress returns a pod template in JSON, compressed; nil for one that is too large.
func compress(template corev1.PodTemplateSpec) []byte {
	text := ToJSON(template)
	if len(text) > maxTemplate {
		return nil
	}
	return Compress([]byte(text))
}

// decompress is the inverse of compress. What expands to more than a template may have,
// or has no container, was not written by an operator.
func decompress(compressed []byte) (corev1.PodTemplateSpec, error) {
	text, err := Decompress(compressed, maxTemplate)
	if err != nil {
		return corev1.PodTemplateSpec{}, fmt.Errorf("decompressing a pod template: %w", err)
	}
	var template corev1.PodTemplateSpec
	if err := json.Unmarshal(text, &template); err != nil {
		return corev1.PodTemplateSpec{}, fmt.Errorf("decoding a pod template: %w", err)
	}
	if len(template.Spec.Containers) == 0 {
		return corev1.PodTemplateSpec{}, errors.New("the pod template has no container")
	}
	return template, nil
}
