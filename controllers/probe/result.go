// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import "time"

// Outcome is what a series of probes says. It is empty while that is not known yet.
type Outcome string

const (
	// Healthy means that the cache's users can log in, write and read.
	Healthy Outcome = "Healthy"
	// Unhealthy means that they cannot; Reason and Message say why.
	Unhealthy Outcome = "Unhealthy"
)

// Reason is why a probe ended as it did, in CamelCase, fit for a condition.
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
	// ReasonTLSNotSupported: TLS is enabled for the cache, but the server answers in plain text.
	ReasonTLSNotSupported Reason = "TLSNotSupported"
	// ReasonTLSRequired: TLS is disabled for the cache, but the server answers with TLS.
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
	// ReasonAddressNotAllowed: the host resolves to an address that is not allowed, such as a link-local or multicast one.
	ReasonAddressNotAllowed Reason = "AddressNotAllowed"
	// ReasonProbeFailed: the probe failed for another reason, which is in the message.
	ReasonProbeFailed Reason = "ProbeFailed"
)

// Result is the present knowledge about one cache.
type Result struct {
	// ID is the Target's that this is about.
	ID string
	// Outcome is empty while neither threshold has been reached.
	Outcome Outcome
	// Reason belongs to Outcome; while Outcome is empty it is the last failure's.
	Reason Reason
	// Message says what fails, where, and what to do. The same trouble is the same
	// sentence from probe to probe. It holds no credential.
	Message string
	// Role is "master" or "slave", or empty when the server did not say.
	Role string
	// ReplicationLag is how far a replica is behind, rounded up to 1, 2 or 5 times
	// a power of ten; 0 for a master or when unknown.
	ReplicationLag time.Duration
	// Latency is that of the last successful probe, rounded up to 1, 2 or 5 times a
	// power of ten, at least 1ms. It moves only when it differs by more than one
	// such step, so that a cache between two steps does not flap.
	Latency time.Duration
	// Load is how much of its memory and CPU the cache uses for long.
	Load Load
	// Since is when Outcome last changed, or when the watch began.
	Since time.Time
	// At is when the last probe ended, and Failing that it failed, whatever Outcome
	// still says.
	At      time.Time
	Failing bool
}

// Same reports whether two results of a target mean the same to a person: all but
// ID, Latency, Since, At and Failing agree. Since follows Outcome; Latency is information,
// not news.
func (r Result) Same(o Result) bool {
	return r.Outcome == o.Outcome && r.Reason == o.Reason && r.Message == o.Message &&
		r.Role == o.Role && r.ReplicationLag == o.ReplicationLag && r.Load == o.Load
}

// Attempt is one probe without hysteresis.
type Attempt struct {
	// Err is nil when every step succeeded. Its text is Message, and it wraps
	// nothing, so that no server's reply reaches a log by way of it.
	Err error
	// Reason and Message are as in Result.
	Reason  Reason
	Message string
	// Role and Lag are what the server said about itself, also when a step failed.
	Role string
	Lag  time.Duration
	// Usage is what the server said about its memory and CPU.
	Usage Usage
	// Latency is what the whole attempt took, not rounded.
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
