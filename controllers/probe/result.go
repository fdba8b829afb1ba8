// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import "time"

// Outcome is the result of a series of probes. It is empty while that is unknown.
type Outcome string

const (
	// Healthy means that clients can authenticate, write and read.
	Healthy Outcome = "Healthy"
	// Unhealthy means that they cannot, for the Reason and Message of the Result.
	Unhealthy Outcome = "Unhealthy"
)

// Reason is the reason of a probe's result in CamelCase, as for a condition.
type Reason string

const (
	// ReasonHealthy: all steps of the probe succeeded.
	ReasonHealthy Reason = "Healthy"
	// ReasonConnectionRefused: the host refuses connections, because nothing listens on the port.
	ReasonConnectionRefused Reason = "ConnectionRefused"
	// ReasonTimedOut: a step took longer than the timeout; the message names the step.
	ReasonTimedOut Reason = "TimedOut"
	// ReasonHostNotFound: the host name does not resolve.
	ReasonHostNotFound Reason = "HostNotFound"
	// ReasonNetworkUnreachable: there is no route to the host.
	ReasonNetworkUnreachable Reason = "NetworkUnreachable"
	// ReasonTLSCertificateInvalid: verification of the server certificate failed; the message has the cause.
	ReasonTLSCertificateInvalid Reason = "TLSCertificateInvalid"
	// ReasonTLSNotSupported: TLS is enabled for the cache, but the server responds in plain text.
	ReasonTLSNotSupported Reason = "TLSNotSupported"
	// ReasonTLSRequired: TLS is disabled for the cache, but the server responds with TLS.
	ReasonTLSRequired Reason = "TLSRequired"
	// ReasonWrongPassword: the server rejects the user name or the password.
	ReasonWrongPassword Reason = "WrongPassword"
	// ReasonAuthenticationRequired: the server requires a password, and none is configured.
	ReasonAuthenticationRequired Reason = "AuthenticationRequired"
	// ReasonPermissionDenied: the user is authenticated but lacks a permission.
	ReasonPermissionDenied Reason = "PermissionDenied"
	// ReasonReadOnlyReplica: the server is a replica and rejects writes.
	ReasonReadOnlyReplica Reason = "ReadOnlyReplica"
	// ReasonOutOfMemory: the server rejects writes because it is out of memory.
	ReasonOutOfMemory Reason = "OutOfMemory"
	// ReasonLoading: the server is still loading its data set from disk.
	ReasonLoading Reason = "Loading"
	// ReasonReadBackMismatch: the value that was read differs from the one that was written.
	ReasonReadBackMismatch Reason = "ReadBackMismatch"
	// ReasonNotRedis: a reply does not follow the Redis protocol, or is too long.
	ReasonNotRedis Reason = "NotRedis"
	// ReasonTooManyConnections: the server has reached its limit of connections.
	ReasonTooManyConnections Reason = "TooManyConnections"
	// ReasonAddressNotAllowed: the host resolves to an address that is not allowed, such as a loopback, link-local or multicast one, or that of the API server.
	ReasonAddressNotAllowed Reason = "AddressNotAllowed"
	// ReasonNoAnswer: the server does not answer like a Redis server. It is the only such reason for an address that the operator's policy does not list: refused, silent and other ports have the same.
	ReasonNoAnswer Reason = "NoAnswer"
	// ReasonProbeFailed: the probe failed for another reason, which is in the message.
	ReasonProbeFailed Reason = "ProbeFailed"
)

// Result is the current state of one cache.
type Result struct {
	// ID is the ID of the Target.
	ID string
	// Outcome is empty while neither threshold has been reached.
	Outcome Outcome
	// Reason is the reason of Outcome, or of the last failure while Outcome is empty.
	Reason Reason
	// Message states what fails, where, and what to do. It is constant for the same
	// failure, and contains no credentials.
	Message string
	// Role is "master" or "slave", empty if it is unknown.
	Role string
	// ReplicationLag is the lag of a replica, rounded up to 1, 2 or 5 times a power of
	// ten; 0 for a master or if it is unknown.
	ReplicationLag time.Duration
	// Latency of the last successful probe, rounded up to 1, 2 or 5 times a power of
	// ten, at least 1ms. It changes only by more than one such step, to avoid flapping
	// between two steps.
	Latency time.Duration
	// Load is the sustained memory and CPU load of the cache.
	Load Load
	// Since is when Outcome last changed, or when the watch started.
	Since time.Time
	// At is when the last probe ended. Failing is set if it failed, whatever Outcome
	// is.
	At      time.Time
	Failing bool
}

// Same reports whether two results of a target differ at most in ID, Latency, Since, At
// and Failing. Other differences are changes to report.
func (r Result) Same(o Result) bool {
	return r.Outcome == o.Outcome && r.Reason == o.Reason && r.Message == o.Message &&
		r.Role == o.Role && r.ReplicationLag == o.ReplicationLag && r.Load == o.Load
}

// Attempt is one probe without hysteresis.
type Attempt struct {
	// Err is nil if every step succeeded. Its text is Message, and it wraps no error, so
	// that no reply of a server reaches a log through it.
	Err error
	// Cause is the reason of a failure for the operator's own metrics. Reason and Message
	// are as in Result, and may say less.
	Cause   Reason
	Reason  Reason
	Message string
	// Role and Lag are the reported replication state, also if a step failed.
	Role string
	Lag  time.Duration
	// Usage is the reported memory and CPU usage.
	Usage Usage
	// Latency is the duration of the whole attempt, not rounded.
	Latency time.Duration
}

// roundUp125 rounds d up to 1, 2 or 5 times a power of ten of unit, at least unit.
func roundUp125(d, unit time.Duration) time.Duration {
	for ; ; unit *= 10 {
		for _, digit := range []time.Duration{1, 2, 5} {
			if d <= digit*unit {
				return digit * unit
			}
		}
	}
}
