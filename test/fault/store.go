// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// scheme has all kinds of the World.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	utilruntime.Must(ack.AddToScheme(s))
	utilruntime.Must(gatewayv1.Install(s))
	return s
}()

// kind is a kind of stored objects.
type kind int

const (
	flagCaches kind = iota
	secrets
	configMaps
	services
	serviceAccounts
	deployments
	statefulSets
	controllerRevisions
	jobs
	budgets
	autoscalers
	policies
	pods
	events
	httpRoutes
	// ACK's kinds are last.
	replicationGroups
	subnetGroups
	parameterGroups
	users
	userGroups
	snapshots
	securityGroups
	metricAlarms
	kinds
)

// kindInfo is the metadata of a kind.
type kindInfo struct {
	gvk      schema.GroupVersionKind
	resource string
	new      func() client.Object
}

var kindInfos = withACK([kinds]kindInfo{
	flagCaches: {v1alpha1.GroupVersion.WithKind("FlagCache"), "flagcaches", func() client.Object { return &v1alpha1.FlagCache{} }},
	secrets:    {corev1.SchemeGroupVersion.WithKind("Secret"), "secrets", func() client.Object { return &corev1.Secret{} }},
	configMaps: {corev1.SchemeGroupVersion.WithKind("ConfigMap"), "configmaps", func() client.Object { return &corev1.ConfigMap{} }},
	services:   {corev1.SchemeGroupVersion.WithKind("Service"), "services", func() client.Object { return &corev1.Service{} }},
	serviceAccounts: {corev1.SchemeGroupVersion.WithKind("ServiceAccount"), "serviceaccounts",
		func() client.Object { return &corev1.ServiceAccount{} }},
	deployments:  {appsv1.SchemeGroupVersion.WithKind("Deployment"), "deployments", func() client.Object { return &appsv1.Deployment{} }},
	statefulSets: {appsv1.SchemeGroupVersion.WithKind("StatefulSet"), "statefulsets", func() client.Object { return &appsv1.StatefulSet{} }},
	controllerRevisions: {appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), "controllerrevisions",
		func() client.Object { return &appsv1.ControllerRevision{} }},
	jobs: {batchv1.SchemeGroupVersion.WithKind("Job"), "jobs", func() client.Object { return &batchv1.Job{} }},
	budgets: {policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), "poddisruptionbudgets",
		func() client.Object { return &policyv1.PodDisruptionBudget{} }},
	autoscalers: {autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"), "horizontalpodautoscalers",
		func() client.Object { return &autoscalingv2.HorizontalPodAutoscaler{} }},
	pods:       {corev1.SchemeGroupVersion.WithKind("Pod"), "pods", func() client.Object { return &corev1.Pod{} }},
	events:     {corev1.SchemeGroupVersion.WithKind("Event"), "events", func() client.Object { return &corev1.Event{} }},
	httpRoutes: {schema.GroupVersionKind{Group: gatewayv1.GroupName, Version: "v1", Kind: "HTTPRoute"}, "httproutes", func() client.Object { return &gatewayv1.HTTPRoute{} }},
	policies:   {networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"), "networkpolicies", func() client.Object { return &networkingv1.NetworkPolicy{} }},
})

// withACK adds the kinds of ACK.
func withACK(facts [kinds]kindInfo) [kinds]kindInfo {
	for i, k := range ack.Kinds() {
		facts[replicationGroups+kind(i)] = kindInfo{k.GroupVersionKind, k.Resource, k.New}
	}
	return facts
}

func (k kind) String() string { return kindInfos[k].gvk.Kind }

func (k kind) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: kindInfos[k].gvk.Group, Resource: kindInfos[k].resource}
}

// kindNamed returns the kind with a name. It panics if there is none.
func kindNamed(name string) kind {
	for k := range kinds {
		if kindInfos[k].gvk.Kind == name {
			return k
		}
	}
	panic(fmt.Sprintf("the World has no kind %q", name))
}

