// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// apiServer adds the semantics of the API server to the store: resource versions, generations,
// optimistic locks, preconditions, finalizers, and server-side apply with the code of
// kube-apiserver. It has no admission, no defaults and no schemas; see TestConformance.
type apiServer struct {
	store
	// clock is the time of creations and deletions.
	clock time.Time
	// terminating reports that the namespace is being deleted.
	terminating bool
	// onChange is called for each change, with nil for an object that did not exist before or does
	// not exist after it.
	onChange func(k kind, before, after client.Object)
}

// fieldManagers track the owners of fields like kube-apiserver.
var fieldManagers = sync.OnceValue(func() [kinds]*managedfields.FieldManager {
	var managers [kinds]*managedfields.FieldManager
	types := applyconfigurations.NewTypeConverter(clientgoscheme.Scheme)
	for k := secrets; k < kinds; k++ {
		if k == httpRoutes { // neither these nor FlagCaches are applied
			continue
		}
		if k > httpRoutes { // their lists are atomic, as in their CRDs
			types = managedfields.NewDeducedTypeConverter()
		}
		gvk := kindInfos[k].gvk
		m, err := managedfields.NewDefaultFieldManager(types, scheme, noDefaults{}, scheme, gvk, gvk.GroupVersion(), "", nil)
		if err != nil {
			panic(fmt.Sprintf("creating the field manager of kind %s: %v", k, err))
		}
		managers[k] = m
	}
	return managers
})

type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

// create stores an object, which must not exist.
func (s *apiServer) create(o client.Object, manager string) (client.Object, error) {
	k := kindOf(o)
	switch {
	case find(s.now(k), o.GetName()) != nil:
		return nil, apierrors.NewAlreadyExists(k.groupResource(), o.GetName())
	case s.terminating:
		return nil, namespaceTerminating(k, o.GetName())
	}
	after := o.DeepCopyObject().(client.Object)
	after.GetObjectKind().SetGroupVersionKind(kindInfos[k].gvk)
	s.lastUID++
	after.SetUID(types.UID(fmt.Sprintf("uid-%d", s.lastUID)))
	after.SetGeneration(1)
	after.SetCreationTimestamp(metav1.NewTime(s.clock))
	after.SetResourceVersion("")
	clearStatus(after)
	if m := fieldManagers()[k]; m != nil {
		empty := kindInfos[k].new()
		empty.GetObjectKind().SetGroupVersionKind(kindInfos[k].gvk)
		managed, err := m.Update(empty, after, manager)
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("tracking field owners: %w", err))
		}
		after = managed.(client.Object)
	}
	return s.commit(k, nil, after), nil
}

// namespaceTerminating is the error of a creation in a terminating namespace.
func namespaceTerminating(k kind, name string) error {
	err := apierrors.NewForbidden(k.groupResource(), name, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: "namespace is being terminated", Field: "metadata.namespace",
	})
	return err
}

// patch is a request to change an object.
type patch struct {
	kind    kind
	name    string
	format  types.PatchType
	data    []byte
	manager string
	// status selects the status subresource.
	status bool
}

// patch changes an existing object.
func (s *apiServer) patch(p patch) (client.Object, error) {
	before := find(s.now(p.kind), p.name)
	if before == nil && p.format == types.ApplyPatchType {
		return nil, apierrors.NewConflict(p.kind.groupResource(), p.name, fmt.Errorf("uid mismatch: the provided object specified a uid, and no existing object was found"))
	}
	if before == nil {
		return nil, apierrors.NewNotFound(p.kind.groupResource(), p.name)
	}
	after, err := s.patched(p, before)
	if err != nil {
		return nil, err
	}
	if version := after.GetResourceVersion(); version != "" && version != before.GetResourceVersion() || after.GetUID() != before.GetUID() {
		return nil, apierrors.NewConflict(p.kind.groupResource(), p.name, fmt.Errorf("the object has been modified"))
	}
	keepSubresources(before, after, p.status)
	return s.commit(p.kind, before, after), nil
}

// patched returns an object with a patch applied.
func (s *apiServer) patched(p patch, before client.Object) (client.Object, error) {
	if p.format != types.ApplyPatchType {
		return jsonPatched(p, before)
	}
	applied := &unstructured.Unstructured{}
	if err := json.Unmarshal(p.data, &applied.Object); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	version, uid := applied.GetResourceVersion(), applied.GetUID()
	o, err := fieldManagers()[p.kind].Apply(before.DeepCopyObject(), applied, p.manager, true)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("applying: %w", err))
	}
	after := o.(client.Object)
	after.SetResourceVersion(version)
	if uid != "" {
		after.SetUID(uid)
	}
	return after, nil
}

