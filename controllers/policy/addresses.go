// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
)

// Addresses opens and closes addresses that the operator connects to because a FlagCache
// names them: caches and Prometheus. Of the prefixes that contain an address the longest
// one decides, and Deny if both lists have it.
type Addresses struct {
	// Allow opens addresses that are closed by default, such as 127.0.0.0/8.
	Allow []Prefix `json:"allow,omitempty"`
	// Deny closes addresses that are open by default, such as 10.0.0.0/8.
	Deny []Prefix `json:"deny,omitempty"`
}

// Listing is what Addresses say about an address.
type Listing int

// The results of Addresses.Match.
const (
	// Unlisted is an address that no list contains: the default applies.
	Unlisted Listing = iota
	// Allowed is an address that may be connected to.
	Allowed
	// Denied is an address that must not be connected to.
	Denied
)

// Match returns what the lists say about an address, and the prefix that decides. It
// compares the address itself: an IPv6 address that stands for an IPv4 address, other than
// ::ffff:0:0/96, is the caller's to translate. A default that is a longer prefix, such as
// the address of a metadata service in an allowed 0.0.0.0/0, is more specific than the
// lists.
func (a *Addresses) Match(addr netip.Addr) (Listing, netip.Prefix) {
	addr = addr.Unmap().WithZone("")
	listing, decides := Unlisted, netip.Prefix{}
	match := func(list []Prefix, as Listing) {
		for _, p := range list {
			if p.Contains(addr) && (listing == Unlisted || p.Bits() >= decides.Bits()) {
				listing, decides = as, p.Prefix
			}
		}
	}
	match(a.Allow, Allowed)
	match(a.Deny, Denied)
	return listing, decides
}

// Prefix is an IP prefix, or an address as the prefix that has only this address.
type Prefix struct {
	netip.Prefix
	// text is what the file has; Parse reports with it a prefix that is not valid.
	text string
}

// UnmarshalText implements encoding.TextUnmarshaler. A text that is no prefix is no error,
// so that Parse can report it with the name of its field.
func (p *Prefix) UnmarshalText(text []byte) error {
	p.text = string(text)
	if addr, err := netip.ParseAddr(p.text); err == nil && addr.Zone() == "" {
		p.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	p.Prefix, _ = netip.ParsePrefix(p.text)
	return nil
}

// validate reports a text that is no prefix, or one whose meaning is not obvious.
func (p *Prefix) validate() error {
	switch {
	case !p.IsValid():
		return fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", p.text)
	case p.Addr().Is4In6():
		return fmt.Errorf("%q is the form of an IPv4 address in IPv6; write it as IPv4", p.text)
	case p.Masked() != p.Prefix:
		return fmt.Errorf("%q has bits beyond its length; write %s or %s", p.text, p.Masked(), p.Addr())
	}
	return nil
}
