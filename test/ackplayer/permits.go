// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/flagcache/flagcache/controllers/ack"
)

// What AWS checks of users, user groups and snapshots; the account's lock is held.

// modeOpen is what AWS is asked for a user without a password, modeAnswered what it
// answers, and what ACK writes over the spec.
const (
	modeOpen     = "no-password-required"
	modeAnswered = "no-password"
)

func (a *account) permitUser(op Operation, t *thing) error {
	refuse := func(message string) error { return fault{op: op, kind: "User", code: codeValue, message: message} }
	mode := text(mapOf(t.spec["authenticationMode"]), "type")
	open := mode == modeOpen || mode == modeAnswered || t.spec["noPasswordRequired"] == true
	switch {
	case mode == "iam" && t.spec["userID"] != t.spec["userName"]:
		return refuse("The ID and the name of a user of type iam must be the same.")
	case mode == "iam" && len(t.passwords) > 0, open && len(t.passwords) > 0:
		return refuse("A user of this type has no password.")
	case mode != "iam" && !open && (len(t.passwords) == 0 || len(t.passwords) > 2):
		return refuse("A user has one password or two.")
	}
	for _, word := range t.passwords {
		if len(word) < 16 || len(word) > 128 {
			return refuse("A password must have 16 to 128 characters.")
		}
	}
	return nil
}

func (a *account) permitUserGroup(op Operation, t *thing) error {
	refuse := func(code, message string) error {
		return fault{op: op, kind: "UserGroup", code: code, message: message}
	}
	ids, _ := t.spec["userIDs"].([]any)
	hasDefault := false
	for _, id := range ids {
		user := a.thing("User", fmt.Sprint(id))
		if user == nil {
			return refuse("UserNotFound", fmt.Sprintf("There is no user %s.", id))
		}
		hasDefault = hasDefault || user.spec["userName"] == "default"
	}
	if !hasDefault && t.spec["engine"] == "redis" {
		return refuse("DefaultUserRequired", "A user group for Redis needs a user whose name is default.")
	}
	return nil
}

// permitSnapshot also begins to take it.
func (a *account) permitSnapshot(op Operation, t *thing) error {
	if op != Create {
		return nil
	}
	node := text(t.spec, "cacheClusterID")
	if node == "" {
		return fault{op: op, kind: "Snapshot", code: codeCombination, message: "With cluster mode disabled a snapshot is of a node."}
	}
	id := node[:max(strings.LastIndex(node, "-"), 0)]
	g := a.groupOf(id)
	if g == nil || !g.has(node) {
		return fault{op: op, kind: "Snapshot", code: "CacheClusterNotFound", message: "There is no node " + node + "."}
	}
	if state := g.state(); state != ack.GroupAvailable {
		return fault{op: op, kind: "Snapshot", code: codeState, message: "Replication group " + id + " is " + state + "."}
	}
	a.begin(g, ack.GroupSnapshotting, a.options.SnapshotTime, nil)
	return nil
}

// securityGroupID is the same for the same name.
func securityGroupID(name string) string {
	return fmt.Sprintf("sg-%x", sha256.Sum256([]byte(name)))[:20]
}
