// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package counter

import (
	"fmt"
	"strconv"
	"strings"
)

// Write is a kind of mutating request.
type Write struct {
	// Method is the HTTP method: POST, PUT, PATCH or DELETE.
	Method string
	// Namespace of the object, "" if it has none.
	Namespace string
	// Resource with its group, for example "secrets" or "deployments.apps".
	Resource string
	// Subresource, for example "status", or "".
	Subresource string
	// Refused is set if the API server responded with an error.
	Refused bool
}

// MarshalText implements encoding.TextMarshaler, so that a Tally can be encoded as JSON.
func (w Write) MarshalText() ([]byte, error) {
	fields := []string{w.Method, w.Namespace, w.Resource, w.Subresource, strconv.FormatBool(w.Refused)}
	return []byte(strings.Join(fields, " ")), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *Write) UnmarshalText(text []byte) error {
	fields := strings.Split(string(text), " ")
	if len(fields) != 5 {
		return fmt.Errorf("reading %q: a write has five fields", text)
	}
	refused, err := strconv.ParseBool(fields[4])
	if err != nil {
		return fmt.Errorf("reading %q: %w", text, err)
	}
	*w = Write{Method: fields[0], Namespace: fields[1], Resource: fields[2], Subresource: fields[3], Refused: refused}
	return nil
}

// Tally counts writes by kind.
type Tally map[Write]int

// Since returns the writes after an earlier tally of the same Counter.
func (t Tally) Since(earlier Tally) Tally {
	later := Tally{}
	for write, n := range t {
		if n > earlier[write] {
			later[write] = n - earlier[write]
		}
	}
	return later
}

// Of returns the number of matching writes.
func (t Tally) Of(matches func(Write) bool) int {
	sum := 0
	for write, n := range t {
		if matches(write) {
			sum += n
		}
	}
	return sum
}

// In returns the writes in one namespace.
func (t Tally) In(namespace string) Tally {
	part := Tally{}
	for write, n := range t {
		if write.Namespace == namespace {
			part[write] = n
		}
	}
	return part
}

// IsLease matches lease renewals of the leader election.
func IsLease(w Write) bool { return w.Resource == "leases.coordination.k8s.io" }

// IsEvent matches writes of Events.
func IsEvent(w Write) bool { return w.Resource == "events" || w.Resource == "events.events.k8s.io" }

// IsChange matches all other writes.
func IsChange(w Write) bool { return !IsLease(w) && !IsEvent(w) }
