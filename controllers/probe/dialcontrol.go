// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// DialControl decides about an address just before it is connected to, as
// net.Dialer.Control does: after the name was resolved, so that a name server that
// changes its answer changes nothing. An error that wraps ErrAddressNotAllowed
// becomes ReasonAddressNotAllowed.
type DialControl func(network, address string, conn syscall.RawConn) error

// ErrAddressNotAllowed says that policy forbids to connect to an address.
var ErrAddressNotAllowed = errors.New("address not allowed")

// ec2MetadataIPv6 is where EC2 serves credentials to instances over IPv6, outside
// of the link-local range that holds its IPv4 twin 169.254.169.254.
var ec2MetadataIPv6 = netip.MustParseAddr("fd00:ec2::254")

// DenyLinkLocal refuses what can never be a cache and may be something that hands
// out credentials: link-local addresses, the cloud's metadata service, multicast,
// broadcast and the unspecified address. Loopback is allowed: port-forwards and
// sidecars live there.
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
