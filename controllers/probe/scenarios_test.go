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
)

// canary is the password in every scenario. It must appear nowhere.
const canary = "c4n4ry-Pa55/word+äé \"'"

// scenario is a cache in trouble.
type scenario struct {
	// arrange brings the cache up and returns how users connect to it. The password
	// and the key are filled in when empty.
	arrange func(t *testing.T) Target
	want    Reason
	// says is a part of the message.
	says string
	// role is what the cache should say of itself.
	role string
}

// at is a target at an address with nothing special about it.
func at(addr string) Target { return Target{Addr: addr} }

// hasty is a target that is going to time out, and should do so soon.
func hasty(addr string) Target { return Target{Addr: addr, Timeout: 300 * time.Millisecond} }

// protected are the arguments of a redis-server that wants the canary.
func protected(more ...string) []string { return append([]string{"--requirepass", canary}, more...) }

// inAnHour is when certificates expire that should not.
func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// startTLSRedis runs a redis-server that speaks TLS alone, to anyone.
func startTLSRedis(t testing.TB, certificate []string, more ...string) (addr string) {
	t.Helper()
	args := append(certificate, protected("--tls-auth-clients", "no")...)
	return startRedisOn(t, "--tls-port", append(args, more...)...)
}

// hello is the reply to a login of a server that is fine so far.
const hello = "*2\r\n$6\r\nserver\r\n$5\r\nredis\r\n"

// silence is an empty reply to INFO.
const silence = "$0\r\n\r\n"

