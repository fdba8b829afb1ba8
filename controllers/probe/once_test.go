// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/flagcache/flagcache/controllers/secret"
)

func TestOnceReportsTheFailure(t *testing.T) {
	t.Parallel()
	for name, s := range failureScenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := s.prepared(t)
			a := Once(t.Context(), target, loopback)
			if a.Reason != s.want || !strings.Contains(a.Message, s.message) || a.Role != s.role {
				t.Errorf("got %s (role %q): %s\nwant %s (role %q) with %q", a.Reason, a.Role, a.Message, s.want, s.role, s.message)
			}
			if a.Err == nil || a.Err.Error() != a.Message {
				t.Errorf("the error is %v, want the message", a.Err)
			}
			if n := utf8.RuneCountInString(a.Message); n > maxMessage || !strings.HasSuffix(a.Message, ".") {
				t.Errorf("want a sentence of at most %d runes, got %d: %s", maxMessage, n, a.Message)
			}
			if again := Once(t.Context(), target, loopback); again.Message != a.Message {
				t.Errorf("the same failure has two messages:\n%s\n%s", a.Message, again.Message)
			}
		})
	}
}

func TestOnceSucceeds(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	targets := map[string]func(t *testing.T) Target{
		"without a password": func(t *testing.T) Target { return Target{Addr: startRedis(t)} },
		"with a password": func(t *testing.T) Target {
			return Target{Addr: startRedis(t, protected()...), Password: secret.New(secretPassword)}
		},
		"as a user": func(t *testing.T) Target {
			addr := startRedis(t, "--user", "app", "on", ">secret", "~feature_flags:*", "+ping", "+set", "+get", "+info")
			return Target{Addr: addr, Username: "app", Password: secret.New("secret")}
		},
		"at a server without HELLO": func(t *testing.T) Target {
			return Target{Addr: startRedis(t, protected("--rename-command", "HELLO", "")...), Password: secret.New(secretPassword)}
		},
		"over TLS": func(t *testing.T) Target {
			return Target{Addr: startTLSRedis(t, ca.certificateFor(t, "", inOneHour())), TLS: true, CA: ca.pem, Password: secret.New(secretPassword)}
		},
		"at a server with optional client certificates": func(t *testing.T) Target {
			addr := startTLSRedis(t, ca.certificateFor(t, "", inOneHour()), "--tls-auth-clients", "optional")
			return Target{Addr: addr, TLS: true, CA: ca.pem, Password: secret.New(secretPassword)}
		},
	}
	for name, arrange := range targets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := arrange(t)
			target.Key = "feature_flags:probe"
			a := Once(t.Context(), target, loopback)
			if a.Err != nil || a.Reason != ReasonHealthy || a.Role != "master" || a.Latency <= 0 {
				t.Errorf("got %+v, want a healthy master", a)
			}
			if a.Usage.Memory <= 0 || a.Usage.CPU <= 0 {
				t.Errorf("got usage %+v, want memory and CPU", a.Usage)
			}
		})
	}
}

func TestOnceWithoutPermissionForInfo(t *testing.T) {
	t.Parallel()
	addr := startRedis(t, "--user", "default", "on", "nopass", "~*", "+@all", "-info")
	if a := Once(t.Context(), Target{Addr: addr, Key: "k"}, loopback); a.Err != nil || a.Role != "" {
		t.Errorf("got %+v, want success with no role", a)
	}
}

// Redis 7 can permit single subcommands.
func TestOnceWithoutPermissionForUsage(t *testing.T) {
	t.Parallel()
	addr := startRedis(t, "--user", "default", "on", "nopass", "~*", "+@all", "-info", "+info|replication")
	if a := Once(t.Context(), Target{Addr: addr, Key: "k"}, loopback); a.Err != nil || a.Role != "master" || a.Usage != (Usage{}) {
		t.Errorf("got %+v, want a master without usage", a)
	}
}

func TestOnceExpiresItsKeyAndClosesItsConnection(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	if a := Once(t.Context(), Target{Addr: addr, Key: "k"}, loopback); a.Err != nil {
		t.Fatal(a.Err)
	}
	if ttl := redisCLI(t, addr, "TTL", "k"); ttl != "60" && ttl != "59" {
		t.Errorf("the key expires in %s seconds, want a minute", ttl)
	}
	eventually(t, "the server has no other client", func() bool {
		return strings.Contains(redisCLI(t, addr, "INFO", "clients"), "connected_clients:1\r")
	})
}

func TestOnceReturnsWhenTheContextIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	connected := make(chan struct{})
	addr := serve(t, func(conn net.Conn) {
		close(connected)
		drain(conn)
	})
	ended := make(chan Attempt)
	go func() { ended <- Once(ctx, Target{Addr: addr, Key: "k", Timeout: time.Hour}, loopback) }()
	<-connected
	cancel()
	if a := <-ended; a.Err == nil {
		t.Error("got success from a server that does not respond")
	}
}

// FuzzReply searches for replies that make a probe panic, hang or reveal the password.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"", "+OK\r\n", "-ERR " + secretPassword + "\r\n", hello + "+PONG\r\n+OK\r\n$1\r\na\r\n$11\r\nrole:master\r\n" + silence + "$13\r\nused_cpu_sys:\r\n",
		"$-2\r\n", "*-1\r\n", "%1\r\n+a\r\n", "|1\r\n+a\r\n+b\r\n", "!5\r\nOOM a\r\n", "(12\r\n", "\x15\x03\x03",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			defer theirs.Close()
			go drain(theirs)
			_, _ = theirs.Write(reply)
		}()
		target := Target{Addr: "redis.example:6379", Password: secret.New(secretPassword), Key: "k"}.withDefaults()
		_, failed := check(t.Context(), target, ours)
		if failed == nil {
			t.Fatal("success without the value in the reply")
		}
		if reason, message := classify(target, *failed); reason == "" || strings.Contains(message, secretPassword) {
			t.Fatalf("%s: %s", reason, message)
		}
	})
}
