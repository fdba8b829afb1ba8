// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/flagcache/flagcache/controllers/policy"
)

// controlPlane is what an apiServer reads.
type controlPlane struct {
	client client.Client

	mu  sync.Mutex
	err error
}

func newControlPlane(addresses ...string) *controlPlane {
	c := &controlPlane{}
	c.client = fake.NewClientBuilder().WithObjects(endpointSlice(addresses...)).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, server client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.err != nil {
				return c.err
			}
			return server.Get(ctx, key, o, opts...)
		},
	}).Build()
	return c
}

func (c *controlPlane) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// move gives the API server other addresses.
func (c *controlPlane) move(t *testing.T, addresses ...string) {
	t.Helper()
	slice := &discoveryv1.EndpointSlice{}
	if err := c.client.Get(t.Context(), apiServerEndpoints, slice); err != nil {
		t.Fatal(err)
	}
	slice.Endpoints = endpointSlice(addresses...).Endpoints
	if err := c.client.Update(t.Context(), slice); err != nil {
		t.Fatal(err)
	}
}

// server returns the addresses of the control plane, whose ClusterIP is 10.96.0.1.
func (c *controlPlane) server() *apiServer {
	return &apiServer{
		hosts: []string{"10.96.0.1", "", "::ffff:10.96.0.1"}, reader: c.client, resolver: net.DefaultResolver,
		interval: time.Millisecond, log: logr.Discard(),
	}
}

func endpointSlice(addresses ...string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"},
		Ports:      []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To[int32](6443)}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: addresses}},
	}
}

// closed returns the targets that may not be connected to.
func closed(a *apiServer, targets ...string) []string {
	rules := dialRules(a, func() *policy.Policy { return nil })
	return slices.DeleteFunc(targets, func(target string) bool {
		_, err := rules.Check(netip.MustParseAddrPort(target))
		return err == nil
	})
}

// TestAddressesOfTheAPIServerAreFollowed: they are closed wherever the control plane moves to.
func TestAddressesOfTheAPIServerAreFollowed(t *testing.T) {
	g := NewWithT(t)
	cluster := newControlPlane("10.0.0.7", "2001:db8::7")
	server := cluster.server()
	g.Expect(server.refresh(t.Context())).To(Succeed())
	targets := []string{"10.96.0.1:443", "10.96.0.1:6379", "10.0.0.7:6443", "10.0.0.7:6379", "[::ffff:10.0.0.7]:6443", "[2001:db8::7]:6443", "10.0.0.8:6443"}
	g.Expect(closed(server, slices.Clone(targets)...)).To(Equal([]string{"10.96.0.1:443", "10.96.0.1:6379", "10.0.0.7:6443", "[::ffff:10.0.0.7]:6443", "[2001:db8::7]:6443"}))

	running, stop := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { _ = server.Start(running) })
	defer ended.Wait()
	defer stop()
	cluster.move(t, "10.0.0.8")
	g.Eventually(func() []string { return closed(server, slices.Clone(targets)...) }).WithTimeout(time.Minute).
		Should(Equal([]string{"10.96.0.1:443", "10.96.0.1:6379", "10.0.0.8:6443"}))
}

// TestUnreadableAddressesOfTheAPIServerRemain: what is closed is not opened because of an error.
func TestUnreadableAddressesOfTheAPIServerRemain(t *testing.T) {
	slices := discoveryv1.Resource("endpointslices")
	for name, c := range map[string]struct {
		err   error
		fails bool
	}{
		"forbidden":               {err: apierrors.NewForbidden(slices, "kubernetes", nil)},
		"not found":               {err: apierrors.NewNotFound(slices, "kubernetes")},
		"unreachable":             {err: errors.New("connection refused"), fails: true},
		"an error of the cluster": {err: apierrors.NewInternalError(errors.New("etcd")), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			cluster := newControlPlane("10.0.0.7")
			cluster.fail(c.err)
			unknown := cluster.server()
			g.Expect(unknown.refresh(t.Context()) != nil).To(Equal(c.fails))
			g.Expect(closed(unknown, "10.96.0.1:443", "10.0.0.7:6443")).To(Equal([]string{"10.96.0.1:443"}))

			cluster.fail(nil)
			known := cluster.server()
			g.Expect(known.refresh(t.Context())).To(Succeed())
			cluster.fail(c.err)
			known.hosts = []string{"no..such.host"}
			g.Expect(known.refresh(t.Context())).To(MatchError(ContainSubstring("no..such.host")))
			g.Expect(closed(known, "10.96.0.1:443", "10.0.0.7:6443")).To(HaveLen(2))
		})
	}
}

func TestEndpointsOfASlice(t *testing.T) {
	port := func(ports ...int32) *discoveryv1.EndpointSlice {
		slice := endpointSlice("10.0.0.7")
		slice.Ports = nil
		for _, p := range ports {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Port: ptr.To(p)})
		}
		return slice
	}
	for want, slice := range map[string]*discoveryv1.EndpointSlice{
		"[10.0.0.7:6443]":               port(6443),
		"[10.0.0.7:443 10.0.0.7:6443]":  port(443, 6443),
		"[10.0.0.7:0]":                  port(),
		"[10.0.0.7:6443 10.0.0.8:6443]": endpointSlice("::ffff:10.0.0.7", "api.example", "10.0.0.8"),
		"[]":                            endpointSlice(),
	} {
		if got := fmt.Sprint(endpointsOf(slice)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
