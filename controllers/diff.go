// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// prepare returns a copy of an object to write, and its fields. Both have a hash of
// the fields as an annotation, which detects fields that are no longer desired.
func prepare(o observed.Object) (observed.Object, map[string]any, error) {
	desired := o.DeepCopyObject().(observed.Object)
	fields, err := fieldsOf(desired)
	if err != nil {
		return nil, nil, err
	}
	hash, err := hashFields(fields)
	if err != nil {
		return nil, nil, fmt.Errorf("hashing %s: %w", describe(o), err)
	}
	annotations := map[string]string{v1alpha1.AnnotationApplied: hash}
	maps.Copy(annotations, desired.GetAnnotations())
	desired.SetAnnotations(annotations)
	return desired, fields, unstructured.SetNestedStringMap(fields, annotations, "metadata", "annotations")
}

// fieldsOf returns the fields of an object to apply.
func fieldsOf(o observed.Object) (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("converting %s: %w", describe(o), err)
	}
	delete(fields, "status")
	return fields, nil
}

// hashFields returns a hash of the fields without the number of replicas, which varies
// independently of the spec; a difference from the observed number is detected anyway.
func hashFields(fields map[string]any) (string, error) {
	hashed := fields
	if spec, ok := fields["spec"].(map[string]any); ok {
		hashed, spec = maps.Clone(fields), maps.Clone(spec)
		delete(spec, "replicas")
		hashed["spec"] = spec
	}
	text, err := json.Marshal(hashed)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// isUpToDate reports whether an observed object has all fields as desired. Fields of
// other writers are ignored.
func isUpToDate(fields map[string]any, observed observed.Object) (bool, error) {
	current, err := runtime.DefaultUnstructuredConverter.ToUnstructured(observed)
	if err != nil {
		return false, fmt.Errorf("converting %s: %w", describe(observed), err)
	}
	// Objects read from a cache have no type metadata.
	current["apiVersion"], current["kind"] = fields["apiVersion"], fields["kind"]
	return len(foreignFields(fields, current, observed)) == 0 && covers(current, tolerateLabels(fields, observed)), nil
}

// foreignFields returns the fields of the spec of an ACK kind that are not desired and that
// somebody set. Server-side apply does not remove what another writer owns, and ACK may
// reject every change because of it, such as a reference beside a name.
func foreignFields(fields, current map[string]any, o observed.Object) []string {
	desired, _ := fields["spec"].(map[string]any)
	spec, _ := current["spec"].(map[string]any)
	var foreign []string
	for _, field := range slices.Sorted(maps.Keys(spec)) {
		if isEmpty(desired[field]) && !isEmpty(spec[field]) && ack.IsForeign(o, field) {
			foreign = append(foreign, field)
		}
	}
	return foreign
}

// required returns the labels that a child must have. LabelManagedBy is for people and
// other tools.
func required(all map[string]string) map[string]string {
	all = maps.Clone(all)
	delete(all, v1alpha1.LabelManagedBy)
	return all
}

// hasLabels reports whether an object has the labels that a child must have.
func hasLabels(live, desired observed.Object) bool {
	return labels.SelectorFromSet(required(desired.GetLabels())).Matches(labels.Set(live.GetLabels()))
}

// tolerateLabels takes over the value that others gave to a label which is not required,
// so that there is no contest about it.
func tolerateLabels(fields map[string]any, current observed.Object) map[string]any {
	theirs := current.GetLabels()[v1alpha1.LabelManagedBy]
	metadata, ok := fields["metadata"].(map[string]any)
	if !ok || theirs == "" {
		return fields
	}
	ours, ok := metadata["labels"].(map[string]any)
	if !ok {
		return fields
	}
	fields, metadata, ours = maps.Clone(fields), maps.Clone(metadata), maps.Clone(ours)
	ours[v1alpha1.LabelManagedBy] = theirs
	metadata["labels"], fields["metadata"] = ours, metadata
	return fields
}

// covers reports whether have contains everything in want.
func covers(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		return ok && coversMap(have, want)
	case []any:
		have, ok := have.([]any)
		return ok && coversList(have, want)
	default:
		return reflect.DeepEqual(have, want)
	}
}

func coversMap(have, want map[string]any) bool {
	for key, value := range want {
		if isEmpty(value) && isEmpty(have[key]) {
			continue
		}
		if !covers(have[key], value) || exactFields[key] && !covers(value, have[key]) {
			return false
		}
	}
	return true
}

// exactFields are the fields in which another key changes what is selected or referred to,
// however many of the desired ones there are. Server-side apply replaces them as a whole
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy).
var exactFields = map[string]bool{
	"selector": true, "podSelector": true, "matchLabels": true, "nodeSelector": true, "authToken": true, "passwords": true,
}

// coversList compares items by name if they have one, because other writers may add
// items, else by position.
func coversList(have, want []any) bool {
	for i, item := range want {
		other, ok := named(have, item)
		if !ok && (len(have) != len(want)) {
			return false
		}
		if !ok {
			other = have[i]
		}
		if !covers(other, item) {
			return false
		}
	}
	return len(have) >= len(want)
}

func named(items []any, like any) (any, bool) {
	name, ok := nameOf(like)
	if !ok {
		return nil, false
	}
	for _, item := range items {
		if other, ok := nameOf(item); ok && other == name {
			return item, true
		}
	}
	return nil, false
}

func nameOf(item any) (string, bool) {
	fields, ok := item.(map[string]any)
	if !ok {
		return "", false
	}
	name, ok := fields["name"].(string)
	return name, ok
}

// isEmpty reports whether a value is empty. The API server omits empty values.
func isEmpty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	case string:
		return value == ""
	default:
		return false
	}
}

// applyPatch returns a server-side apply patch of the fields, bound to the UID and the
// resourceVersion of the live object.
func applyPatch(fields map[string]any, live observed.Object) (client.Patch, error) {
	patch := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(fields)}
	patch.SetUID(live.GetUID())
	patch.SetResourceVersion(live.GetResourceVersion())
	text, err := json.Marshal(patch.Object)
	if err != nil {
		return nil, fmt.Errorf("marshalling the patch of %s: %w", describe(live), err)
	}
	return client.RawPatch(types.ApplyPatchType, text), nil
}

// removalPatch returns a patch that removes fields of the spec, bound to the UID and the
// resourceVersion of the live object.
func removalPatch(remove []string, live observed.Object) (client.Patch, error) {
	spec := map[string]any{}
	for _, field := range remove {
		spec[field] = nil
	}
	text, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": live.GetUID(), "resourceVersion": live.GetResourceVersion()}, "spec": spec,
	})
	if err != nil {
		return nil, fmt.Errorf("marshalling the patch of %s: %w", describe(live), err)
	}
	return client.RawPatch(types.MergePatchType, text), nil
}
