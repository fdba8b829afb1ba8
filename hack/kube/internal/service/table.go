// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// Table contains the Services of the cluster and their endpoints.
type Table struct {
	// fixed are endpoints of ports without an EndpointSlice, by
	// NAMESPACE/NAME:PORTNAME.
	fixed     map[string]string
	services  corelisters.ServiceLister
	endpoints discoverylisters.EndpointSliceLister

	mu       sync.Mutex
	watchers []func()
}

// NewTable returns a table that is empty until it follows a cluster. Fixed are
// endpoints (host:port) of ports of Services, by NAMESPACE/NAME:PORTNAME, that are
// used instead of those of the cluster.
func NewTable(fixed map[string]string) *Table {
	return &Table{fixed: fixed}
}

// Follow fills the table and keeps it up to date until the context ends. It
// returns when the table is filled.
func (t *Table) Follow(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	services, slices := factory.Core().V1().Services(), factory.Discovery().V1().EndpointSlices()
	t.services, t.endpoints = services.Lister(), slices.Lister()
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), slices.Informer()} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { t.notify() },
			UpdateFunc: func(any, any) { t.notify() },
			DeleteFunc: func(any) { t.notify() },
		}); err != nil {
			return fmt.Errorf("following Services: %w", err)
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return errors.Join(fmt.Errorf("following %v", kind), ctx.Err())
		}
	}
	return nil
}

// watch calls changed, which must not block, when the table changes.
func (t *Table) watch(changed func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, changed)
}

func (t *Table) notify() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, changed := range t.watchers {
		changed()
	}
}

// routes returns the endpoints (host:port) for each address (host:port) of a Service.
// Addresses without endpoints are left out.
func (t *Table) routes() (map[string][]string, error) {
	services, err := t.services.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	routes := map[string][]string{}
	for _, s := range services {
		if !hasClusterIP(s) {
			continue
		}
		slices, err := t.slicesOf(s)
		if err != nil {
			return nil, err
		}
		for _, port := range s.Spec.Ports {
			if port.Protocol != corev1.ProtocolTCP {
				continue
			}
			if endpoints := t.endpointsOf(s, port, slices); len(endpoints) > 0 {
				routes[net.JoinHostPort(s.Spec.ClusterIP, strconv.Itoa(int(port.Port)))] = endpoints
			}
		}
	}
	return routes, nil
}

func hasClusterIP(s *corev1.Service) bool {
	return s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone && s.Spec.Type != corev1.ServiceTypeExternalName
}

func (t *Table) slicesOf(s *corev1.Service) ([]*discoveryv1.EndpointSlice, error) {
	selector := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name})
	slices, err := t.endpoints.EndpointSlices(s.Namespace).List(selector)
	if err != nil {
		return nil, fmt.Errorf("listing the endpoints of Service %s/%s: %w", s.Namespace, s.Name, err)
	}
	return slices, nil
}

// endpointsOf returns the endpoints of a port that receive connections: those that are
// ready, or else those that still serve while they terminate.
func (t *Table) endpointsOf(s *corev1.Service, port corev1.ServicePort, slices []*discoveryv1.EndpointSlice) []string {
	if fixed, ok := t.fixed[s.Namespace+"/"+s.Name+":"+port.Name]; ok {
		return []string{fixed}
	}
	ready, leaving := map[string]bool{}, map[string]bool{}
	for _, slice := range slices {
		number := portNumber(slice, port.Name)
		if number == 0 || slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			for _, address := range endpoint.Addresses {
				target := net.JoinHostPort(address, strconv.Itoa(int(number)))
				switch {
				case isReady(endpoint):
					ready[target] = true
				case isTrue(endpoint.Conditions.Serving) && isTrue(endpoint.Conditions.Terminating):
					leaving[target] = true
				}
			}
		}
	}
	if len(ready) == 0 {
		return sorted(leaving)
	}
	return sorted(ready)
}

// portNumber returns the port of a slice's endpoints with a name, 0 if it has none.
func portNumber(slice *discoveryv1.EndpointSlice, name string) int32 {
	for _, port := range slice.Ports {
		if port.Port != nil && (port.Name == nil && name == "" || port.Name != nil && *port.Name == name) {
			return *port.Port
		}
	}
	return 0
}

// isReady follows the API: a missing condition means ready.
func isReady(e discoveryv1.Endpoint) bool {
	return e.Conditions.Ready == nil || *e.Conditions.Ready
}

func isTrue(condition *bool) bool { return condition != nil && *condition }

func sorted(set map[string]bool) []string {
	var list []string
	for item := range set {
		list = append(list, item)
	}
	sort.Strings(list)
	return list
}
