// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/secret"
)

// dialError returns the error of package net for a failed connection.
func dialError(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Source: &net.TCPAddr{Port: 54321}, Err: err}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step    probeStep
		err     error
		want    Reason
		message string
	}{
		"refused": {
			stepConnect, dialError(os.NewSyscallError("connect", syscall.ECONNREFUSED)),
			ReasonConnectionRefused, "refuses connections",
		},
		"no route to the host": {
			stepConnect, dialError(os.NewSyscallError("connect", syscall.EHOSTUNREACH)),
			ReasonNetworkUnreachable, "no route",
		},
		"no route to the network": {
			stepConnect, dialError(os.NewSyscallError("connect", syscall.ENETUNREACH)),
			ReasonNetworkUnreachable, "no route",
		},
		"the connection times out": {
			stepConnect, dialError(context.DeadlineExceeded),
			ReasonTimedOut, "Connecting to redis:6379 took longer than 2s",
		},
		"the connection times out in the kernel": {
			stepConnect, dialError(os.NewSyscallError("connect", syscall.ETIMEDOUT)),
			ReasonTimedOut, "Connecting to redis:6379",
		},
		"the name does not exist": {
			stepConnect, dialError(&net.DNSError{Err: "no such host", IsNotFound: true}),
			ReasonHostNotFound, "does not exist in DNS",
		},
		"the name server fails": {
			stepConnect, dialError(&net.DNSError{Err: "server misbehaving", Server: "10.0.0.10:53", IsTemporary: true}),
			ReasonHostNotFound, "cannot be resolved",
		},
		"the name server times out": {
			stepConnect, dialError(&net.DNSError{Err: "i/o timeout", IsTimeout: true}),
			ReasonTimedOut, "Resolving the host",
		},
		"policy forbids the address": {
			stepConnect, dialError(fmt.Errorf("%w: link-local", dial.ErrNotAllowed)),
			ReasonAddressNotAllowed, "must not be probed",
		},
		"the operator is out of file descriptors": {
			stepConnect, dialError(os.NewSyscallError("socket", syscall.EMFILE)),
			ReasonProbeFailed, "too many open files",
		},
		"an unknown failure to connect": {
			stepConnect, errors.New("mystery at 10.1.2.3:54321"),
			ReasonProbeFailed, "Connecting to redis:6379 failed.",
		},
		"plain text instead of TLS": {
			stepTLS, tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
			ReasonTLSNotSupported, "plain text",
		},
		"a certificate for another host": {
			stepTLS, &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "redis"}},
			ReasonTLSCertificateInvalid, "another host name",
		},
		"a certificate of an unknown authority": {
			stepTLS, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			ReasonTLSCertificateInvalid, "unknown authority",
		},
		"an expired certificate": {
			stepTLS, &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}},
			ReasonTLSCertificateInvalid, "expired",
		},
		"a certificate that may not sign servers": {
			stepTLS, &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}},
			ReasonTLSCertificateInvalid, "does not verify",
		},
		"an unknown failure of the handshake": {
			stepTLS, errors.New("tls: mystery"),
			ReasonProbeFailed, "TLS handshake with redis:6379 failed",
		},
		"the reply times out": {
			stepCommands, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded},
			ReasonTimedOut, "does not respond within 2s",
		},
		"the connection is reset": {
			stepCommands, &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)},
			ReasonProbeFailed, "closes the connection",
		},
		"the connection ends within a reply": {
			stepCommands, io.ErrUnexpectedEOF,
			ReasonProbeFailed, "closes the connection",
		},
		"the reply is not Redis's": {
			stepCommands, errNotRESP,
			ReasonNotRedis, "does not respond like Redis",
		},
		"the key does not exist": {
			stepCommands, redis.Nil,
			ReasonReadBackMismatch, "does not return the value written",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := Target{Addr: "redis:6379", Key: "k"}.withDefaults()
			reason, message := classify(target, failure{step: c.step, command: "SET", err: c.err, conn: &guardedConn{}})
			if reason != c.want || !strings.Contains(message, c.message) {
				t.Errorf("got %s: %s\nwant %s with %q", reason, message, c.want, c.message)
			}
			if strings.Contains(message, "54321") {
				t.Errorf("the message contains a port that changes with each probe: %s", message)
			}
		})
	}
}

func TestWrongPasswordHintsAtWhiteSpace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		username string
		password string
		hint     string
	}{
		"none":                      {username: "app", password: "pass word"},
		"newline":                   {password: "secret\n", hint: "The configured password ends with a newline"},
		"newline of Windows":        {password: "secret\r\n", hint: "The configured password ends with a newline"},
		"space":                     {password: " secret", hint: "The configured password begins or ends with white space"},
		"newline after a user name": {username: "app\n", password: "secret", hint: "The configured user name ends with a newline"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := Target{Addr: "redis:6379", Key: "k", Username: c.username, Password: secret.New(c.password)}.withDefaults()
			for _, reply := range []string{"WRONGPASS invalid username-password pair or user is disabled.", "ERR invalid password"} {
				reason, message := diagnoseError(target, "AUTH", replyError(reply))
				if reason != ReasonWrongPassword || !strings.Contains(message, c.hint) || (c.hint == "") == strings.Contains(message, "The configured") {
					t.Errorf("%s becomes %s: %s, want a hint %q", reply, reason, message, c.hint)
				}
				if strings.Contains(message, strings.TrimSpace(c.password)) && c.password != "pass word" {
					t.Errorf("the message has the password: %s", message)
				}
			}
		})
	}
}

func TestClassifyErrorReplies(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]Reason{
		"WRONGPASS invalid username-password pair or user is disabled.": ReasonWrongPassword,
		"ERR invalid password":                         ReasonWrongPassword,
		"ERR Client sent AUTH, but no password is set": ReasonWrongPassword,
		"ERR AUTH <password> called without any password configured for the default user.":        ReasonWrongPassword,
		"NOAUTH Authentication required.":                                                         ReasonAuthenticationRequired,
		"NOPERM this user has no permissions to run the 'set' command":                            ReasonPermissionDenied,
		"NOPERM this user has no permissions to access one of the keys used as arguments":         ReasonPermissionDenied,
		"DENIED Redis is running in protected mode because protected mode is enabled":             ReasonPermissionDenied,
		"ERR unknown command 'SET', with args beginning with: 'k'":                                ReasonPermissionDenied,
		"READONLY You can't write against a read only replica.":                                   ReasonReadOnlyReplica,
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.":        ReasonReadOnlyReplica,
		"OOM command not allowed when used memory > 'maxmemory'.":                                 ReasonOutOfMemory,
		"LOADING Redis is loading the dataset in memory":                                          ReasonLoading,
		"ERR max number of clients reached":                                                       ReasonTooManyConnections,
		"ERR max number of clients + cluster connections reached":                                 ReasonTooManyConnections,
		"MOVED 3999 10.0.0.1:6379":                                                                ReasonProbeFailed,
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist": ReasonProbeFailed,
		"SURPRISE of a later version":                                                             ReasonProbeFailed,
	} {
		target := Target{Addr: "redis:6379", Key: "k"}.withDefaults()
		got, message := classify(target, failure{step: stepCommands, command: "SET", err: replyError(reply), conn: &guardedConn{}})
		if got != want || strings.ContainsAny(message, "{}%") {
			t.Errorf("%s\ngot %s: %s\nwant %s", reply, got, message, want)
		}
	}
}
