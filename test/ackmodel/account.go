// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Account is the state of an AWS account.
type Account struct {
	// Groups are the replication groups by ID. An entry is never modified in place.
	Groups map[string]Group
	// FailCreations is the number of further creations of groups that fail.
	FailCreations int
	// QuotaExceeded reports that the quota of nodes is used up.
	QuotaExceeded bool
	// Lost is the address of a group that was deleted behind ACK's back.
	Lost string
}

// Group is a replication group in AWS.
type Group struct {
	// Spec is what was requested.
	Spec ack.ReplicationGroupSpec
	// Done is when the current operation completes.
	Done time.Time
	// Tokens are those that AWS accepts.
	Tokens Tokens
}

// Tokens are the newest token and the previous one, if AWS still accepts it.
type Tokens [2]string

// AcceptOnly returns the tokens of a server that accepts only one.
func AcceptOnly(token string) Tokens { return Tokens{token} }

// Accept reports whether a token is accepted.
func (t Tokens) Accept(token string) bool {
	return token == t[0] || t[1] != "" && token == t[1]
}

// rotatedTo returns the tokens after a modification with a token.
func (t Tokens) rotatedTo(token string) Tokens {
	if token == t[0] {
		return t
	}
	return Tokens{token, t[0]}
}

// DeleteGroups deletes all groups behind ACK's back.
func (a *Account) DeleteGroups() {
	for id := range a.Groups {
		a.Lost = address(id)
	}
	clear(a.Groups)
}

// Tokens returns the tokens that the server at an address accepts, and false if there is no server.
func (a *Account) Tokens(at string) (Tokens, bool) {
	for id, g := range a.Groups {
		if address(id) == at {
			return g.Tokens, true
		}
	}
	return Tokens{}, false
}

// Describe returns the state of the account with times relative to now.
func (a *Account) Describe(now time.Time) string {
	var text strings.Builder
	fmt.Fprintln(&text, a.FailCreations, a.QuotaExceeded, a.Lost)
	for _, id := range slices.Sorted(maps.Keys(a.Groups)) {
		g := a.Groups[id]
		spec, err := json.Marshal(g.Spec)
		if err != nil {
			panic(fmt.Sprintf("encoding the spec of %s: %v", id, err))
		}
		fmt.Fprintln(&text, id, until(g.Done, now), g.Tokens, string(spec))
	}
	return text.String()
}

// port is the default port of Redis.
const port = 6379

func host(id string) string { return "master." + id + ".use1.cache.amazonaws.com" }

func address(id string) string { return host(id) + ":" + strconv.Itoa(port) }