// kindOf returns the kind of an object or a list.
func kindOf(o runtime.Object) kind {
	switch partial := o.(type) {
	case *metav1.PartialObjectMetadata:
		return kindNamed(partial.Kind)
	case *metav1.PartialObjectMetadataList:
		return kindNamed(strings.TrimSuffix(partial.Kind, "List"))
	}
	if open, ok := o.(*unstructured.Unstructured); ok {
		return kindNamed(open.GetKind())
	}
	name := fmt.Sprintf("%T", o)
	return kindNamed(strings.TrimSuffix(name[strings.LastIndex(name, ".")+1:], "List"))
}

// store has the objects of the cluster, and the history of each kind. Stored objects are never
// modified, so a fork copies only slice headers.
type store struct {
	// history has the states of each kind; the last one is current. A state is sorted by name.
	history [kinds][][]client.Object
	// changes has the kind of each change.
	changes []kind
	// revision is the last resource version.
	revision int
	// lastUID is the number of the last UID.
	lastUID int
}

func newStore() store {
	var s store
	for k := range kinds {
		s.history[k] = [][]client.Object{nil}
	}
	return s
}

// fork returns an independent copy.
func (s *store) fork() store {
	forked := *s
	for k := range kinds {
		forked.history[k] = slices.Clip(s.history[k])
	}
	forked.changes = slices.Clip(s.changes)
	return forked
}

// currentState returns the index of a kind's current state.
func (s *store) currentState(k kind) int { return len(s.history[k]) - 1 }

// at returns the objects of a kind in one of its states.
func (s *store) at(k kind, state int) []client.Object {
	return s.history[k][max(0, min(state, s.currentState(k)))]
}

// now returns the current objects of a kind.
func (s *store) now(k kind) []client.Object { return s.history[k][s.currentState(k)] }

// find returns an object by name, or nil.
func find(objects []client.Object, name string) client.Object {
	i, ok := indexOf(objects, name)
	if !ok {
		return nil
	}
	return objects[i]
}

func indexOf(objects []client.Object, name string) (int, bool) {
	return slices.BinarySearchFunc(objects, name, func(o client.Object, name string) int { return strings.Compare(o.GetName(), name) })
}

// put adds or replaces an object.
func (s *store) put(k kind, o client.Object) {
	state := slices.Clone(s.now(k))
	i, ok := indexOf(state, o.GetName())
	if ok {
		state[i] = o
	} else {
		state = slices.Insert(state, i, o)
	}
	s.append(k, state)
}

// drop removes an object.
func (s *store) drop(k kind, name string) {
	state := slices.Clone(s.now(k))
	if i, ok := indexOf(state, name); ok {
		s.append(k, slices.Delete(state, i, i+1))
	}
}

func (s *store) append(k kind, state []client.Object) {
	s.history[k] = append(s.history[k], state)
	s.changes = append(s.changes, k)
}

// statesBefore returns the indexes of the states of all kinds a number of changes ago, counting
// changes of one kind or, with kinds, of all of them.
func (s *store) statesBefore(k kind, changes int) (states [kinds]int) {
	for any := range kinds {
		states[any] = s.currentState(any)
	}
	if k < kinds {
		states[k] = max(0, states[k]-changes)
		return states
	}
	for i := len(s.changes) - 1; i >= 0 && changes > 0; i, changes = i-1, changes-1 {
		states[s.changes[i]]--
	}
	return states
}

// forget forgets all states but those of a number of last changes.
func (s *store) forget(changes int) {
	first := s.statesBefore(kinds, changes)
	for k := range kinds {
		if first[k] > 0 {
			s.history[k] = slices.Clone(s.history[k][first[k]:])
		}
	}
	if len(s.changes) > changes {
		s.changes = slices.Clone(s.changes[len(s.changes)-changes:])
	}
}

// live returns the current object of a type with a name, and whether it exists.
func live[T client.Object](s *store, k kind, name string) (T, bool) {
	o, ok := find(s.now(k), name).(T)
	return o, ok
}
