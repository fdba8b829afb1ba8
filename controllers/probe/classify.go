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

	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/service/printable"
)

// probeStep is the step of a probe.
type probeStep int

const (
	stepAddress  probeStep = iota // parsing host:port
	stepConnect                   // resolving the host and connecting
	stepTLS                       // the TLS handshake
	stepCommands                  // authenticating, writing, reading
)

var errReadBackMismatch = errors.New("read a value other than the one written")

// failure is a failed step of a probe.
type failure struct {
	step probeStep
	// command that failed, in stepCommands.
	command string
	err     error
	// conn is the connection that it failed on, in stepCommands.
	conn *guardedConn
}

// isRevealed reports whether a failure is reported for any address: it is one of the settings or
// of the resolution of the name, or the server has identified itself as Redis by its reply.
// All others would show which ports of the network are open.
func (f *failure) isRevealed() bool {
	switch f.step {
	case stepAddress:
		return true
	case stepConnect:
		var lookup *net.DNSError
		return errors.As(f.err, &lookup) || errors.Is(f.err, dial.ErrNotAllowed)
	case stepTLS:
		return errors.Is(f.err, errNoCertificateInCA)
	}
	var reply redis.Error
	switch {
	case errors.Is(f.err, errReadBackMismatch), errors.Is(f.err, redis.Nil):
		return true
	case !errors.As(f.err, &reply):
		reply = replyError(f.conn.firstErrorReply())
	}
	_, isRedis := findDiagnosis(reply)
	return isRedis
}

// noAnswerMessage is the message of all failures that are not revealed. It has no more than
// maxMessage bytes with an address of usual length.
func noAnswerMessage(t Target) string {
	return bounded(where(t) + " does not answer like Redis; check host, port, TLS on both sides and network policies. " +
		"For the cause, have its address listed in addresses.allow of the operator's policy.")
}

// maxMessage is the maximum length of a message in bytes: addresses and keys are user
// input.
const maxMessage = 256

// classify returns a reason and a message for a failure. The message contains nothing
// that a server sent.
func classify(t Target, f failure) (Reason, string) {
	reason, message := diagnose(t, f)
	return reason, bounded(message)
}

func diagnose(t Target, f failure) (Reason, string) {
	switch f.step {
	case stepAddress:
		return ReasonProbeFailed, fmt.Sprintf("The address %s is not of the form host:port; correct it.", where(t))
	case stepConnect:
		return diagnoseConnect(t, f.err)
	case stepTLS:
		return diagnoseTLS(t, f.err)
	}
	return diagnoseReply(t, f)
}

func diagnoseConnect(t Target, err error) (Reason, string) {
	at := where(t)
	var lookup *net.DNSError
	isLookup := errors.As(err, &lookup)
	switch {
	case errors.Is(err, dial.ErrNotAllowed):
		return ReasonAddressNotAllowed, at + " resolves to an address that must not be probed " +
			"(loopback, link-local, metadata service, API server, or by policy); use the cache's own address."
	case isLookup && isTimeout(err):
		return ReasonTimedOut, fmt.Sprintf("Resolving the host of %s took longer than %s; check the cluster's DNS.", at, t.Timeout)
	case isLookup && lookup.IsNotFound:
		return ReasonHostNotFound, "The host of " + at + " does not exist in DNS; check the name."
	case isLookup:
		return ReasonHostNotFound, "The host of " + at + " cannot be resolved; check the name and the cluster's DNS."
	case errors.Is(err, syscall.ECONNREFUSED):
		return ReasonConnectionRefused, at + " refuses connections; check that Redis runs and listens on this port."
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return ReasonNetworkUnreachable, "There is no route to " + at + "; check subnets, routes and peering."
	case isTimeout(err):
		return ReasonTimedOut, fmt.Sprintf("Connecting to %s took longer than %s; check security groups and network policies.", at, t.Timeout)
	}
	return ReasonProbeFailed, "Connecting to " + at + " failed" + cause(err) + "."
}

