// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dial decides which addresses the operator connects to because a FlagCache names
// them: caches, Prometheus servers and pods.
//
// The decision is about the address that a name was resolved to, just before connecting,
// so that a DNS record that changes cannot bypass it:
//
//	name -> resolver -> address -> Rules.Check -> connect
//
// The longest prefix decides, of the administrator's lists and of the addresses that are
// closed by default: a node's own, those of metadata services and others that can be no
// server. The API server is always closed, at its current addresses. An IPv6 address that
// stands for an IPv4 address is that address.
package dial

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/flagcache/flagcache/controllers/policy"
)

// ErrNotAllowed is the error of an address that must not be connected to.
var ErrNotAllowed = errors.New("address not allowed")

// Rules are the rules for addresses. The zero value has the defaults.
type Rules struct {
	// Lists returns the administrator's lists, nil for none.
	Lists func() *policy.Addresses
	// APIServer returns the current addresses of the API server, nil for none. One with port
	// 0 is closed whatever the port: with another port, something else may listen at the
	// address, such as that of the only node of a cluster.
	APIServer func() []netip.AddrPort
	// Resolver resolves names; nil is the system's.
	Resolver *net.Resolver
}

// closed are the addresses that are closed by default, with where they are defined. Some
// of them give credentials to whoever connects from a node.
var closed = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},                              // RFC 1122, section 3.2.1.3
	{netip.MustParsePrefix("::1/128"), "loopback"},                                  // RFC 4291, section 2.5.3
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"},                               // RFC 1122, section 3.2.1.3
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},                         // RFC 3927
	{netip.MustParsePrefix("169.254.169.254/32"), "metadata service"},               // AWS, Azure, Google Cloud and others
	{netip.MustParsePrefix("169.254.170.2/32"), "metadata service"},                 // AWS, "Amazon ECS task metadata endpoint"
	{netip.MustParsePrefix("169.254.170.23/32"), "metadata service"},                // AWS, "EKS Pod Identity"
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

// Check reports whether an address may be connected to: the error wraps ErrNotAllowed if
// not. listed means that the administrator has opened it.
func (r *Rules) Check(target netip.AddrPort) (listed bool, err error) {
	addr := target.Addr().Unmap().WithZone("")
	lists := &policy.Addresses{}
	if r.Lists != nil {
		if current := r.Lists(); current != nil {
			lists = current
		}
	}
	if listing, _ := lists.Match(addr); listing == policy.Denied {
		return false, fmt.Errorf("%w: by the operator's policy", ErrNotAllowed)
	}
	if v4, ok := embedded(addr); ok {
		addr = v4
	}
	listing, decides := lists.Match(addr)
	special, what := closing(addr)
	switch {
	case r.isAPIServer(netip.AddrPortFrom(addr, target.Port())):
		return false, fmt.Errorf("%w: API server", ErrNotAllowed)
	case listing == policy.Denied:
		return false, fmt.Errorf("%w: by the operator's policy", ErrNotAllowed)
	case special.IsValid() && (listing == policy.Unlisted || decides.Bits() < special.Bits()):
		return false, fmt.Errorf("%w: %s", ErrNotAllowed, what)
	}
	return listing == policy.Allowed, nil
}

// isAPIServer reports whether the API server listens at an address.
func (r *Rules) isAPIServer(target netip.AddrPort) bool {
	return r.APIServer != nil && slices.ContainsFunc(r.APIServer(), func(server netip.AddrPort) bool {
		return server.Addr() == target.Addr() && (server.Port() == 0 || server.Port() == target.Port())
	})
}

// closing returns the longest prefix that closes an address by default, invalid if there
// is none, and what it is.
func closing(addr netip.Addr) (longest netip.Prefix, what string) {
	for _, c := range closed {
		if c.prefix.Contains(addr) && (!longest.IsValid() || c.prefix.Bits() > longest.Bits()) {
			longest, what = c.prefix, c.what
		}
	}
	return longest, what
}

// embedded returns the IPv4 address that an IPv6 address stands for.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	for _, e := range embedding {
		if e.prefix.Contains(addr) && !addr.IsUnspecified() && !addr.IsLoopback() {
			bytes := addr.As16()
			return netip.AddrFrom4([4]byte(bytes[e.at : e.at+4])), true
		}
	}
	return netip.Addr{}, false
}

// Dialer returns a dialer that connects to addresses by these rules, without a proxy.
// checked, unless it is nil, is called with each address that may be connected to, and
// may be called concurrently.
func (r *Rules) Dialer(checked func(listed bool)) *net.Dialer {
	return &net.Dialer{
		Resolver:  r.Resolver,
		KeepAlive: -1,
		Control: func(_, address string, _ syscall.RawConn) error {
			target, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: not an IP address and port", ErrNotAllowed)
			}
			listed, err := r.Check(target)
			if err == nil && checked != nil {
				checked(listed)
			}
			return err
		},
	}
}
