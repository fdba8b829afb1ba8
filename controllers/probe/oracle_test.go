// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/controllers/secret"
)

// probeUnlisted probes a server whose address is open, and not listed by the policy.
func probeUnlisted(ctx context.Context, t Target) Attempt {
	d := &dialing{rules: loopback}
	d.unlisted.Store(true)
	return once(ctx, t, d)
}

// answering starts a server that sends a text to every connection, and returns its
// address.
func answering(t *testing.T, text string) string {
	t.Helper()
	return serve(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, text)
		drain(conn)
	})
}

// ports are what can be behind an address, other than Redis.
var ports = map[string]func(t *testing.T) string{
	"nothing":              func(t *testing.T) string { return freeAddr(t) },
	"a silent server":      func(t *testing.T) string { return blackHole(t) },
	"a slow server":        func(t *testing.T) string { return trickle(t) },
	"a server that closes": func(t *testing.T) string { return serve(t, func(conn net.Conn) { _ = conn.Close() }) },
	"an HTTP server": func(t *testing.T) string {
		server := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	},
	"an HTTPS server": func(t *testing.T) string {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	},
	"a Redis with TLS":           func(t *testing.T) string { return startTLSRedis(t, newAuthority(t).certificateFor(t, "", inOneHour())) },
	"an SSH server":              func(t *testing.T) string { return answering(t, "SSH-2.0-OpenSSH_9.9\r\n") },
	"an SMTP server":             func(t *testing.T) string { return answering(t, "220 mail.example ESMTP\r\n") },
	"a POP3 server":              func(t *testing.T) string { return answering(t, "+OK POP3 ready\r\n-ERR Unknown command.\r\n") },
	"a server with other errors": func(t *testing.T) string { return answering(t, "-ERR what\r\n") },
	"a server with long replies": func(t *testing.T) string { return answering(t, "$99999999\r\n") },
	"a server of another protocol": func(t *testing.T) string {
		return answering(t, "\x4a\x00\x00\x00\x0a8.4.0\x00")
	},
}

func TestPortsOfUnlistedAddressesLookAlike(t *testing.T) {
	t.Parallel()
	for name, start := range ports {
		for mode, encrypted := range map[string]bool{"with TLS": true, "without TLS": false} {
			t.Run(name+", "+mode, func(t *testing.T) {
				t.Parallel()
				target := Target{Addr: start(t), Key: "k", Password: secret.New(secretPassword), TLS: encrypted, Timeout: 500 * time.Millisecond}
				a := probeUnlisted(t.Context(), target)
				_, port, _ := net.SplitHostPort(target.Addr)
				const want = "127.0.0.1:PORT does not answer like Redis; check host, port, TLS on both sides and network policies. " +
					"For the cause, have its address listed in addresses.allow of the operator's policy."
				if got := strings.ReplaceAll(a.Message, ":"+port, ":PORT"); a.Reason != ReasonNoAnswer || got != want || a.Err == nil || a.Err.Error() != a.Message {
					t.Errorf("got %s: %s", a.Reason, got)
				}
				if a.Role != "" || a.Lag != 0 || a.Usage != (Usage{}) {
					t.Errorf("the attempt has the state of the server: %+v", a)
				}
				if a.Cause == "" || a.Cause == ReasonNoAnswer {
					t.Errorf("the operator's metrics have the cause %q", a.Cause)
				}
				// The verdict is never earlier than that about a silent server.
				if a.Latency < target.Timeout {
					t.Errorf("the verdict came after %s, before the timeout", a.Latency)
				}
			})
		}
	}
}

// What Redis itself replies helps its user, and shows no port that is not a cache.
func TestReplyOfAnUnlistedRedisIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		target Target
		want   Reason
	}{
		"a wrong password":   {Target{Addr: startRedis(t, "--requirepass", "another"), Password: secret.New(secretPassword)}, ReasonWrongPassword},
		"no password":        {Target{Addr: startRedis(t, "--requirepass", "another")}, ReasonAuthenticationRequired},
		"a healthy one":      {Target{Addr: startRedis(t)}, ReasonHealthy},
		"no such host":       {Target{Addr: "no..such.host:6379"}, ReasonHostNotFound},
		"a closed address":   {Target{Addr: "169.254.169.254:80"}, ReasonAddressNotAllowed},
		"no port":            {Target{Addr: "redis"}, ReasonProbeFailed},
		"an invalid CA":      {Target{Addr: startRedis(t), TLS: true, CA: []byte("none")}, ReasonTLSCertificateInvalid},
		"a disabled command": {Target{Addr: startRedis(t, "--rename-command", "SET", "")}, ReasonPermissionDenied},
		"a full one":         {Target{Addr: startRedis(t, "--maxmemory", "1")}, ReasonOutOfMemory},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.target.Key = "k"
			if a := probeUnlisted(t.Context(), c.target); a.Reason != c.want {
				t.Errorf("got %s: %s, want %s", a.Reason, a.Message, c.want)
			}
		})
	}
}

func TestCauseOfOwnAndListedCachesIsTold(t *testing.T) {
	t.Parallel()
	target := Target{Addr: freeAddr(t), Key: "k", Own: true}
	if a := probeUnlisted(t.Context(), target); a.Reason != ReasonConnectionRefused {
		t.Errorf("an own cache: %s: %s", a.Reason, a.Message)
	}
	target.Own = false
	if a := Once(t.Context(), target, loopback); a.Reason != ReasonConnectionRefused {
		t.Errorf("a listed address: %s: %s", a.Reason, a.Message)
	}
}
