// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// session is one reconciliation of an object.
type session struct {
	*Controller
	manager manager
	secrets Secrets
	now     time.Time
	// stored is the object in the API server.
	stored client.Object
	result Result
}

// manager has ACK's code of one kind. Objects are not modified but copied.
type manager interface {
	// find returns an object with what AWS has, or errNotFound.
	find(*session, client.Object) (client.Object, error)
	// create creates the resource of an object and returns it with the response.
	create(*session, client.Object) (client.Object, error)
	// update sends the differences to AWS, and returns the desired object with the response.
	update(_ *session, desired, latest client.Object, differing fields) (client.Object, error)
	// remove deletes a resource. The result is nil if AWS deletes it at once.
	remove(*session, client.Object) (client.Object, error)
	// compare returns the fields that ACK compares in which two objects differ.
	compare(desired, latest client.Object) fields
	// terminal are the codes of errors that are not retried.
	terminal() []string
}

// lateInitializer is a manager that sets fields to AWS's values if they are missing.
type lateInitializer interface {
	lateInitialize(observed, latest client.Object)
}

// syncedJudge is a manager that has its own idea of when an object is synced.
type syncedJudge interface {
	synced(client.Object) bool
}

// reconcile syncs or deletes the resource of an object, and returns the outcome.
func (s *session) reconcile(desired client.Object) error {
	s.manager = managerOf(desired)
	var latest client.Object
	var err error
	switch {
	case s.RoleMissing:
		latest, err = copyOf(desired), requeueError{cause: errRoleMissing, after: roleDelay}
		s.setCondition(latest, ack.ConditionSynced, corev1.ConditionFalse, ptr.To(roleUnavailableMessage), ptr.To(err.Error()))
	case desired.GetDeletionTimestamp() != nil:
		latest, err = s.finalize(desired)
	default:
		latest, err = s.sync(desired)
		if err == nil {
			err = s.outcome(latest)
		}
	}
	if latest != nil {
		s.patchStatus(desired, latest)
	}
	return err
}

// roleDelay is the time after which ACK looks for a missing role again.
const roleDelay = 15 * time.Second

var errRoleMissing = fmt.Errorf("retrieving role ARN for account/team ID %q from %q configmap: %w", otherAccountID, "ack-role-account-map", errors.New("CARM configmap not found"))

// outcome returns when an object is synced again after a sync without errors.
func (s *session) outcome(latest client.Object) error {
	if ack.ConditionsOf(latest).Is(ack.ConditionSynced) {
		return requeueError{cause: errSynced}
	}
	return s.wait("temporary out of sync, reconcile after some time")
}

// sync makes AWS match the spec.
func (s *session) sync(desired client.Object) (latest client.Object, err error) {
	*conditions(desired) = []*ack.Condition{}
	defer func() {
		if latest != nil {
			s.ensureConditions(latest, err)
		}
	}()
	adoption := ""
	if !isAdopted(desired) && !s.hasFinalizer(desired) {
		adoption = desired.GetAnnotations()[ack.AnnotationAdoptionPolicy]
	}
	latest, err = s.read(desired)
	switch {
	case errors.Is(err, errNotFound) && (adoption == ack.Adopt || isAdopted(desired)):
		return nil, errAdoptedNotFound
	case errors.Is(err, errNotFound) && isReadOnly(desired):
		return nil, errReadOnlyNotFound
	case errors.Is(err, errNotFound):
		if latest, err = s.create(desired); err != nil {
			return latest, err
		}
	case err != nil:
		return latest, err
	case adoption != "":
		original := copyOf(latest)
		s.addFinalizer(latest)
		setAnnotation(latest, ack.AnnotationAdopted, "true")
		s.patch(original, latest)
		if adoption == ack.AdoptOrCreate {
			return latest, requeueError{cause: errors.New("adopted resource, requeuing to check for updates")}
		}
		latest = s.patchIfDiffering(desired, latest)
	case isReadOnly(desired):
		return latest, nil
	default:
		if latest, err = s.update(desired, latest); err != nil {
			return latest, err
		}
	}
	return s.initializeLate(latest)
}

