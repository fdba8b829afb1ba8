// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// envAPIServer is the ClusterIP of the API server, which Kubernetes sets in every pod.
const envAPIServer = "KUBERNETES_SERVICE_HOST"

// How often the addresses of the API server are read, and for how long at most.
const (
	apiServerInterval = 30 * time.Second
	apiServerTimeout  = 10 * time.Second
)

// apiServerEndpoints is the EndpointSlice of the API servers, which they write themselves.
var apiServerEndpoints = client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}

// apiServer follows the addresses of the API server, which those who run a control plane may
// change at any time.
type apiServer struct {
	// hosts are the ClusterIP and the host that the operator itself uses.
	hosts []string
	// reader reads from the API server.
	reader   client.Reader
	resolver *net.Resolver
	interval time.Duration
	log      logr.Logger

	// resolved are those of hosts, on any port, and endpoints those of the EndpointSlice.
	resolved, endpoints atomic.Pointer[[]netip.AddrPort]
}

// addAPIServer reads the addresses of the API server and adds their refresh to the manager.
func addAPIServer(ctx context.Context, mgr ctrl.Manager) (*apiServer, error) {
	server, _, err := rest.DefaultServerUrlFor(mgr.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("parsing the address of the API server: %w", err)
	}
	a := &apiServer{
		hosts: []string{server.Hostname(), os.Getenv(envAPIServer)}, reader: mgr.GetAPIReader(), resolver: net.DefaultResolver,
		interval: apiServerInterval, log: mgr.GetLogger().WithName("api-server"),
	}
	if err := a.refresh(ctx); err != nil {
		return nil, err
	}
	if a.endpoints.Load() == nil {
		a.log.Info("The endpoints of the API server are unknown, so FlagCaches are only kept from its ClusterIP: close them by the policy", "endpointSlice", apiServerEndpoints.String())
	}
	if err := mgr.Add(a); err != nil {
		return nil, fmt.Errorf("adding the refresh of the API server's addresses: %w", err)
	}
	return a, nil
}

// addresses returns the current ones.
func (a *apiServer) addresses() []netip.AddrPort {
	var all []netip.AddrPort
	for _, part := range []*[]netip.AddrPort{a.resolved.Load(), a.endpoints.Load()} {
		if part != nil {
			all = append(all, *part...)
		}
	}
	return all
}

// Start implements manager.Runnable.
func (a *apiServer) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := a.refresh(ctx); err != nil && ctx.Err() == nil {
			a.log.Error(err, "Keeping the previous addresses of the API server")
		}
	}, a.interval)
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: a replica that becomes the
// leader has the current addresses.
func (a *apiServer) NeedLeaderElection() bool { return false }

// refresh reads the addresses. What cannot be read remains as it was.
func (a *apiServer) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiServerTimeout)
	defer cancel()
	resolved, resolveErr := a.resolve(ctx)
	if resolveErr == nil {
		a.resolved.Store(&resolved)
	}
	slice := &discoveryv1.EndpointSlice{}
	err := a.reader.Get(ctx, apiServerEndpoints, slice)
	switch {
	// An operator for one namespace may not read it, and not every API server writes it.
	case apierrors.IsForbidden(err) || apierrors.IsNotFound(err):
		err = nil
	case err != nil:
		err = fmt.Errorf("reading EndpointSlice %s: %w", apiServerEndpoints, err)
	default:
		endpoints := endpointsOf(slice)
		a.endpoints.Store(&endpoints)
	}
	return errors.Join(resolveErr, err)
}

// resolve resolves the hosts.
func (a *apiServer) resolve(ctx context.Context) ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	for _, host := range a.hosts {
		if host == "" {
			continue
		}
		found, err := a.resolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, fmt.Errorf("resolving %s, the host of the API server: %w", host, err)
		}
		for _, addr := range found {
			all = append(all, netip.AddrPortFrom(addr.Unmap().WithZone(""), 0))
		}
	}
	return all, nil
}

// endpointsOf returns the addresses of an EndpointSlice with each of its ports. One without
// a port is closed on every port.
func endpointsOf(slice *discoveryv1.EndpointSlice) []netip.AddrPort {
	var ports []uint16
	for _, port := range slice.Ports {
		if port.Port != nil {
			ports = append(ports, uint16(*port.Port))
		}
	}
	if len(ports) == 0 {
		ports = []uint16{0}
	}
	var all []netip.AddrPort
	for _, endpoint := range slice.Endpoints {
		for _, text := range endpoint.Addresses {
			if addr, err := netip.ParseAddr(text); err == nil {
				for _, port := range ports {
					all = append(all, netip.AddrPortFrom(addr.Unmap().WithZone(""), port))
				}
			}
		}
	}
	return all
}
