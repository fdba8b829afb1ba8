// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package dial

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/flagcache/flagcache/controllers/policy"
)

// lists returns the administrator's lists with some prefixes.
func lists(allow, deny []string) func() *policy.Addresses {
	prefixes := func(texts []string) (list []policy.Prefix) {
		for _, text := range texts {
			list = append(list, policy.Prefix{Prefix: netip.MustParsePrefix(text)})
		}
		return list
	}
	return func() *policy.Addresses { return &policy.Addresses{Allow: prefixes(allow), Deny: prefixes(deny)} }
}

// servers returns the addresses of an API server.
func servers(texts ...string) func() []netip.AddrPort {
	var list []netip.AddrPort
	for _, text := range texts {
		list = append(list, netip.MustParseAddrPort(text))
	}
	return func() []netip.AddrPort { return list }
}

func TestAddressesThatAreNeverDialed(t *testing.T) {
	t.Parallel()
	rules := &Rules{APIServer: servers("10.96.0.1:0", "[2001:db8::a]:0", "10.0.0.7:6443", "[2001:db8::b]:6443")}
	for address, allowed := range map[string]bool{
		"127.0.0.1:6379":                  false,
		"[::1]:6379":                      false,
		"10.0.0.1:6379":                   true,
		"100.64.0.1:6379":                 true,
		"192.0.2.1:6379":                  true,
		"[fd00:ec3::254]:6379":            true,
		"[2001:db8::1]:6379":              true,
		"[64:ff9b::a00:1]:6379":           true, // 10.0.0.1
		"0.0.0.0:6379":                    false,
		"0.0.0.1:6379":                    false,
		"100.100.100.200:80":              false,
		"168.63.129.16:80":                false,
		"169.254.0.1:6379":                false,
		"169.254.169.254:80":              false,
		"192.0.0.192:80":                  false,
		"224.0.0.1:6379":                  false,
		"255.255.255.255:6379":            false,
		"[::]:6379":                       false,
		"[::169.254.169.254]:80":          false,
		"[::7f00:1]:6379":                 false,
		"[::ffff:0.0.0.0]:6379":           false,
		"[::ffff:168.63.129.16]:80":       false,
		"[::ffff:169.254.169.254]:6379":   false,
		"[2002:a9fe:a9fe::1]:80":          false,
		"[64:ff9b:1::100.100.100.200]:80": false,
		"[64:ff9b::127.0.0.1]:6379":       false,
		"[64:ff9b::168.63.129.16]:80":     false,
		"[64:ff9b::169.254.169.254]:80":   false,
		"[fd00:ec2::23]:80":               false,
		"[fd00:ec2::253]:53":              false,
		"[fd00:ec2::254]:80":              false,
		"[fd20:ce::254]:80":               false,
		"[fe80::1%eth0]:6379":             false,
		"[fe80::1]:6379":                  false,
		"[ff02::1]:6379":                  false,
		"127.255.255.255:1":               false,
		"[::ffff:127.0.0.1]:6379":         false,
		"[::127.0.0.1]:6379":              false,
		"[2002:7f00:1::]:6379":            false,
		"169.254.170.23:80":               false,
		"10.96.0.1:443":                   false,
		"10.96.0.1:6379":                  false,
		"10.96.0.2:6379":                  true,
		"[::ffff:10.96.0.1]:443":          false,
		"[64:ff9b::10.96.0.1]:443":        false,
		"[2001:db8::a]:443":               false,
		"10.0.0.7:6443":                   false,
		"10.0.0.7:6379":                   true,
		"[::ffff:10.0.0.7]:6443":          false,
		"[64:ff9b::10.0.0.7]:6443":        false,
		"[2001:db8::b]:6443":              false,
		"[2001:db8::b]:6379":              true,
	} {
		checked := false
		err := rules.Dialer(func(bool) { checked = true }).Control("tcp", address, nil)
		if (err == nil) != allowed || checked != allowed {
			t.Errorf("%s: %v, want allowed: %v", address, err, allowed)
		}
		if err != nil && !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: %v does not wrap ErrNotAllowed", address, err)
		}
	}
	if err := rules.Dialer(nil).Control("tcp", "not an address", nil); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("what is no address is allowed: %v", err)
	}
}

