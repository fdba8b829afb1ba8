// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/controllers/secret"
)

// secretPassword is the password in every scenario. It must appear in no output.
const secretPassword = "c4n4ry-Pa55/word+äé \"'"

// scenario is a cache that fails.
type scenario struct {
	// arrange starts the cache and returns its target. An empty password and key are
	// filled in.
	arrange func(t *testing.T) Target
	want    Reason
	// message that the failure contains.
	message string
	// role that the cache reports.
	role string
}

// at returns a target at an address.
func at(addr string) Target { return Target{Addr: addr} }

// impatient returns a target with a short timeout.
func impatient(addr string) Target { return Target{Addr: addr, Timeout: 300 * time.Millisecond} }

// protected returns arguments of a redis-server that requires secretPassword.
func protected(more ...string) []string {
	return append([]string{"--requirepass", secretPassword}, more...)
}

// inOneHour is the expiry of valid certificates.
func inOneHour() time.Time { return time.Now().Add(time.Hour) }

// startTLSRedis runs a redis-server with TLS only, without client certificates.
func startTLSRedis(t testing.TB, certificate []string, more ...string) (addr string) {
	t.Helper()
	args := append(certificate, protected("--tls-auth-clients", "no")...)
	return startRedisOn(t, "--tls-port", append(args, more...)...)
}

// hello is a successful reply to HELLO.
const hello = "*2\r\n$6\r\nserver\r\n$5\r\nredis\r\n"

// silence is an empty reply to INFO.
const silence = "$0\r\n\r\n"

