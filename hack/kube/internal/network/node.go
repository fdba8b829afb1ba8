// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

const (
	// NodeAddress is the node's address on the bridge and the pods' gateway.
	NodeAddress = "10.244.0.1"
	// DNSAddress is the address of the cluster's DNS.
	DNSAddress = "10.96.0.10"
	// Domain is the DNS domain of the cluster.
	Domain = "cluster.local"
	// APIServer is where the API server listens in the node's namespace.
	APIServer = "127.0.0.1:6443"

	bridgeName = "pods"
)

// bridgeHardwareAddress is a locally administered address. By default a bridge has the
// lowest address of its ports, which changes as pods are created and deleted; the node
// would then be unreachable for seconds, until its neighbors repeat the ARP request.
var bridgeHardwareAddress = net.HardwareAddr{0x0a, 0x58, 10, 244, 0, 1}

var (
	podRange     = netip.MustParsePrefix("10.244.0.0/16")
	serviceRange = netip.MustParsePrefix("10.96.0.0/16")
)

// PrepareNode makes the bridge and routes in the current network namespace, which
// must be a fresh one.
func PrepareNode() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("starting the loopback interface: %w", err)
	}
	if err := addBridge(); err != nil {
		return err
	}
	// All addresses of a range with a local route are the node's own: programs
	// can listen on them, and connecting where nobody listens is refused.
	route := &netlink.Route{
		LinkIndex: loopback.Attrs().Index, Dst: toIPNet(serviceRange),
		Type: routeLocal, Table: tableLocal, Scope: netlink.SCOPE_HOST,
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("routing the addresses of Services: %w", err)
	}
	return nil
}

func addBridge() error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.HardwareAddr = bridgeName, bridgeHardwareAddress
	bridge := &netlink.Bridge{LinkAttrs: attributes}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("adding the bridge for pods: %w", err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(NodeAddress), Mask: toIPNet(podRange).Mask}}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("giving the bridge an address: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("starting the bridge: %w", err)
	}
	return nil
}

func toIPNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{
		IP:   prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}
}