func jsonPatched(p patch, before client.Object) (client.Object, error) {
	old, err := json.Marshal(before)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	var text []byte
	switch p.format {
	case types.MergePatchType:
		text, err = jsonpatch.MergePatch(old, p.data)
	case types.JSONPatchType:
		var operations jsonpatch.Patch
		if operations, err = jsonpatch.DecodePatch(p.data); err == nil {
			text, err = operations.Apply(old)
		}
	default:
		err = fmt.Errorf("patch type %s is not supported", p.format)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	after := kindInfos[p.kind].new()
	if err := json.Unmarshal(text, after); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return after, nil
}

// update reads and writes an object as an actor or a user, and reports whether it has changed.
func (s *apiServer) update(k kind, name string, edit func(client.Object)) bool {
	before := find(s.now(k), name)
	if before == nil {
		return false
	}
	after := before.DeepCopyObject().(client.Object)
	edit(after)
	return s.commit(k, before, after) != before
}

// updateAs is update for a type.
func updateAs[T client.Object](s *apiServer, k kind, name string, change func(T)) bool {
	return s.update(k, name, func(o client.Object) { change(o.(T)) })
}

// remove deletes an object, or sets its deletion timestamp if it has finalizers.
func (s *apiServer) remove(k kind, name string, preconditions *metav1.Preconditions) error {
	before := find(s.now(k), name)
	if before == nil {
		return apierrors.NewNotFound(k.groupResource(), name)
	}
	if p := preconditions; p != nil &&
		(p.UID != nil && *p.UID != before.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != before.GetResourceVersion()) {
		return apierrors.NewConflict(k.groupResource(), name, fmt.Errorf("the precondition is not met"))
	}
	if len(before.GetFinalizers()) == 0 {
		s.removeNow(k, before)
		return nil
	}
	if before.GetDeletionTimestamp() == nil {
		after := before.DeepCopyObject().(client.Object)
		now := metav1.NewTime(s.clock)
		after.SetDeletionTimestamp(&now)
		s.commit(k, before, after)
	}
	return nil
}

// commit stores the result of a write. A write without changes has no effect.
func (s *apiServer) commit(k kind, before, after client.Object) client.Object {
	if before != nil && sameContent(before, after) {
		return before
	}
	if before != nil && after.GetDeletionTimestamp() != nil && len(after.GetFinalizers()) == 0 {
		s.removeNow(k, before)
		return after
	}
	if before != nil {
		after.SetGeneration(before.GetGeneration())
		if !sameSpec(before, after) || (before.GetDeletionTimestamp() == nil) != (after.GetDeletionTimestamp() == nil) {
			after.SetGeneration(before.GetGeneration() + 1)
		}
	}
	s.revision++
	after.SetResourceVersion(strconv.Itoa(s.revision))
	s.put(k, after)
	s.onChange(k, before, after)
	return after
}

func (s *apiServer) removeNow(k kind, before client.Object) {
	s.revision++
	s.drop(k, before.GetName())
	s.onChange(k, before, nil)
}

// keepSubresources discards changes of the status unless they are made through the subresource, and
// all other changes if they are.
func keepSubresources(before, after client.Object, status bool) {
	from, to := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	if !status {
		if field := to.FieldByName("Status"); field.IsValid() {
			field.Set(reflect.ValueOf(before.DeepCopyObject()).Elem().FieldByName("Status"))
		}
		return
	}
	result := reflect.New(to.Type()).Elem()
	result.Set(from)
	result.FieldByName("Status").Set(to.FieldByName("Status"))
	to.Set(result)
}

func clearStatus(o client.Object) {
	if field := reflect.ValueOf(o).Elem().FieldByName("Status"); field.IsValid() {
		field.SetZero()
	}
}

func sameSpec(a, b client.Object) bool {
	x, y := reflect.ValueOf(a).Elem().FieldByName("Spec"), reflect.ValueOf(b).Elem().FieldByName("Spec")
	return !x.IsValid() || equality.Semantic.DeepEqual(x.Interface(), y.Interface())
}

// sameContent compares objects without versions and the times of field managers.
func sameContent(a, b client.Object) bool {
	return sameFieldManagers(a.GetManagedFields(), b.GetManagedFields()) && equality.Semantic.DeepEqual(withoutServerFields(a), withoutServerFields(b))
}

// withoutServerFields returns a shallow copy without the fields that the server sets.
func withoutServerFields(o client.Object) client.Object {
	b := shallowCopy(o)
	b.SetManagedFields(nil)
	b.SetResourceVersion("")
	b.SetGeneration(0)
	return b
}

// shallowCopy returns a copy that shares what pointers refer to.
func shallowCopy(o client.Object) client.Object {
	copied := reflect.New(reflect.TypeOf(o).Elem())
	copied.Elem().Set(reflect.ValueOf(o).Elem())
	return copied.Interface().(client.Object)
}

func sameFieldManagers(a, b []metav1.ManagedFieldsEntry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		x.Time, y.Time = nil, nil
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}