func diagnoseTLS(t Target, err error) (Reason, string) {
	at := where(t)
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain), errors.Is(err, errPlainText):
		return ReasonTLSNotSupported, at + " responds in plain text; enable TLS in Redis, or disable it for this cache."
	case errors.Is(err, errNoCertificateInCA):
		return ReasonTLSCertificateInvalid, "The CA for " + at + " contains no PEM certificate; correct it."
	case errors.Is(err, errClientCertificate):
		return diagnoseClientCertificate(at)
	case isAlert(err):
		return ReasonProbeFailed, at + " rejects the TLS handshake; check that it accepts TLS 1.2 or later."
	case isTimeout(err):
		return ReasonTimedOut, fmt.Sprintf("The TLS handshake with %s took longer than %s; check that the port serves TLS.", at, t.Timeout)
	case isHangUp(err):
		return ReasonProbeFailed, at + " closes the connection during the TLS handshake; check that the port serves TLS 1.2 or later."
	}
	return diagnoseCertificate(at, err)
}

func diagnoseClientCertificate(at string) (Reason, string) {
	return ReasonTLSCertificateInvalid, at + " requires a client certificate, which is not supported; set tls-auth-clients to no."
}

func diagnoseCertificate(at string, err error) (Reason, string) {
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &host):
		return ReasonTLSCertificateInvalid, "The certificate of " + at + " is for another host name; connect by a name in the certificate."
	case errors.As(err, &authority):
		return ReasonTLSCertificateInvalid, "The certificate of " + at + " is signed by an unknown authority; configure its CA."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ReasonTLSCertificateInvalid, "The certificate of " + at + " has expired or is not valid yet; renew it."
	case errors.As(err, &verification), errors.As(err, &invalid):
		return ReasonTLSCertificateInvalid, "The certificate of " + at + " does not verify; check it and its CA."
	}
	return ReasonProbeFailed, "The TLS handshake with " + at + " failed; check that the port serves TLS."
}

func diagnoseReply(t Target, f failure) (Reason, string) {
	at := where(t)
	var reply redis.Error
	switch {
	case errors.Is(f.err, errReadBackMismatch), errors.Is(f.err, redis.Nil):
		return ReasonReadBackMismatch, fmt.Sprintf("%s does not return the value written to key %s; "+
			"check that no other client writes the key and that the address is a single server.", at, bounded(t.Key))
	case f.conn.startsWithTLS(), errors.Is(f.err, errSpeaksTLS):
		return ReasonTLSRequired, at + " responds with TLS; enable TLS for this cache."
	case errors.As(f.err, &reply):
		return diagnoseError(t, f.command, reply)
	case isTimeout(f.err):
		return ReasonTimedOut, fmt.Sprintf("%s accepts connections but does not respond within %s; "+
			"check whether Redis is overloaded or suspended.", at, t.Timeout)
	case isHangUp(f.err):
		return diagnoseHangUp(t, f)
	case errors.Is(f.err, errClientCertificate):
		return diagnoseClientCertificate(at)
	}
	return ReasonNotRedis, at + " does not respond like Redis; check host and port."
}

// diagnoseHangUp diagnoses a closed connection, by the first error reply if there was
// one.
func diagnoseHangUp(t Target, f failure) (Reason, string) {
	if reply := f.conn.firstErrorReply(); reply != "" {
		if d, ok := findDiagnosis(replyError(reply)); ok {
			return d.reason, d.message(t, f.command)
		}
	}
	return ReasonProbeFailed, where(t) + " closes the connection without a reply; check the Redis log, and whether the port expects TLS."
}

// diagnosis is the meaning of an error reply.
type diagnosis struct {
	// prefix of the error, without a leading "ERR ".
	prefix string
	reason Reason
	// template of the message, with {addr}, {command} and {key}.
	template string
}

