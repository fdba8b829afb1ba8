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

// neverDialed are the addresses that can be no cache and no source of metrics, with where
// they are defined. Some of them give credentials to whoever connects from a node.
var neverDialed = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"},                               // RFC 1122, section 3.2.1.3
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local or metadata service"},     // RFC 3927; metadata of AWS, Azure, Google Cloud and others
	{netip.MustParsePrefix("100.100.100.200/32"), "metadata service"},               // Alibaba Cloud, "Instance metadata"
	{netip.MustParsePrefix("168.63.129.16/32"), "metadata service"},                 // Azure, "What is IP address 168.63.129.16?"
	{netip.MustParsePrefix("192.0.0.0/24"), "metadata service or protocol address"}, // RFC 6890; Oracle Cloud at 192.0.0.192
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},                             // RFC 5771
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},                      // RFC 919
	{netip.MustParsePrefix("::/128"), "unspecified"},                                // RFC 4291, section 2.5.2
	{netip.MustParsePrefix("fe80::/10"), "link-local"},                              // RFC 4291, section 2.5.6
	{netip.MustParsePrefix("ff00::/8"), "multicast"},                                // RFC 4291, section 2.7
	{netip.MustParsePrefix("fd00:ec2::/32"), "metadata service"},                    // AWS, "Use the Instance Metadata Service", and its DNS and time at ::253 and ::123
	{netip.MustParsePrefix("fd20:ce::254/128"), "metadata service"},                 // Google Cloud, "View and query VM metadata"
}

// embedding are the IPv6 prefixes whose addresses stand for an IPv4 address, which begins
// at a byte.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible, RFC 4291, section 2.5.5.1
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64 of a network, RFC 8215, by its usual prefixes of 96 bits
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4, RFC 3056
}

// DenySpecial denies the addresses that are never dialed. Loopback is allowed, for
// port-forwards and sidecars; see DenyLocal.
func DenySpecial(_, address string, _ syscall.RawConn) error {
	addr, err := resolved(address)
	if err != nil || addr.IsLoopback() {
		return err
	}
	if v4, ok := embedded(addr); ok {
		addr = v4
		if addr.IsLoopback() {
			return fmt.Errorf("%w: loopback", ErrAddressNotAllowed)
		}
	}
	for _, denied := range neverDialed {
		if denied.prefix.Contains(addr) {
			return fmt.Errorf("%w: %s", ErrAddressNotAllowed, denied.what)
		}
	}
	return nil
}

// DenyLocal denies loopback as well.
func DenyLocal(network, address string, conn syscall.RawConn) error {
	if addr, err := resolved(address); err == nil && addr.IsLoopback() {
		return fmt.Errorf("%w: loopback", ErrAddressNotAllowed)
	}
	return DenySpecial(network, address, conn)
}

// resolved returns the address that is about to be connected to.
func resolved(address string) (netip.Addr, error) {
	addrPort, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: not an IP address and port", ErrAddressNotAllowed)
	}
	return addrPort.Addr().Unmap().WithZone(""), nil
}

// embedded returns the IPv4 address that an IPv6 address stands for.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	for _, e := range embedding {
		if e.prefix.Contains(addr) && !addr.IsUnspecified() {
			bytes := addr.As16()
			return netip.AddrFrom4([4]byte(bytes[e.at : e.at+4])), true
		}
	}
	return netip.Addr{}, false
}
