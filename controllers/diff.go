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

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// prepare returns a copy of an object as it is to be written, and its fields.
// Both carry a hash of the fields in an annotation, by which a field that is
// not wanted any more is noticed.
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

// fieldsOf are the fields of an object that its writer means to set.
func fieldsOf(o observed.Object) (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("converting %s: %w", describe(o), err)
	}
	delete(fields, "status")
	return fields, nil
}

// hashFields leaves the number of replicas out: it changes without a change of
// what is wanted, and differing from what was observed is enough to notice it.
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

// upToDate tells whether an observed object has every field as it should be.
// What others added to it is theirs.
func upToDate(fields map[string]any, observed observed.Object) (bool, error) {
	current, err := runtime.DefaultUnstructuredConverter.ToUnstructured(observed)
	if err != nil {
		return false, fmt.Errorf("converting %s: %w", describe(observed), err)
	}
	// Objects read from a cache have no type of their own.
	current["apiVersion"], current["kind"] = fields["apiVersion"], fields["kind"]
	return covers(current, fields), nil
}

// covers tells whether every part of want is in have.
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
		if !covers(have[key], value) {
			return false
		}
	}
	return true
}

// coversList compares by name where the items have one, because others may add
// items; else by position.
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

// isEmpty tells whether a value says nothing: the API server leaves such out.
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

// applyPatch is the server-side apply of fields to the very object that was
// read, in the state in which it was read.
func applyPatch(fields map[string]any, live observed.Object) (client.Patch, error) {
	patch := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(fields)}
	patch.SetUID(live.GetUID())
	patch.SetResourceVersion(live.GetResourceVersion())
	text, err := json.Marshal(patch.Object)
	if err != nil {
		return nil, fmt.Errorf("writing the patch of %s: %w", describe(live), err)
	}
	return client.RawPatch(types.ApplyPatchType, text), nil
}