// read returns an object with what AWS has.
func (s *session) read(o client.Object) (client.Object, error) {
	observed, err := s.manager.find(s, copyOf(o))
	if err != nil {
		return s.onError(o, err)
	}
	return onSuccess(s.prune(observed)), nil
}

// prune removes the fields that the release does not know.
func (s *session) prune(o client.Object) client.Object {
	lacks := s.Lacks[ack.KindOf(o).Kind]
	if len(lacks) == 0 {
		return o
	}
	known, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	for _, path := range lacks {
		unstructured.RemoveNestedField(known, append([]string{"spec"}, strings.Split(path, ".")...)...)
	}
	pruned := ack.KindOf(o).New()
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(known, pruned)
	}
	if err != nil {
		panic(fmt.Sprintf("pruning %s: %v", o.GetName(), err))
	}
	return pruned
}

func (s *session) create(desired client.Object) (client.Object, error) {
	if !s.hasFinalizer(desired) {
		original := copyOf(desired)
		s.addFinalizer(desired)
		s.patch(original, desired)
	}
	latest, err := s.manager.create(s, copyOf(desired))
	if err != nil {
		latest, err = s.onError(desired, err)
		if errors.As(err, &Error{}) {
			s.release(desired)
		}
		return latest, err
	}
	latest = onSuccess(s.prune(latest))
	observed, err := s.read(latest)
	if err != nil {
		return latest, err
	}
	setStatusOf(latest, observed)
	return s.patchIfDiffering(desired, latest), nil
}

func (s *session) update(desired, latest client.Object) (client.Object, error) {
	if !s.hasFinalizer(latest) {
		s.setCondition(latest, ack.ConditionTerminal, corev1.ConditionTrue, ptr.To(notManagedMessage), ptr.To(notManagedReason))
		return latest, errTerminal
	}
	differing := s.manager.compare(desired, latest)
	if len(differing) == 0 {
		return latest, nil
	}
	updated, err := s.manager.update(s, copyOf(desired), copyOf(latest), differing)
	if err != nil {
		return s.onError(latest, err)
	}
	updated = onSuccess(s.prune(updated))
	if isAdopted(latest) {
		setAnnotation(updated, ack.AnnotationAdopted, "true")
	}
	return s.patchIfDiffering(desired, updated), nil
}

func (s *session) initializeLate(latest client.Object) (client.Object, error) {
	manager, ok := s.manager.(lateInitializer)
	if !ok {
		return latest, nil
	}
	initialized := copyOf(latest)
	observed, err := s.read(initialized)
	if err != nil {
		s.setCondition(initialized, conditionLateInitialized, corev1.ConditionFalse,
			ptr.To("Unable to complete Read operation required for late initialization"), ptr.To("Late Initialization Failure"))
		s.setCondition(initialized, ack.ConditionSynced, corev1.ConditionFalse, nil, nil)
		return s.patchIfDiffering(latest, initialized), err
	}
	manager.lateInitialize(observed, initialized)
	s.setCondition(initialized, conditionLateInitialized, corev1.ConditionTrue, ptr.To(lateInitializedMessage), ptr.To(lateInitializedMessage))
	return s.patchIfDiffering(latest, initialized), nil
}

// conditionLateInitialized reports whether missing fields were set to AWS's values.
const conditionLateInitialized = ack.ConditionType("ACK.LateInitialized")

// finalize deletes the resource of an object that is being deleted.
func (s *session) finalize(current client.Object) (client.Object, error) {
	switch {
	case !s.hasFinalizer(current):
		return current, nil
	case current.GetAnnotations()[ack.AnnotationDeletionPolicy] == ack.DeletionRetain, isReadOnly(current):
		s.release(current)
		return current, nil
	}
	observed, err := s.read(current)
	if errors.Is(err, errNotFound) {
		s.release(current)
		return current, nil
	}
	if err != nil {
		return current, err
	}
	latest, err := s.manager.remove(s, copyOf(observed))
	switch {
	case err != nil && latest == nil:
		latest, err = s.onError(observed, err)
	case err != nil:
		latest, err = s.onError(latest, err)
	}
	if latest != nil {
		latest = s.patchIfDiffering(current, s.prune(latest))
	}
	if err != nil {
		return latest, err
	}
	s.release(current)
	return latest, nil
}

