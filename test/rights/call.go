// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// The installations: config/default and config/namespaced.
const (
	Default    = "default"
	Namespaced = "namespaced"
)

// The namespaces that a call is about, as seen by the operator.
const (
	// All are all namespaces, or a resource that has none.
	All = "all"
	// Own is the operator's.
	Own = "own"
	// Other is any other one.
	Other = "other"
)

// Call is a kind of request to the API server.
type Call struct {
	// Install is the operator's installation, Default or Namespaced.
	Install string
	// Scope is All, Own or Other.
	Scope string
	// Verb is the verb of the API: a create-or-update by server-side apply is a patch.
	Verb string
	// Group is the API group, "" for the core group.
	Group string
	// Resource is the plural name, with a subresource as in flagcaches/status.
	Resource string
}

// String is the line of a call.
func (c Call) String() string {
	return strings.Join([]string{c.Install, c.Scope, c.Verb, Qualified(c.Group, c.Resource)}, " ")
}

// Qualified is a resource with its group, as in flagcaches.flagcache.dev/status.
func Qualified(group, resource string) string {
	resource, subresource, _ := strings.Cut(resource, "/")
	if group != "" {
		resource += "." + group
	}
	if subresource != "" {
		resource += "/" + subresource
	}
	return resource
}

// Parse reads the lines of calls.
func Parse(r io.Reader) ([]Call, error) {
	var calls []Call
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 4 {
			return nil, fmt.Errorf("parsing the call %q: it has %d fields", lines.Text(), len(fields))
		}
		path, subresource, sub := strings.Cut(fields[3], "/")
		resource, group, _ := strings.Cut(path, ".")
		if sub {
			resource += "/" + subresource
		}
		calls = append(calls, Call{Install: fields[0], Scope: fields[1], Verb: fields[2], Group: group, Resource: resource})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading calls: %w", err)
	}
	return calls, nil
}

// Set is a set of calls.
type Set map[Call]bool

// String is the lines of the calls, sorted.
func (s Set) String() string {
	lines := make([]string, 0, len(s))
	for call := range s {
		lines = append(lines, call.String()+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// NotIn are the calls that are not in another set.
func (s Set) NotIn(other Set) Set {
	rest := maps.Clone(s)
	maps.DeleteFunc(rest, func(c Call, _ bool) bool { return other[c] })
	return rest
}

// Of are the calls of an installation.
func (s Set) Of(install string) Set {
	own := maps.Clone(s)
	maps.DeleteFunc(own, func(c Call, _ bool) bool { return c.Install != install })
	return own
}

// WithoutScope are the calls by what they ask for, wherever that is and whoever asks.
func (s Set) WithoutScope() Set {
	calls := Set{}
	for call := range s {
		call.Install, call.Scope = "", ""
		calls[call] = true
	}
	return calls
}

// SetOf is the set of some calls.
func SetOf(calls []Call) Set {
	s := Set{}
	for _, call := range calls {
		s[call] = true
	}
	return s
}
