// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// maxLive is the size of the largest response that is read from the API server.
const maxLive = 8 << 20

// liveKinds are the kinds that are read from the API server only, each with its rows.
var liveKinds = []string{"Pod", "Event", "HTTPRoute"}

// readLive records the kinds that are read from the API server.
type readLive struct {
	mu    sync.Mutex
	kinds map[string]bool
}

func (r *readLive) record(scheme *k8sruntime.Scheme, o k8sruntime.Object) {
	gvk, err := apiutil.GVKForObject(o, scheme)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kinds[strings.TrimSuffix(gvk.Kind, "List")] = true
}

// client returns a client of the API server that records what is read.
func (r *readLive) client(server client.WithWatch) client.WithWatch {
	return interceptor.NewClient(server, interceptor.Funcs{
		Get: func(ctx context.Context, server client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			r.record(server.Scheme(), o)
			return server.Get(ctx, key, o, options...)
		},
		List: func(ctx context.Context, server client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			r.record(server.Scheme(), list)
			return server.List(ctx, list, options...)
		},
	})
}

// expectRows checks that each kind that was read has rows, and that the rows of each kind have an
// effect.
func (r *readLive) expectRows(t *testing.T) {
	t.Helper()
	rows := map[string]bool{}
	for _, of := range watched() {
		rows[observed.KindOf(of)] = true
	}
	for _, kind := range liveKinds {
		rows[kind] = true
		if !r.kinds[kind] {
			t.Errorf("objects of kind %s are not read, so that their rows have no effect", kind)
		}
	}
	for kind := range r.kinds {
		if !rows[kind] {
			t.Errorf("objects of kind %s are read from the API server, and have no rows in the table", kind)
		}
	}
}

// liveInputs returns the largest lists and objects that are read from the API server.
func liveInputs(t *testing.T) []input {
	t.Helper()
	redis := "*v1.StatefulSet " + hostile.Namespace + " " + hostile.Name + "-redis"
	var pods, events, routes []client.Object
	for i := range maxLive / MaxObject {
		meta := metav1.ObjectMeta{Namespace: hostile.Namespace, Name: fmt.Sprintf("large-%d", i), UID: types.UID(fmt.Sprintf("large-%d", i))}
		pod := &corev1.Pod{ObjectMeta: meta}
		pod.Labels = map[string]string{v1alpha1.LabelName: hostile.Name, v1alpha1.LabelComponent: v1alpha1.ComponentCache}
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: hostile.Name + "-redis", UID: types.UID(redis), Controller: ptr.To(true)}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "redis", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: strings.Repeat("x", maxData)}}}}
		pad(pod, MaxObject, smallest)
		pods = append(pods, pod)
		event := &corev1.Event{ObjectMeta: meta, Reason: observed.FailedCreate, InvolvedObject: corev1.ObjectReference{UID: types.UID(redis)}, Message: strings.Repeat("x", maxData)}
		pad(event, MaxObject, smallest)
		events = append(events, event)
		route := &gatewayv1.HTTPRoute{ObjectMeta: meta}
		route.Spec.Rules = make([]gatewayv1.HTTPRouteRule, 1)
		pad(route, MaxObject, smallest)
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
			Namespace: hostile.Namespace, Name: fmt.Sprintf("%s-%08x", hostile.Name, i), UID: types.UID(fmt.Sprintf("service-%d", i)),
			Labels: map[string]string{v1alpha1.LabelName: hostile.Name}, Annotations: map[string]string{v1alpha1.AnnotationRoute: route.Name},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "FlagCache", Name: hostile.Name, UID: "*v1alpha1.FlagCache hostile demo", Controller: ptr.To(true)}},
		}}
		routes = append(routes, route, service)
	}
	return []input{
		{name: "live: pods of a cache", flagCache: hostileFlagCache(), objects: pods},
		{name: "live: events of a cache", flagCache: hostileFlagCache(), objects: events},
		{name: "live: routes of candidates", flagCache: hostileFlagCache(), objects: routes},
	}
}
