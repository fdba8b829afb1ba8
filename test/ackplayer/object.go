// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// FieldManager is ACK's field manager: its image runs the binary ./bin/controller.
const FieldManager = "controller"

const (
	annotationAdopted = "services.k8s.aws/adopted"
	// annotationPrefix is the prefix of the annotations in which ACK keeps the values it
	// last sent to AWS, and of those that set defaults for a namespace.
	annotationPrefix = "elasticache.services.k8s.aws/"
)

// object is an ACK resource in the API server, with the writes that ACK makes to it.
type object struct {
	*unstructured.Unstructured
	client client.Client
}

// fetch reads an object from the API server; it is nil if it does not exist.
func fetch(ctx context.Context, c client.Client, k ack.Kind, key types.NamespacedName) (*object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(k.GroupVersionKind)
	if err := c.Get(ctx, key, u); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return &object{Unstructured: u, client: c}, nil
}

// spec is the object's spec, read-only.
func (o *object) spec() map[string]any { return mapOf(o.Object["spec"]) }

// status is the object's status, read-only.
func (o *object) status() map[string]any { return mapOf(o.Object["status"]) }

// mapOf returns v as a map, which is empty if v is not a map.
func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	return m
}

// stringField returns a field as a string, "" if it is not set.
func stringField(fields map[string]any, name string) string {
	s, _ := fields[name].(string)
	return s
}

func (o *object) finalizer() string {
	return "finalizers." + o.GroupVersionKind().Group + "/" + o.GetKind()
}

// managed reports whether ACK considers the resource in AWS to be this object's.
func (o *object) managed() bool { return slices.Contains(o.GetFinalizers(), o.finalizer()) }

func (o *object) mayAdopt() bool {
	return o.GetAnnotations()[ack.AnnotationAdoptionPolicy] == ack.AdoptOrCreate
}

// markManaged sets the finalizer and the annotations.
func (o *object) markManaged(ctx context.Context, annotations map[string]any) error {
	metadata := map[string]any{}
	if !o.managed() {
		metadata["finalizers"] = append(o.GetFinalizers(), o.finalizer())
	}
	changed := map[string]any{}
	for key, value := range annotations {
		if o.GetAnnotations()[key] != value {
			changed[key] = value
		}
	}
	if len(changed) > 0 {
		metadata["annotations"] = changed
	}
	if len(metadata) == 0 {
		return nil
	}
	return o.patch(ctx, map[string]any{"metadata": metadata})
}

// markUnmanaged removes the finalizer.
func (o *object) markUnmanaged(ctx context.Context) error {
	if !o.managed() {
		return nil
	}
	left := slices.DeleteFunc(o.GetFinalizers(), func(name string) bool { return name == o.finalizer() })
	return client.IgnoreNotFound(o.patch(ctx, map[string]any{"metadata": map[string]any{"finalizers": left}}))
}

// overwrite sets fields of the spec. Fields that are equal are left out, so that in
// most cases nothing is written.
func (o *object) overwrite(ctx context.Context, fields map[string]any) error {
	changed := map[string]any{}
	for name, value := range fields {
		if !equalField(name, o.spec()[name], value) {
			changed[name] = value
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return o.patch(ctx, map[string]any{"spec": changed})
}

// fillMissing sets those fields that the spec leaves out.
func (o *object) fillMissing(ctx context.Context, fields map[string]any) error {
	missing := map[string]any{}
	for name, value := range fields {
		if _, set := o.spec()[name]; !set {
			missing[name] = value
		}
	}
	return o.overwrite(ctx, missing)
}

func (o *object) patch(ctx context.Context, change map[string]any) error {
	patch, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	if err := o.client.Patch(ctx, o.Unstructured, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("writing to %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// patchStatus writes the conditions and, unless latest is nil, the rest of the status.
func (o *object) patchStatus(ctx context.Context, latest map[string]any, conditions ack.Conditions) error {
	change := map[string]any{}
	if latest != nil {
		for name := range o.status() {
			if _, still := latest[name]; !still && name != "conditions" {
				change[name] = nil
			}
		}
	}
	full := map[string]any{"conditions": toMap(ack.MetricAlarmStatus{Conditions: conditions})["conditions"]}
	for name, value := range latest {
		full[name] = value
	}
	for name, value := range full {
		if !reflect.DeepEqual(o.status()[name], value) {
			change[name] = value
		}
	}
	if len(change) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": change})
	if err != nil {
		return fmt.Errorf("encoding a status: %w", err)
	}
	err = o.client.Status().Patch(ctx, o.Unstructured, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(FieldManager))
	if err != nil {
		return client.IgnoreNotFound(fmt.Errorf("writing the status of %s %s: %w", o.GetKind(), o.GetName(), err))
	}
	return nil
}

// toMap converts a typed status to unstructured data.
func toMap[T any](status T) map[string]any {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	if err != nil {
		panic(fmt.Sprintf("ackplayer: %T is no status: %v", status, err)) // a type of this package
	}
	return m
}

// ACK's errors for Secrets that it cannot use, verbatim.
var (
	errNoSecret = errors.New("kubernetes secret not found")
	errOpaque   = errors.New("only opaque secrets can be used")
)

// secret reads the value of a Secret reference, without a cache as ACK does; without a
// reference it is "".
func (o *object) secret(ctx context.Context, reference any) (string, error) {
	ref := mapOf(reference)
	if len(ref) == 0 {
		return "", nil
	}
	key := client.ObjectKey{Namespace: o.GetNamespace(), Name: stringField(ref, "name")}
	if namespace := stringField(ref, "namespace"); namespace != "" {
		key.Namespace = namespace
	}
	secret := &corev1.Secret{}
	if err := o.client.Get(ctx, key, secret); apierrors.IsNotFound(err) {
		return "", errNoSecret
	} else if err != nil {
		return "", fmt.Errorf("reading a Secret: %w", err)
	}
	value, ok := secret.Data[stringField(ref, "key")]
	switch {
	case secret.Type != corev1.SecretTypeOpaque:
		return "", errOpaque
	case !ok:
		return "", errNoSecret
	}
	return string(value), nil
}

// retained reports whether the resource in AWS survives the deletion of the object.
func (o *object) retained(ctx context.Context) (bool, error) {
	if policy, ok := o.GetAnnotations()[ack.AnnotationDeletionPolicy]; ok {
		return policy == ack.DeletionRetain, nil
	}
	namespace := &corev1.Namespace{}
	if err := o.client.Get(ctx, client.ObjectKey{Name: o.GetNamespace()}, namespace); err != nil {
		return false, fmt.Errorf("reading the namespace: %w", err)
	}
	return namespace.Annotations[o.GroupVersionKind().Group+"/deletion-policy"] == ack.DeletionRetain, nil
}
