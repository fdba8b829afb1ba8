// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/flagcache/flagcache/controllers/ack"
)

// The checks of AWS on users, user groups and snapshots. Callers hold the account's lock.

// authNoPasswordRequired is the authentication type in requests for a user without a
// password. AWS responds with authNoPassword, which ACK writes into the spec.
const (
	authNoPasswordRequired = "no-password-required"
	authNoPassword         = "no-password"
)

func (a *account) validateUser(op Operation, t *resource) error {
	refuse := func(message string) error { return awsError{op: op, kind: "User", code: codeValue, message: message} }
	mode := stringField(mapOf(t.spec["authenticationMode"]), "type")
	open := mode == authNoPasswordRequired || mode == authNoPassword || t.spec["noPasswordRequired"] == true
	switch {
	case mode == "iam" && t.spec["userID"] != t.spec["userName"]:
		return refuse("The ID and the name of a user of type iam must be the same.")
	case mode == "iam" && len(t.passwords) > 0, open && len(t.passwords) > 0:
		return refuse("A user of this type must not have a password.")
	case mode != "iam" && !open && (len(t.passwords) == 0 || len(t.passwords) > 2):
		return refuse("A user must have one or two passwords.")
	}
	for _, password := range t.passwords {
		if len(password) < 16 || len(password) > 128 {
			return refuse("A password must have 16 to 128 characters.")
		}
	}
	return nil
}

func (a *account) validateUserGroup(op Operation, t *resource) error {
	refuse := func(code, message string) error {
		return awsError{op: op, kind: "UserGroup", code: code, message: message}
	}
	ids, _ := t.spec["userIDs"].([]any)
	hasDefault := false
	for _, id := range ids {
		user := a.resource("User", fmt.Sprint(id))
		if user == nil {
			return refuse("UserNotFound", fmt.Sprintf("User %s does not exist.", id))
		}
		hasDefault = hasDefault || user.spec["userName"] == "default"
	}
	if !hasDefault && t.spec["engine"] == "redis" {
		return refuse("DefaultUserRequired", "A user group for Redis requires a user named default.")
	}
	return nil
}

// validateSnapshot also starts taking the snapshot.
func (a *account) validateSnapshot(op Operation, t *resource) error {
	if op != Create {
		return nil
	}
	node := stringField(t.spec, "cacheClusterID")
	if node == "" {
		return awsError{op: op, kind: "Snapshot", code: codeCombination, message: "With cluster mode disabled, a snapshot must name a node."}
	}
	id := node[:max(strings.LastIndex(node, "-"), 0)]
	g := a.findGroup(id)
	if g == nil || !g.hasNode(node) {
		return awsError{op: op, kind: "Snapshot", code: "CacheClusterNotFound", message: "There is no node " + node + "."}
	}
	if state := g.state(); state != ack.GroupAvailable {
		return awsError{op: op, kind: "Snapshot", code: codeState, message: "Replication group " + id + " is " + state + "."}
	}
	a.startPhase(g, ack.GroupSnapshotting, a.options.SnapshotTime, nil)
	return nil
}

// securityGroupID derives a stable ID from the name.
func securityGroupID(name string) string {
	return fmt.Sprintf("sg-%x", sha256.Sum256([]byte(name)))[:20]
}
