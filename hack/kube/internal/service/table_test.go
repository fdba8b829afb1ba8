// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package service

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// endpoint returns an endpoint in one of the states that pods go through.
func endpoint(ip string, ready, serving, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{
		Ready: ptr.To(ready), Serving: ptr.To(serving), Terminating: ptr.To(terminating),
	}}
}

func TestEndpointsOf(t *testing.T) {
	cases := map[string]struct {
		endpoints []discoveryv1.Endpoint
		want      []string
	}{
		"ready ones only": {
			[]discoveryv1.Endpoint{endpoint("10.0.0.2", true, true, false), endpoint("10.0.0.1", true, true, false), endpoint("10.0.0.3", false, false, false)},
			[]string{"10.0.0.1:8080", "10.0.0.2:8080"},
		},
		"none": {nil, nil},
		"no leaving one while another is ready": {
			[]discoveryv1.Endpoint{endpoint("10.0.0.1", true, true, false), endpoint("10.0.0.2", false, true, true)},
			[]string{"10.0.0.1:8080"},
		},
		"leaving ones when no other is left": {
			[]discoveryv1.Endpoint{endpoint("10.0.0.1", false, true, true), endpoint("10.0.0.2", false, false, true)},
			[]string{"10.0.0.1:8080"},
		},
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	port := corev1.ServicePort{Name: "http", Port: 80}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			slice := &discoveryv1.EndpointSlice{
				AddressType: discoveryv1.AddressTypeIPv4, Endpoints: c.endpoints,
				Ports: []discoveryv1.EndpointPort{
					{Name: ptr.To("metrics"), Port: ptr.To[int32](9090)},
					{Name: ptr.To("http"), Port: ptr.To[int32](8080)},
				},
			}
			have := NewTable(nil).endpointsOf(service, port, []*discoveryv1.EndpointSlice{slice})
			if !slices.Equal(have, c.want) {
				t.Errorf("have %v, want %v", have, c.want)
			}
		})
	}
}

func TestTurnVisitsAllEndpointsAlsoWhenTheyChange(t *testing.T) {
	p := &port{endpoints: []string{"a", "b", "c"}}
	visited := map[string]int{}
	for range 6 {
		visited[p.turn()[0]]++
	}
	if visited["a"] != 2 || visited["b"] != 2 || visited["c"] != 2 {
		t.Errorf("six turns are %v", visited)
	}
	p.setEndpoints([]string{"d"})
	if have := p.turn(); !slices.Equal(have, []string{"d"}) {
		t.Errorf("have %v, want d alone", have)
	}
}
