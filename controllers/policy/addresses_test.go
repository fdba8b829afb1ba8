// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestLongestPrefixDecides(t *testing.T) {
	p, err := Parse([]byte(head + `
addresses:
  allow: [127.0.0.1, 10.1.0.0/16, 0.0.0.0/0, "fd00:ec2::254", 192.0.2.0/24]
  deny: [10.0.0.0/8, 10.1.2.0/24, 192.0.2.0/24, "fd00::/8"]
`))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		want   Listing
		prefix string
	}{
		"127.0.0.1":          {Allowed, "127.0.0.1/32"},
		"127.0.0.2":          {Allowed, "0.0.0.0/0"},
		"10.0.0.1":           {Denied, "10.0.0.0/8"},
		"10.1.0.1":           {Allowed, "10.1.0.0/16"},
		"10.1.2.3":           {Denied, "10.1.2.0/24"},
		"::ffff:10.1.2.3":    {Denied, "10.1.2.0/24"},
		"192.0.2.1":          {Denied, "192.0.2.0/24"},
		"fd00:ec2::254":      {Allowed, "fd00:ec2::254/128"},
		"fd00:ec2::254%eth0": {Allowed, "fd00:ec2::254/128"},
		"fd00:ec2::253":      {Denied, "fd00::/8"},
		"2001:db8::1":        {Unlisted, "invalid Prefix"},
		"64:ff9b::10.1.2.3":  {Unlisted, "invalid Prefix"},
	}
	for text, test := range tests {
		got, prefix := p.Addresses.Match(netip.MustParseAddr(text))
		if got != test.want || prefix.String() != test.prefix {
			t.Errorf("%s is %v by %s, want %v by %s", text, got, prefix, test.want, test.prefix)
		}
	}
	if got, _ := Default().Addresses.Match(netip.MustParseAddr("127.0.0.1")); got != Unlisted {
		t.Errorf("without lists, 127.0.0.1 is %v", got)
	}
}

func TestMistakesInAddresses(t *testing.T) {
	tests := map[string]string{
		"addresses: {allow: [10.0.0.0/8, localhost]}": `addresses.allow[1]: "localhost" is neither an address nor a prefix`,
		"addresses: {deny: ['']}":                     `addresses.deny[0]: "" is neither`,
		"addresses: {deny: [10.0.0.0/33]}":            `addresses.deny[0]: "10.0.0.0/33" is neither`,
		"addresses: {deny: ['fe80::1%eth0']}":         `"fe80::1%eth0" is neither`,
		"addresses: {deny: [10.1.2.3/8]}":             `"10.1.2.3/8" has bits beyond its length; write 10.0.0.0/8 or 10.1.2.3`,
		"addresses: {allow: ['::ffff:10.0.0.1']}":     `addresses.allow[0]: "::ffff:10.0.0.1" is the form of an IPv4 address in IPv6`,
		"addresses: {allow: [a], deny: [b]}":          `addresses.deny[0]: "b"`,
		"addresses: {allowed: [10.0.0.0/8]}":          `unknown field "addresses.allowed"`,
		"addresses: {allow: 10.0.0.0/8}":              "addresses.allow",
	}
	for text, want := range tests {
		if _, err := Parse([]byte(head + text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that contains %q", text, err, want)
		}
	}
}