// diagnoses are tried in order. The prefixes are part of Redis's protocol; older
// servers use other ones.
var diagnoses = []diagnosis{
	{"WRONGPASS", ReasonWrongPassword, "{addr} rejects the user name or the password; correct them."},
	{"invalid password", ReasonWrongPassword, "{addr} rejects the password; correct it."},
	{"Client sent AUTH, but no password is set", ReasonWrongPassword, "{addr} has no password; remove it for this cache, or set it in Redis."},
	{"AUTH <password> called without any password", ReasonWrongPassword, "{addr} has no password; remove it for this cache, or set it in Redis."},
	{"NOAUTH", ReasonAuthenticationRequired, "{addr} requires a password, and none is configured; configure it."},
	{"NOPERM", ReasonPermissionDenied, "The user may not run {command} on key {key} at {addr}; allow the commands ping, set, get and info, and the key, in its ACL."},
	{"DENIED", ReasonPermissionDenied, "{addr} is in protected mode and accepts local connections only; set a password in Redis."},
	{"unknown command", ReasonPermissionDenied, "{addr} does not support the command {command}; check that it is not disabled or renamed."},
	{"READONLY", ReasonReadOnlyReplica, "{addr} is a read-only replica; connect to the primary."},
	{"MASTERDOWN", ReasonReadOnlyReplica, "{addr} is a replica that has lost its primary; connect to the primary."},
	{"OOM", ReasonOutOfMemory, "{addr} is out of memory and rejects writes; raise maxmemory, or set a maxmemory-policy that evicts keys."},
	{"LOADING", ReasonLoading, "{addr} is loading its data set; wait until it has finished."},
	{"max number of clients", ReasonTooManyConnections, "{addr} has reached its limit of clients; close idle connections, or raise maxclients."},
	{"MOVED", ReasonProbeFailed, "{addr} runs in cluster mode and stores key {key} on another node; connect to a server without cluster mode."},
	{"CLUSTERDOWN", ReasonProbeFailed, "{addr} runs in cluster mode and its cluster is down; check the cluster's nodes."},
	{"MISCONF", ReasonProbeFailed, "{addr} rejects writes because it cannot save to disk; check its log and its disk."},
	{"NOREPLICAS", ReasonProbeFailed, "{addr} rejects writes because it has too few connected replicas; check the replicas."},
	{"BUSY", ReasonProbeFailed, "{addr} is busy running a script; stop it with SCRIPT KILL."},
}

// message returns the message of a diagnosis.
func (d diagnosis) message(t Target, command string) string {
	message := strings.NewReplacer("{addr}", where(t), "{command}", command, "{key}", bounded(t.Key)).Replace(d.template)
	if d.reason == ReasonWrongPassword {
		message += surroundingSpace(t)
	}
	return message
}

// surroundingSpace is a hint at white space around credentials, "" if there is none: the
// line feed that echo and editors append becomes a part of a Secret.
func surroundingSpace(t Target) string {
	for _, credential := range []struct{ name, value string }{{"password", t.Password.Reveal()}, {"user name", t.Username}} {
		switch trimmed := strings.TrimSpace(credential.value); {
		case trimmed == credential.value:
		case strings.TrimRight(credential.value, "\r\n") == trimmed:
			return " The configured " + credential.name + " ends with a newline; create the Secret without it, for example by printf rather than echo."
		default:
			return " The configured " + credential.name + " begins or ends with white space; create the Secret without it."
		}
	}
	return ""
}

func diagnoseError(t Target, command string, reply redis.Error) (Reason, string) {
	if d, ok := findDiagnosis(reply); ok {
		return d.reason, d.message(t, command)
	}
	return ReasonProbeFailed, fmt.Sprintf("%s returns an error for %s; check the Redis log.", where(t), command)
}

func findDiagnosis(reply redis.Error) (diagnosis, bool) {
	for _, d := range diagnoses {
		if redis.HasErrorPrefix(reply, d.prefix) {
			return d, true
		}
	}
	return diagnosis{}, false
}

// replyError is an error reply that was not parsed by the client.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError implements redis.Error.
func (replyError) RedisError() {}

func healthyMessage(t Target) string {
	return bounded(where(t) + " is writable and readable.")
}

// bounded returns a text that fits into a message.
func bounded(s string) string { return printable.Text(s, maxMessage) }

// where returns the printable address, without anything before an @, which is a
// credential that was entered as a part of the host.
func where(t Target) string {
	return bounded(t.Addr[strings.LastIndexByte(t.Addr, '@')+1:])
}

// cause returns the system's text for the error number in err, if any.
func cause(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return ": " + number.Error()
	}
	return ""
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

func isHangUp(err error) bool {
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
