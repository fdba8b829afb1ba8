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

// FieldManager is what ACK writes as: its image has the binary ./bin/controller.
const FieldManager = "controller"

const (
	annotationAdopted = "services.k8s.aws/adopted"
	// annotationPrefix is that of the annotations in which ACK keeps what it last
	// asked AWS for, and of those by which a namespace has defaults.
	annotationPrefix = "elasticache.services.k8s.aws/"
)

// object is one of ACK's as the API server has it, with what ACK writes to it.
type object struct {
	*unstructured.Unstructured
	client client.Client
}

// fetch reads an object from the API server; it is nil where there is none.
func fetch(ctx context.Context, c client.Client, k ack.Kind, key types.NamespacedName) (*object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(k.GroupVersionKind)
	if err := c.Get(ctx, key, u); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return &object{Unstructured: u, client: c}, nil
}

// spec is the object's spec, not to be changed.
func (o *object) spec() map[string]any { return mapOf(o.Object["spec"]) }

// status is the object's status, not to be changed.
func (o *object) status() map[string]any { return mapOf(o.Object["status"]) }

// mapOf is v as a map, an empty one if it is none.
func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	return m
}

// text is a field of a spec that is a string.
func text(fields map[string]any, name string) string {
	s, _ := fields[name].(string)
	return s
}

func (o *object) finalizer() string {
	return "finalizers." + o.GroupVersionKind().Group + "/" + o.GetKind()
}

// managed tells whether ACK takes what AWS has under the ID for this object's.
func (o *object) managed() bool { return slices.Contains(o.GetFinalizers(), o.finalizer()) }

func (o *object) adopts() bool {
	return o.GetAnnotations()[ack.AnnotationAdoptionPolicy] == ack.AdoptOrCreate
}

// manage sets the finalizer, and further annotations.
func (o *object) manage(ctx context.Context, annotations map[string]any) error {
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

// unmanage takes the finalizer away.
func (o *object) unmanage(ctx context.Context) error {
	if !o.managed() {
		return nil
	}
	left := slices.DeleteFunc(o.GetFinalizers(), func(name string) bool { return name == o.finalizer() })
	return client.IgnoreNotFound(o.patch(ctx, map[string]any{"metadata": map[string]any{"finalizers": left}}))
}

// overwrite writes fields over those of the spec. Fields that are so already are
// left out, so mostly nothing is written.
func (o *object) overwrite(ctx context.Context, fields map[string]any) error {
	changed := map[string]any{}
	for name, value := range fields {
		if !same(name, o.spec()[name], value) {
			changed[name] = value
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return o.patch(ctx, map[string]any{"spec": changed})
}

// fill writes those fields that the spec lacks.
func (o *object) fill(ctx context.Context, fields map[string]any) error {
	missing := map[string]any{}
	for name, value := range fields {
		if _, there := o.spec()[name]; !there {
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

// report writes the status: what AWS says, unless that is nil, and conditions.
func (o *object) report(ctx context.Context, said map[string]any, conditions []ack.Condition) error {
	change := map[string]any{}
	if said != nil {
		for name := range o.status() {
			if _, still := said[name]; !still && name != "conditions" {
				change[name] = nil
			}
		}
	}
	full := map[string]any{"conditions": plain(ack.Status{Conditions: conditions})["conditions"]}
	for name, value := range said {
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

// plain is a status as it is on the wire.
func plain[T any](status T) map[string]any {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	if err != nil {
		panic(fmt.Sprintf("ackplayer: %T is no status: %v", status, err)) // a type of this package
	}
	return m
}

// Errors by which a Secret cannot be used, in ACK's words.
var (
	errNoSecret = errors.New("kubernetes secret not found")
	errOpaque   = errors.New("only opaque secrets can be used")
)

// secret reads what a reference names, live as ACK does; no reference is "".
func (o *object) secret(ctx context.Context, reference any) (string, error) {
	ref := mapOf(reference)
	if len(ref) == 0 {
		return "", nil
	}
	key := client.ObjectKey{Namespace: o.GetNamespace(), Name: text(ref, "name")}
	if namespace := text(ref, "namespace"); namespace != "" {
		key.Namespace = namespace
	}
	secret := &corev1.Secret{}
	if err := o.client.Get(ctx, key, secret); apierrors.IsNotFound(err) {
		return "", errNoSecret
	} else if err != nil {
		return "", fmt.Errorf("reading a Secret: %w", err)
	}
	value, ok := secret.Data[text(ref, "key")]
	switch {
	case secret.Type != corev1.SecretTypeOpaque:
		return "", errOpaque
	case !ok:
		return "", errNoSecret
	}
	return string(value), nil
}

// retained tells whether what AWS has stays when the object goes.
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
