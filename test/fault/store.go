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

// scheme knows every kind of the World.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	utilruntime.Must(ack.AddToScheme(s))
	utilruntime.Must(gatewayv1.Install(s))
	return s
}()

// kind is a kind of objects that the World stores.
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
	httpRoutes
	// ACK's kinds are the last ones.
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

// kindFacts is what the API server knows of a kind.
type kindFacts struct {
	gvk      schema.GroupVersionKind
	resource string
	new      func() client.Object
}

var facts = withACK([kinds]kindFacts{
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
	httpRoutes: {schema.GroupVersionKind{Group: gatewayv1.GroupName, Version: "v1", Kind: "HTTPRoute"}, "httproutes", func() client.Object { return &gatewayv1.HTTPRoute{} }},
	policies:   {networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"), "networkpolicies", func() client.Object { return &networkingv1.NetworkPolicy{} }},
})

// withACK adds the kinds of ACK.
func withACK(facts [kinds]kindFacts) [kinds]kindFacts {
	for i, k := range ack.Kinds() {
		facts[replicationGroups+kind(i)] = kindFacts{k.GroupVersionKind, k.Resource, k.New}
	}
	return facts
}

func (k kind) String() string { return facts[k].gvk.Kind }

func (k kind) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: facts[k].gvk.Group, Resource: facts[k].resource}
}

// kindNamed is the kind with a name; the World meets no others.
func kindNamed(name string) kind {
	for k := range kinds {
		if facts[k].gvk.Kind == name {
			return k
		}
	}
	panic(fmt.Sprintf("the World has no kind %q", name))
}

// kindOf is the kind of an object or of a list of objects.
func kindOf(o runtime.Object) kind {
	if partial, ok := o.(*metav1.PartialObjectMetadata); ok {
		return kindNamed(partial.Kind)
	}
	if open, ok := o.(*unstructured.Unstructured); ok {
		return kindNamed(open.GetKind())
	}
	name := fmt.Sprintf("%T", o)
	return kindNamed(strings.TrimSuffix(name[strings.LastIndex(name, ".")+1:], "List"))
}

// store is the cluster's memory, and it forgets nothing: of each kind it keeps
// every state that there ever was. Stored objects are never changed, so a copy
// of a store is a copy of a few slice headers.
type store struct {
	// past are the states of each kind, the last one is the present. A state is
	// sorted by name.
	past [kinds][][]client.Object
	// log is the kind that each change was of.
	log []kind
	// revision is the last resourceVersion.
	revision int
	// uids is the last UID.
	uids int
}

func newStore() store {
	var s store
	for k := range kinds {
		s.past[k] = [][]client.Object{nil}
	}
	return s
}

// fork is an independent copy.
func (s *store) fork() store {
	forked := *s
	for k := range kinds {
		forked.past[k] = slices.Clip(s.past[k])
	}
	forked.log = slices.Clip(s.log)
	return forked
}

// present is the number of a kind's present state.
func (s *store) present(k kind) int { return len(s.past[k]) - 1 }

// at are the objects of a kind in one of its states.
func (s *store) at(k kind, state int) []client.Object {
	return s.past[k][max(0, min(state, s.present(k)))]
}

// now are the objects of a kind.
func (s *store) now(k kind) []client.Object { return s.past[k][s.present(k)] }

// find is an object by name, nil when there is none.
func find(objects []client.Object, name string) client.Object {
	i, ok := search(objects, name)
	if !ok {
		return nil
	}
	return objects[i]
}

func search(objects []client.Object, name string) (int, bool) {
	return slices.BinarySearchFunc(objects, name, func(o client.Object, name string) int { return strings.Compare(o.GetName(), name) })
}

// put replaces or adds an object.
func (s *store) put(k kind, o client.Object) {
	state := slices.Clone(s.now(k))
	i, ok := search(state, o.GetName())
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
	if i, ok := search(state, name); ok {
		s.append(k, slices.Delete(state, i, i+1))
	}
}

func (s *store) append(k kind, state []client.Object) {
	s.past[k] = append(s.past[k], state)
	s.log = append(s.log, k)
}

// before is the state of each kind so many changes ago, counted in changes of
// one kind or, with kinds, of any.
func (s *store) before(k kind, changes int) (states [kinds]int) {
	for any := range kinds {
		states[any] = s.present(any)
	}
	if k < kinds {
		states[k] = max(0, states[k]-changes)
		return states
	}
	for i := len(s.log) - 1; i >= 0 && changes > 0; i, changes = i-1, changes-1 {
		states[s.log[i]]--
	}
	return states
}

// live is an object of a type, false when there is none.
func live[T client.Object](s *store, k kind, name string) (T, bool) {
	o, ok := find(s.now(k), name).(T)
	return o, ok
}