// troubles are all the ways in which a cache can fail that we know to bring about.
var troubles = map[string]scenario{
	"nothing listens on the port": {
		arrange: func(t *testing.T) Target { return at(freeAddr(t)) },
		want:    ReasonConnectionRefused, says: "refuses connections",
	},
	"the host does not exist": {
		// An empty label is refused before any name server is asked.
		arrange: func(*testing.T) Target { return at("no..such.host:6379") },
		want:    ReasonHostNotFound, says: "does not exist in DNS",
	},
	"the address has no port": {
		arrange: func(*testing.T) Target { return at("redis.example") },
		want:    ReasonProbeFailed, says: "not of the form host:port",
	},
	"the address holds a credential": {
		arrange: func(*testing.T) Target { return at("user:" + canary + "@redis.example") },
		want:    ReasonProbeFailed, says: "The address redis.example is not",
	},
	"the host is the metadata service": {
		arrange: func(*testing.T) Target { return at("169.254.169.254:80") },
		want:    ReasonAddressNotAllowed, says: "may not be probed",
	},
	"connections are accepted and never answered": {
		arrange: func(t *testing.T) Target { return hasty(blackHole(t)) },
		want:    ReasonTimedOut, says: "does not answer within 300ms",
	},
	"a TLS handshake is never answered": {
		arrange: func(t *testing.T) Target {
			target := hasty(blackHole(t))
			target.TLS = true
			return target
		},
		want: ReasonTimedOut, says: "TLS handshake",
	},
	"the reply comes a byte at a time": {
		arrange: func(t *testing.T) Target { return hasty(dribble(t)) },
		want:    ReasonTimedOut, says: "does not answer within 300ms",
	},
	"the password is wrong": {
		arrange: func(t *testing.T) Target { return at(startRedis(t, "--requirepass", "another")) },
		want:    ReasonWrongPassword, says: "rejects the user name or the password",
	},
	"the user does not exist": {
		arrange: func(t *testing.T) Target {
			return Target{Addr: startRedis(t, protected()...), Username: "nobody"}
		},
		want: ReasonWrongPassword, says: "rejects the user name or the password",
	},
	"a password is required and none is given": {
		arrange: func(t *testing.T) Target {
			return Target{Addr: startRedis(t, protected()...), Password: noPassword}
		},
		want: ReasonAuthenticationRequired, says: "requires a password",
	},
	"the user may not write": {
		arrange: func(t *testing.T) Target {
			addr := startRedis(t, "--user", "default", "on", "nopass", "~*", "+@all", "-set")
			return Target{Addr: addr, Password: noPassword}
		},
		want: ReasonPermissionDenied, says: "may not run SET", role: "master",
	},
	"the user may not touch the key": {
		arrange: func(t *testing.T) Target {
			addr := startRedis(t, "--user", "default", "on", "nopass", "~other:*", "+@all")
			return Target{Addr: addr, Password: noPassword}
		},
		want: ReasonPermissionDenied, says: "on the key", role: "master",
	},
	"a command is disabled": {
		arrange: func(t *testing.T) Target {
			return at(startRedis(t, protected("--rename-command", "SET", "")...))
		},
		want: ReasonPermissionDenied, says: "does not offer the command SET", role: "master",
	},
	"the server is a read-only replica": {
		arrange: func(t *testing.T) Target {
			host, port, _ := net.SplitHostPort(startRedis(t, protected()...))
			return at(startRedis(t, protected("--masterauth", canary, "--replicaof", host, port)...))
		},
		want: ReasonReadOnlyReplica, says: "connect to the primary", role: "slave",
	},
	"the memory is full and nothing may be evicted": {
		arrange: func(t *testing.T) Target {
			return at(startRedis(t, protected("--maxmemory", "1", "--maxmemory-policy", "noeviction")...))
		},
		want: ReasonOutOfMemory, says: "out of memory", role: "master",
	},
	"another client took the last connection": {
		arrange: func(t *testing.T) Target {
			addr := startRedis(t, protected("--maxclients", "1")...)
			occupy(t, addr)
			return at(addr)
		},
		want: ReasonTooManyConnections, says: "limit of clients",
	},
	"the server is in cluster mode": {
		arrange: func(t *testing.T) Target {
			return at(startRedis(t, protected("--cluster-enabled", "yes")...))
		},
		want: ReasonProbeFailed, says: "cluster mode", role: "master",
	},
	"the server is in protected mode": {
		arrange: func(t *testing.T) Target {
			return at(lastWords(t, "-DENIED Redis is running in protected mode because ...\r\n"))
		},
		want: ReasonPermissionDenied, says: "protected mode",
	},
	"the server hangs up": {
		arrange: func(t *testing.T) Target { return at(lastWords(t, "")) },
		want:    ReasonProbeFailed, says: "hangs up",
	},
	"the server hangs up in the TLS handshake": {
		arrange: func(t *testing.T) Target { return Target{Addr: lastWords(t, ""), TLS: true} },
		want:    ReasonProbeFailed, says: "hangs up during the TLS handshake",
	},
	"the data set is loading": {
		arrange: func(t *testing.T) Target {
			return at(scripted(t, hello+strings.Repeat("-LOADING Redis is loading the dataset in memory\r\n", 4)))
		},
		want: ReasonLoading, says: "is loading its data set",
	},
	"another value is read back": {
		arrange: func(t *testing.T) Target {
			return at(scripted(t, hello+"+PONG\r\n+OK\r\n$5\r\nother\r\n$11\r\nrole:master\r\n"+silence+silence))
		},
		want: ReasonReadBackMismatch, says: "does not return what was written", role: "master",
	},
	"nothing is read back": {
		arrange: func(t *testing.T) Target {
			return at(scripted(t, hello+"+PONG\r\n+OK\r\n$-1\r\n$11\r\nrole:master\r\n"+silence+silence))
		},
		want: ReasonReadBackMismatch, says: "does not return what was written", role: "master",
	},
	"an error that we do not know repeats the password": {
		arrange: func(t *testing.T) Target {
			return at(scripted(t, strings.Repeat("-ERR bad arguments: AUTH default "+canary+"\r\n", 6)))
		},
		want: ReasonProbeFailed, says: "answers AUTH with an error",
	},
	"the server is a web server": {
		arrange: func(t *testing.T) Target { return at(webServer(t)) },
		want:    ReasonNotRedis, says: "does not answer as Redis does",
	},
	"the reply announces more than memory holds": {
		arrange: func(t *testing.T) Target { return at(scripted(t, "$9223372036854775807\r\n")) },
		want:    ReasonNotRedis, says: "does not answer as Redis does",
	},
	"the reply is nested without end": {
		arrange: func(t *testing.T) Target { return at(scripted(t, strings.Repeat("*99\r\n", 100_000))) },
		want:    ReasonNotRedis, says: "does not answer as Redis does",
	},
	"the reply is a line without end": {
		arrange: func(t *testing.T) Target { return at(scripted(t, "+"+strings.Repeat("a", 1<<20))) },
		want:    ReasonNotRedis, says: "does not answer as Redis does",
	},
	"TLS is asked for and the server speaks plain text": {
		arrange: func(t *testing.T) Target {
			return Target{Addr: startRedis(t, protected()...), TLS: true, Timeout: time.Second}
		},
		want: ReasonTLSNotSupported, says: "answers in plain text",
	},
	"TLS is asked for and a web server speaks plain text": {
		arrange: func(t *testing.T) Target { return Target{Addr: webServer(t), TLS: true} },
		want:    ReasonTLSNotSupported, says: "answers in plain text",
	},
	"plain text is asked for and the server speaks TLS": {
		arrange: func(t *testing.T) Target {
			return at(startTLSRedis(t, newAuthority(t).certificateFor(t, "", inAnHour())))
		},
		want: ReasonTLSRequired, says: "switch TLS on for this cache",
	},
	"the certificate's authority is not known": {
		arrange: func(t *testing.T) Target {
			addr := startTLSRedis(t, newAuthority(t).certificateFor(t, "", inAnHour()))
			return Target{Addr: addr, TLS: true, CA: newAuthority(t).pem}
		},
		want: ReasonTLSCertificateInvalid, says: "unknown authority",
	},
	"the certificate has expired": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "", time.Now().Add(-time.Minute)))
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonTLSCertificateInvalid, says: "has expired",
	},
	"the certificate is for another host": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "elsewhere.example", inAnHour()))
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonTLSCertificateInvalid, says: "for another host name",
	},
	"the authority is not a certificate": {
		arrange: func(t *testing.T) Target {
			addr := startTLSRedis(t, newAuthority(t).certificateFor(t, "", inAnHour()))
			return Target{Addr: addr, TLS: true, CA: []byte("no certificate")}
		},
		want: ReasonTLSCertificateInvalid, says: "holds no PEM certificate",
	},
	"the server demands a client certificate": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "", inAnHour()), "--tls-auth-clients", "yes")
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonTLSCertificateInvalid, says: "set tls-auth-clients to no",
	},
	"the server demands a client certificate in TLS 1.2": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "", inAnHour()), "--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.2")
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonTLSCertificateInvalid, says: "set tls-auth-clients to no",
	},
	"the server has no TLS version in common with us": {
		arrange: func(t *testing.T) Target {
			ca := newAuthority(t)
			addr := startTLSRedis(t, ca.certificateFor(t, "", inAnHour()), "--tls-protocols", "TLSv1.1")
			return Target{Addr: addr, TLS: true, CA: ca.pem}
		},
		want: ReasonProbeFailed, says: "check that it accepts TLS 1.2 or later",
	},
}

// noPassword stands for an empty password, where empty means the canary.
const noPassword = Secret("none")

// prepared is the scenario's target, complete.
func (s scenario) prepared(t *testing.T) Target {
	t.Helper()
	target := s.arrange(t)
	switch target.Password {
	case "":
		target.Password = canary
	case noPassword:
		target.Password = ""
	}
	target.Key = "feature_flags:probe"
	return target
}

// occupy holds a connection that the server has accepted.
func occupy(t *testing.T, addr string) {
	t.Helper()
	eventually(t, "the server has a connection free", func() bool {
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
