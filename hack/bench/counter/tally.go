// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package counter

import (
	"fmt"
	"strconv"
	"strings"
)

// Write is a kind of request that changes something.
type Write struct {
	// Method of HTTP: POST, PUT, PATCH or DELETE.
	Method string
	// Namespace of the object, "" if it has none.
	Namespace string
	// Resource with its group, for example "secrets" or "deployments.apps".
	Resource string
	// Subresource, for example "status", or "".
	Subresource string
	// Refused says that the API server answered with an error.
	Refused bool
}

// MarshalText implements encoding.TextMarshaler, so that a Tally can be JSON.
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

// Tally is how often each kind of write was seen.
type Tally map[Write]int

// Since is what t counts beyond an earlier tally of the same Counter.
func (t Tally) Since(earlier Tally) Tally {
	later := Tally{}
	for write, n := range t {
		if n > earlier[write] {
			later[write] = n - earlier[write]
		}
	}
	return later
}

// Of is the number of writes that match.
func (t Tally) Of(matches func(Write) bool) int {
	sum := 0
	for write, n := range t {
		if matches(write) {
			sum += n
		}
	}
	return sum
}

// In is the part of t in one namespace.
func (t Tally) In(namespace string) Tally {
	part := Tally{}
	for write, n := range t {
		if write.Namespace == namespace {
			part[write] = n
		}
	}
	return part
}

// IsLease matches the renewal of a lease: the price of being the leader.
func IsLease(w Write) bool { return w.Resource == "leases.coordination.k8s.io" }

// IsEvent matches what is told to people.
func IsEvent(w Write) bool { return w.Resource == "events" || w.Resource == "events.events.k8s.io" }

// IsChange matches everything else: what changes objects that somebody watches.
func IsChange(w Write) bool { return !IsLease(w) && !IsEvent(w) }
