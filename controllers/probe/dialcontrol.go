// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// DialControl allows or denies an address just before connecting, like
// net.Dialer.Control: after name resolution, so that a changed DNS record cannot bypass
// it. An error that wraps ErrAddressNotAllowed becomes ReasonAddressNotAllowed.
type DialControl func(network, address string, conn syscall.RawConn) error

// ErrAddressNotAllowed is the error of an address that policy denies.
var ErrAddressNotAllowed = errors.New("address not allowed")

// ec2MetadataIPv6 is the IPv6 address of EC2's metadata service. Unlike its IPv4
// address 169.254.169.254 it is not link-local.
var ec2MetadataIPv6 = netip.MustParseAddr("fd00:ec2::254")

// DenyLinkLocal denies addresses that cannot be a cache and may serve credentials:
// link-local addresses, the cloud's metadata service, multicast, broadcast and the
// unspecified address. Loopback is allowed for port-forwards and sidecars.
func DenyLinkLocal(_, address string, _ syscall.RawConn) error {
	addrPort, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: not an IP address and port", ErrAddressNotAllowed)
	}
	addr := addrPort.Addr().Unmap().WithZone("")
	switch {
	case addr.IsLinkLocalUnicast(), addr == ec2MetadataIPv6:
		return fmt.Errorf("%w: link-local or metadata service", ErrAddressNotAllowed)
	case addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%w: multicast or broadcast", ErrAddressNotAllowed)
	case addr.IsUnspecified():
		return fmt.Errorf("%w: unspecified address", ErrAddressNotAllowed)
	}
	return nil
}
