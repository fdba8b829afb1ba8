// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package dial

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/flagcache/flagcache/controllers/plan/connection"
)

// resolverOf returns a resolver whose only names are those that addresses returns some
// for. It is called once for each query for addresses of IPv4 or IPv6.
func resolverOf(t *testing.T, addresses func(name string) []netip.Addr) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := answerQuery(buffer[:n], addresses); reply != nil {
				_, _ = server.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { _ = server.Close(); serving.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// answerQuery returns the reply to a query, nil if it is not valid.
func answerQuery(query []byte, addresses func(name string) []netip.Addr) []byte {
	var message dnsmessage.Message
	if message.Unpack(query) != nil || len(message.Questions) != 1 {
		return nil
	}
	question := message.Questions[0]
	found := addresses(strings.TrimSuffix(question.Name.String(), "."))
	message.Response, message.Additionals = true, nil
	if len(found) == 0 {
		message.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range found {
		header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}
		switch {
		case addr.Is4() && question.Type == dnsmessage.TypeA:
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && question.Type == dnsmessage.TypeAAAA:
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	reply, err := message.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// TestNameThatChangesCannotBypassTheRules has a name whose address alternates between a
// server that may be connected to and one that may not.
func TestNameThatChangesCannotBypassTheRules(t *testing.T) {
	open, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	_, port, _ := net.SplitHostPort(open.Addr().String())
	closedServer, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer closedServer.Close()
	var reached atomic.Int64
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := closedServer.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			_ = c.Close()
		}
	})
	var queries atomic.Int64
	rules := &Rules{
		Lists: lists([]string{"127.0.0.2/32"}, nil),
		Resolver: resolverOf(t, func(name string) []netip.Addr {
			if name != "rebinding.example" {
				return nil
			}
			// Queries come in pairs, for IPv4 and IPv6.
			if (queries.Add(1)-1)/2%2 == 0 {
				return []netip.Addr{netip.MustParseAddr("127.0.0.2")}
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		}),
	}
	connected, refused := 0, 0
	for range 20 {
		// The name has been checked before, as a validation of the spec would.
		_, _ = rules.Resolver.LookupNetIP(t.Context(), "ip", "rebinding.example.")
		for range 2 {
			conn, err := rules.Dialer(nil).DialContext(t.Context(), "tcp", "rebinding.example.:"+port)
			if err != nil {
				refused++
				continue
			}
			connected++
			_ = conn.Close()
		}
	}
	_ = closedServer.Close()
	accepting.Wait()
	if reached.Load() > 0 || connected == 0 || refused == 0 {
		t.Errorf("%d connections to the closed address, %d connected and %d refused in total", reached.Load(), connected, refused)
	}
}

// addressesOfNames are the names that exist in the test of spellings.
var addressesOfNames = map[string]string{
	"loopback.example": "127.0.0.1", "loopback6.example": "::1", "metadata.google.internal": "169.254.169.254", "metadata.example": "fd00:ec2::254",
	"mapped.example": "::ffff:127.0.0.1", "nat64.example": "64:ff9b::a9fe:a9fe", "unspecified.example": "0.0.0.0", "any.example": "::",
	"kubernetes.default.svc": "10.96.0.1", "xn--lopback-n0a.example": "127.0.0.1", "127.0.0.1.nip.example": "127.0.0.1", "multicast.example": "224.0.0.1",
	"link.example": "fe80::1", "wire.example": "168.63.129.16", "redis.shop.svc": "10.0.0.9", "xn--bcher-kva.example": "10.0.0.9",
}

// spellingsOf returns the spellings of an IPv4 address, some of which are not valid.
func spellingsOf(addr string) []string {
	b := netip.MustParseAddr(addr).As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	hex := fmt.Sprintf("%x:%x", n>>16, n&0xffff)
	wide := strings.Map(func(r rune) rune {
		if r == '.' {
			return '。'
		}
		return r - '0' + '０'
	}, addr)
	return []string{
		addr, addr + ".", fmt.Sprint(n), fmt.Sprintf("0x%08x", n), fmt.Sprintf("0X%X", n), fmt.Sprintf("0%o", n),
		fmt.Sprintf("0x%x.0x%x.0x%x.0x%x", b[0], b[1], b[2], b[3]), fmt.Sprintf("0%o.0%o.0%o.0%o", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("%03d.%03d.%03d.%03d", b[0], b[1], b[2], b[3]), fmt.Sprintf("%d.%d", b[0], n&0xffffff), fmt.Sprintf("%d.%d.%d", b[0], b[1], n&0xffff),
		fmt.Sprintf("0x%x.%d", b[0], n&0xffffff), wide, strings.ReplaceAll(addr, ".", "｡"), strings.ReplaceAll(addr, ".", "%2e"),
		"::ffff:" + addr, "::ffff:" + hex, "0:0:0:0:0:ffff:" + hex, "::FFFF:" + addr, "::ffff:" + addr + "%eth0", "::ffff:" + addr + "%25eth0",
		"::" + addr, "64:ff9b::" + addr, "64:ff9b::" + hex, "64:ff9b:1::" + hex, "2002:" + hex + "::1", "[" + addr + "]",
		"redis.shop.svc@" + addr, "user:pass@" + addr, addr + "@redis.shop.svc\r\n", addr + "\r\nX: y", "\r\n" + addr, addr + "#redis.shop.svc", addr + "?x", "redis.shop.svc\\@" + addr,
		addr + "/redis.shop.svc", addr + "\x00", addr + "%00", " " + addr, addr + "\t", "//" + addr,
	}
}

// TestSpellingsOfClosedAddresses gives every spelling to each field of a tenant that has an
// address, up to the connection.
func TestSpellingsOfClosedAddresses(t *testing.T) {
	var spellings []string
	for _, addr := range []string{"127.0.0.1", "127.8.9.10", "169.254.169.254", "0.0.0.0", "10.96.0.1", "100.100.100.200", "168.63.129.16"} {
		spellings = append(spellings, spellingsOf(addr)...)
	}
	for name := range addressesOfNames {
		if !slices.Contains([]string{"redis.shop.svc", "xn--bcher-kva.example"}, name) {
			spellings = append(spellings, name, name+".", strings.ToUpper(name))
		}
	}
	spellings = append(spellings, "localhost", "LOCALHOST", "localhost.", "::1", "0:0:0:0:0:0:0:1", "::1%lo", "::1%25lo", "::", "0::0", "fe80::1", "fe80::1%eth0",
		"ff02::1", "fd00:ec2::254", "fd00:0ec2:0:0:0:0:0:254", "fd20:ce::254", "ⓛocalhost", "lóopback.example", "①②⑦.⓪.⓪.①", "", ".", "..", "0", "00", "0x0", "255.255.255.255", "224.0.0.1")
	if len(spellings) < 150 {
		t.Fatalf("only %d spellings", len(spellings))
	}
	fields := newFields(t)
	for _, spelling := range spellings {
		for field, connects := range fields {
			if connects(spelling) {
				t.Errorf("%s: the operator would connect to %q", field, spelling)
			}
		}
	}
	// The same fields admit addresses that are open.
	for _, spelling := range []string{"10.0.0.9", "redis.shop.svc", "REDIS.shop.svc.", "2001:db8::1", "::ffff:10.0.0.9", "64:ff9b::a00:9", "xn--bcher-kva.example"} {
		for field, connects := range fields {
			if !connects(spelling) {
				t.Errorf("%s: the operator would not connect to %q", field, spelling)
			}
		}
	}
}

// newFields returns, for each field of a tenant with an address, whether a spelling would
// lead to a connection.
func newFields(t *testing.T) map[string]func(spelling string) bool {
	t.Helper()
	rules := &Rules{
		APIServer: servers("10.96.0.1:0"),
		Resolver: resolverOf(t, func(name string) []netip.Addr {
			if addr, ok := addressesOfNames[strings.ToLower(name)]; ok {
				return []netip.Addr{netip.MustParseAddr(addr)}
			}
			return nil
		}),
	}
	// reaches reports whether an attempt arrives at an address, and ends it there.
	reaches := func(attempt func(ctx context.Context, dialer *net.Dialer)) bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var reached atomic.Bool
		attempt(ctx, rules.Dialer(func(bool) { reached.Store(true); cancel() }))
		return reached.Load()
	}
	external := func(data map[string][]byte) bool {
		c, err := connection.Parse(data)
		if err != nil {
			return false
		}
		return reaches(func(ctx context.Context, dialer *net.Dialer) {
			if conn, err := dialer.DialContext(ctx, "tcp", c.Endpoint()); err == nil {
				_ = conn.Close()
			}
		})
	}
	pattern := prometheusPattern(t)
	bracketed := func(host string) string {
		if strings.Contains(host, "::") || strings.Count(host, ":") > 2 {
			return "[" + host + "]"
		}
		return host
	}
	return map[string]func(string) bool{
		"the host of an external cache": func(s string) bool { return external(map[string][]byte{"host": []byte(s), "port": []byte("6379")}) },
		"the URI of an external cache": func(s string) bool {
			return external(map[string][]byte{"uri": []byte("redis://" + bracketed(s) + ":6379")})
		},
		"the address of Prometheus": func(s string) bool {
			address := "http://" + bracketed(s) + ":9090"
			if !pattern.MatchString(address) {
				return false
			}
			return reaches(func(ctx context.Context, dialer *net.Dialer) { get(ctx, dialer, address) })
		},
		// The pattern must not be the only protection.
		"the address of Prometheus without the pattern": func(s string) bool {
			return reaches(func(ctx context.Context, dialer *net.Dialer) { get(ctx, dialer, "http://"+bracketed(s)+":9090") })
		},
	}
}

func get(ctx context.Context, dialer *net.Dialer, address string) {
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return
	}
	if response, err := client.Do(request); err == nil {
		_ = response.Body.Close()
	}
}

// prometheusPattern returns the pattern of the field in the CRD.
func prometheusPattern(t *testing.T) *regexp.Regexp {
	t.Helper()
	crd, err := os.ReadFile("../../config/crd/bases/flagcache.dev_flagcaches.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`pattern: (\^https\?://.*)`).FindSubmatch(crd)
	if found == nil {
		t.Fatal("the CRD has no pattern of URLs")
	}
	return regexp.MustCompile(string(found[1]))
}