func TestListsOpenAndCloseAddresses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allow, deny  []string
		addr         string
		open, listed bool
	}{
		"a private address":                           {nil, nil, "10.0.0.1", true, false},
		"a listed private address":                    {[]string{"10.0.0.0/24"}, nil, "10.0.0.1", true, true},
		"beside a listed address":                     {[]string{"10.0.0.0/24"}, nil, "10.0.1.1", true, false},
		"a closed private address":                    {nil, []string{"10.0.0.0/8"}, "10.0.0.1", false, false},
		"a longer prefix opens":                       {[]string{"10.0.0.0/24"}, []string{"10.0.0.0/8"}, "10.0.0.1", true, true},
		"a longer prefix closes":                      {[]string{"10.0.0.0/8"}, []string{"10.0.0.0/24"}, "10.0.0.1", false, false},
		"opened loopback":                             {[]string{"127.0.0.0/8"}, nil, "127.0.0.1", true, true},
		"opened loopback in IPv6":                     {[]string{"::1/128"}, nil, "::1", true, true},
		"loopback of IPv4 does not open that of IPv6": {[]string{"127.0.0.0/8"}, nil, "::1", false, false},
		"opened loopback, mapped":                     {[]string{"127.0.0.0/8"}, nil, "::ffff:127.0.0.1", true, true},
		"one opened address":                          {[]string{"127.0.0.2/32"}, nil, "127.0.0.1", false, false},
		"everything opens no special address":         {[]string{"0.0.0.0/0", "::/0"}, nil, "169.254.169.254", false, false},
		"everything opens no loopback":                {[]string{"0.0.0.0/0", "::/0"}, nil, "127.0.0.1", false, false},
		"everything opens no address behind NAT64":    {[]string{"0.0.0.0/0", "::/0"}, nil, "64:ff9b::7f00:1", false, false},
		"link-local opens no metadata service":        {[]string{"169.254.0.0/16"}, nil, "169.254.169.254", false, false},
		"link-local":                                  {[]string{"169.254.0.0/16"}, nil, "169.254.1.1", true, true},
		"the API server cannot be opened":             {[]string{"10.96.0.1/32"}, nil, "10.96.0.1", false, false},
		"a closed address behind NAT64":               {nil, []string{"10.0.0.0/8"}, "64:ff9b::a00:1", false, false},
		"closed NAT64":                                {nil, []string{"64:ff9b::/96"}, "64:ff9b::a00:1", false, false},
		"an address with a zone":                      {nil, []string{"2001:db8::/32"}, "2001:db8::1%eth0", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := &Rules{Lists: lists(c.allow, c.deny), APIServer: servers("10.96.0.1:0")}
			listed, err := rules.Check(netip.AddrPortFrom(netip.MustParseAddr(c.addr), 6379))
			if (err == nil) != c.open || listed != c.listed {
				t.Errorf("%s: listed %v, %v; want open %v, listed %v", c.addr, listed, err, c.open, c.listed)
			}
		})
	}
}

func TestRulesFollowTheCurrentLists(t *testing.T) {
	t.Parallel()
	var current *policy.Addresses
	rules := &Rules{Lists: func() *policy.Addresses { return current }}
	local := netip.MustParseAddrPort("127.0.0.1:6379")
	if _, err := rules.Check(local); err == nil {
		t.Error("loopback is open without a policy")
	}
	current = lists([]string{"127.0.0.0/8"}, nil)()
	if _, err := rules.Check(local); err != nil {
		t.Errorf("loopback is closed although the policy opens it: %v", err)
	}
}

func TestRulesFollowTheAPIServer(t *testing.T) {
	t.Parallel()
	rules := &Rules{}
	former, current := netip.MustParseAddrPort("10.0.0.7:443"), netip.MustParseAddrPort("10.0.0.8:443")
	for _, server := range []netip.AddrPort{former, current} {
		rules.APIServer = servers(server.String())
		for _, target := range []netip.AddrPort{former, current} {
			if _, err := rules.Check(target); (err != nil) != (target == server) {
				t.Errorf("while the API server is at %s, the check of %s says: %v", server, target, err)
			}
		}
	}
}