// failureScenarios are caches that fail in different ways.
var failureScenarios = map[string]scenario{
	"nothing listens on the port": {
		arrange: func(t *testing.T) Target { return at(freeAddr(t)) },
		want:    ReasonConnectionRefused, message: "refuses connections",
	},
	"the host does not exist": {
		// An empty label is rejected without a DNS query.
		arrange: func(*testing.T) Target { return at("no..such.host:6379") },
		want:    ReasonHostNotFound, message: "does not exist in DNS",
	},
	"the address has no port": {
		arrange: func(*testing.T) Target { return at("redis.example") },
		want:    ReasonProbeFailed, message: "not of the form host:port",
	},
	"the address holds a credential": {
		arrange: func(*testing.T) Target { return at("user:" + secretPassword + "@redis.example") },
		want:    ReasonProbeFailed, message: "The address redis.example is not",
	},
	"the host is the metadata service": {
		arrange: func(*testing.T) Target { return at("169.254.169.254:80") },
		want:    ReasonAddressNotAllowed, message: "must not be probed",
	},
	"connections are accepted without a reply": {
		arrange: func(t *testing.T) Target { return impatient(blackHole(t)) },
		want:    ReasonTimedOut, message: "does not respond within 300ms",
	},
	"a TLS handshake without a reply": {
		arrange: func(t *testing.T) Target {
			target := impatient(blackHole(t))
			target.TLS = true
			return target
		},
		want: ReasonTimedOut, message: "TLS handshake",
	},
	"the reply is sent a byte at a time": {
		arrange: func(t *testing.T) Target { return impatient(trickle(t)) },
		want:    ReasonTimedOut, message: "does not respond within 300ms",
	},
	"the password is wrong": {
		arrange: func(t *testing.T) Target { return at(startRedis(t, "--requirepass", "another")) },
		want:    ReasonWrongPassword, message: "rejects the user name or the password",
	},
	"the user does not exist": {
		arrange: func(t *testing.T) Target {
			return Target{Addr: startRedis(t, protected()...), Username: "nobody"}
		},
		want: ReasonWrongPassword, message: "rejects the user name or the password",
	},
	"a password is required and none is given": {
		arrange: func(t *testing.T) Target {
			return Target{Addr: startRedis(t, protected()...), Password: noPassword}
		},
		want: ReasonAuthenticationRequired, message: "requires a password",
	},
	"the user may not write": {
		arrange: func(t *testing.T) Target {
			addr := startRedis(t, "--user", "default", "on", "nopass", "~*", "+@all", "-set")
			return Target{Addr: addr, Password: noPassword}
		},
		want: ReasonPermissionDenied, message: "may not run SET", role: "master",
	},
	"the user may not touch the key": {
		arrange: func(t *testing.T) Target {
			addr := startRedis(t, "--user", "default", "on", "nopass", "~other:*", "+@all")
			return Target{Addr: addr, Password: noPassword}
		},
		want: ReasonPermissionDenied, message: "on key", role: "master",
	},
	"a command is disabled": {
		arrange: func(t *testing.T) Target {
			return at(startRedis(t, protected("--rename-command", "SET", "")...))
		},
		want: ReasonPermissionDenied, message: "does not support the command SET", role: "master",
	},
	"the server is a read-only replica": {
		arrange: func(t *testing.T) Target {
			host, port, _ := net.SplitHostPort(startRedis(t, protected()...))
			return at(startRedis(t, protected("--masterauth", secretPassword, "--replicaof", host, port)...))
		},
		want: ReasonReadOnlyReplica, message: "connect to the primary", role: "slave",
	},
	"the memory is full and nothing may be evicted": {
		arrange: func(t *testing.T) Target {
			return at(startRedis(t, protected("--maxmemory", "1", "--maxmemory-policy", "noeviction")...))
		},
		want: ReasonOutOfMemory, message: "out of memory", role: "master",
	},
	"another client uses the last connection": {
		arrange: func(t *testing.T) Target {
			addr := startRedis(t, protected("--maxclients", "1")...)
			occupy(t, addr)
			return at(addr)
		},
		want: ReasonTooManyConnections, message: "limit of clients",
	},
	"the server is in cluster mode": {
		arrange: func(t *testing.T) Target {
			return at(startRedis(t, protected("--cluster-enabled", "yes")...))
		},
		want: ReasonProbeFailed, message: "cluster mode", role: "master",
	},
	"the server is in protected mode": {
		arrange: func(t *testing.T) Target {
			return at(greetAndClose(t, "-DENIED Redis is running in protected mode because ...\r\n"))
		},
		want: ReasonPermissionDenied, message: "protected mode",
	},
	"the server closes the connection": {
		arrange: func(t *testing.T) Target { return at(greetAndClose(t, "")) },
		want:    ReasonProbeFailed, message: "closes the connection",
	},
	"the server closes the connection during the TLS handshake": {
		arrange: func(t *testing.T) Target { return Target{Addr: greetAndClose(t, ""), TLS: true} },
		want:    ReasonProbeFailed, message: "closes the connection during the TLS handshake",
	},
	"the data set is loading": {
		arrange: func(t *testing.T) Target {
			return at(scripted(t, hello+strings.Repeat("-LOADING Redis is loading the dataset in memory\r\n", 4)))
		},
		want: ReasonLoading, message: "is loading its data set",
	},
	"another value is read back": {
		arrange: func(t *testing.T) Target {
			return at(scripted(t, hello+"+PONG\r\n+OK\r\n$5\r\nother\r\n$11\r\nrole:master\r\n"+silence+silence))
		},
		want: ReasonReadBackMismatch, message: "does not return the value written", role: "master",
	},
	"nothing is read back": {
		arrange: func(t *testing.T) Target {
			return at(scripted(t, hello+"+PONG\r\n+OK\r\n$-1\r\n$11\r\nrole:master\r\n"+silence+silence))
		},
		want: ReasonReadBackMismatch, message: "does not return the value written", role: "master",
	},
	"an unknown error repeats the password": {
		arrange: func(t *testing.T) Target {
			return at(scripted(t, strings.Repeat("-ERR bad arguments: AUTH default "+secretPassword+"\r\n", 6)))
		},
		want: ReasonProbeFailed, message: "returns an error for AUTH",
	},
	"the server is a web server": {
		arrange: func(t *testing.T) Target { return at(webServer(t)) },
		want:    ReasonNotRedis, message: "does not respond like Redis",
	},
	"the reply announces an enormous string": {
		arrange: func(t *testing.T) Target { return at(scripted(t, "$9223372036854775807\r\n")) },
		want:    ReasonNotRedis, message: "does not respond like Redis",
	},
	"the reply is nested endlessly": {
		arrange: func(t *testing.T) Target { return at(scripted(t, strings.Repeat("*99\r\n", 100_000))) },
		want:    ReasonNotRedis, message: "does not respond like Redis",
	},
	"the reply is an endless line": {
		arrange: func(t *testing.T) Target { return at(scripted(t, "+"+strings.Repeat("a", 1<<20))) },
		want:    ReasonNotRedis, message: "does not respond like Redis",
	},
	"TLS for a plain-text server": {
		arrange: func(t *testing.T) Target {
			return Target{Addr: startRedis(t, protected()...), TLS: true, Timeout: time.Second}
		},
		want: ReasonTLSNotSupported, message: "responds in plain text",
	},
	"TLS for a plain-text web server": {
		arrange: func(t *testing.T) Target { return Target{Addr: webServer(t), TLS: true} },
		want:    ReasonTLSNotSupported, message: "responds in plain text",
	},
	"plain text for a TLS server": {
		arrange: func(t *testing.T) Target {
			return at(startTLSRedis(t, newAuthority(t).certificateFor(t, "", inOneHour())))
		},
		want: ReasonTLSRequired, message: "enable TLS for this cache",
	},
	"the certificate authority is unknown": {
		arrange: func(t *testing.T) Target {
			addr := startTLSRedis(t, newAuthority(t).certificateFor(t, "", inOneHour()))
			return Target{Addr: addr, TLS: true, CA: newAuthority(t).pem}
		},
		want: ReasonTLSCertificateInvalid, message: "unknown authority",
	},
	"the certificate has expired": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "", time.Now().Add(-time.Minute)))
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonTLSCertificateInvalid, message: "has expired",
	},
	"the certificate is for another host": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "elsewhere.example", inOneHour()))
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonTLSCertificateInvalid, message: "for another host name",
	},
	"the CA is not a certificate": {
		arrange: func(t *testing.T) Target {
			addr := startTLSRedis(t, newAuthority(t).certificateFor(t, "", inOneHour()))
			return Target{Addr: addr, TLS: true, CA: []byte("no certificate")}
		},
		want: ReasonTLSCertificateInvalid, message: "contains no PEM certificate",
	},
	"the server requires a client certificate": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "", inOneHour()), "--tls-auth-clients", "yes")
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonTLSCertificateInvalid, message: "set tls-auth-clients to no",
	},
	"the server requires a client certificate with TLS 1.2": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "", inOneHour()), "--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.2")
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonTLSCertificateInvalid, message: "set tls-auth-clients to no",
	},
	"no common TLS version": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "", inOneHour()), "--tls-protocols", "TLSv1.1")
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonProbeFailed, message: "check that it accepts TLS 1.2 or later",
	},
}

// noPassword stands for an empty password, because empty means secretPassword.
var noPassword = secret.New("none")

// prepared returns the scenario's target with password and key.
func (s scenario) prepared(t *testing.T) Target {
	t.Helper()
	target := s.arrange(t)
	switch target.Password {
	case secret.String{}:
		target.Password = secret.New(secretPassword)
	case noPassword:
		target.Password = secret.String{}
	}
	target.Key = "feature_flags:probe"
	return target
}

// occupy keeps a connection open that the server accepted.
func occupy(t *testing.T, addr string) {
	t.Helper()
	eventually(t, "the server accepts a connection", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		var first [8]byte
		_, _ = conn.Write([]byte("PING\r\n"))
		n, _ := conn.Read(first[:])
		if !strings.HasPrefix(string(first[:n]), "-NOAUTH") {
			_ = conn.Close()
			return false
		}
		t.Cleanup(func() { _ = conn.Close() })
		return true
	})
}

func webServer(t *testing.T) (addr string) {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