// finalizer returns the finalizer of a kind.
func finalizer(o client.Object) string {
	k := ack.KindOf(o)
	return "finalizers." + k.Group + "/" + k.Kind
}

func (s *session) hasFinalizer(o client.Object) bool {
	return slices.Contains(o.GetFinalizers(), finalizer(o))
}

func (s *session) addFinalizer(o client.Object) {
	o.SetFinalizers(append(slices.Clip(o.GetFinalizers()), finalizer(o)))
}

// release removes the finalizer.
func (s *session) release(o client.Object) {
	if !s.hasFinalizer(o) {
		return
	}
	original := copyOf(o)
	o.SetFinalizers(slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return f == finalizer(o) }))
	s.patch(original, o)
}

// patchIfDiffering writes the differences of metadata and spec, if there is one in the metadata or in
// a field that ACK compares. It returns the stored object with the status of the latest one.
func (s *session) patchIfDiffering(desired, latest client.Object) client.Object {
	if text(metadataOf(desired)) == text(metadataOf(latest)) && len(s.manager.compare(desired, latest)) == 0 {
		return latest
	}
	s.patch(desired, latest)
	stored := copyOf(s.stored)
	setStatusOf(stored, latest)
	return stored
}

// patch writes the differences of two objects in metadata and spec as a merge patch.
func (s *session) patch(original, changed client.Object) {
	difference, err := jsonpatch.CreateMergePatch([]byte(text(withoutStatus(original))), []byte(text(withoutStatus(changed))))
	if err != nil {
		panic(fmt.Sprintf("comparing %s: %v", changed.GetName(), err))
	}
	merged, err := jsonpatch.MergePatch([]byte(text(s.stored)), difference)
	if err != nil {
		panic(fmt.Sprintf("patching %s: %v", changed.GetName(), err))
	}
	stored := ack.KindOf(changed).New()
	if err := json.Unmarshal(merged, stored); err != nil {
		panic(fmt.Sprintf("reading %s: %v", changed.GetName(), err))
	}
	s.write(stored)
}

// patchStatus writes the status.
func (s *session) patchStatus(original, latest client.Object) {
	if gone(s.stored) || reflect.DeepEqual(statusOf(original).Interface(), statusOf(latest).Interface()) {
		return
	}
	stored := copyOf(s.stored)
	setStatusOf(stored, latest)
	s.write(stored)
}

func (s *session) write(o client.Object) {
	s.stored = o
	s.result.Versions = append(s.result.Versions, copyOf(o))
}

// Take writes what ACK writes of an object into the stored object.
func Take(stored, version client.Object) {
	stored.SetAnnotations(version.GetAnnotations())
	stored.SetFinalizers(version.GetFinalizers())
	for _, part := range []string{"Spec", "Status"} {
		reflect.ValueOf(stored).Elem().FieldByName(part).Set(reflect.ValueOf(version).Elem().FieldByName(part))
	}
}

func statusOf(o client.Object) reflect.Value { return reflect.ValueOf(o).Elem().FieldByName("Status") }

func setStatusOf(o, from client.Object) { statusOf(o).Set(statusOf(copyOf(from))) }

// metadataOf returns the metadata that ACK writes.
func metadataOf(o client.Object) any {
	return []any{o.GetFinalizers(), o.GetAnnotations()}
}

// withoutStatus returns metadata and spec.
func withoutStatus(o client.Object) any {
	return map[string]any{
		"metadata": map[string]any{"finalizers": o.GetFinalizers(), "annotations": o.GetAnnotations()},
		"spec":     reflect.ValueOf(o).Elem().FieldByName("Spec").Interface(),
	}
}

func text(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("writing %T: %v", value, err))
	}
	return string(text)
}

func isAdopted(o client.Object) bool {
	return strings.EqualFold(o.GetAnnotations()[ack.AnnotationAdopted], "true")
}

func isReadOnly(o client.Object) bool {
	return strings.EqualFold(o.GetAnnotations()[ack.AnnotationReadOnly], "true")
}

func setAnnotation(o client.Object, key, value string) {
	annotations := o.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = value
	o.SetAnnotations(annotations)
}
