// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

// The commands that are allowed to a user of Redis: the names of commands, not
// categories, which grow with each version of the engine. None is for the login: AUTH and
// HELLO need no right. The test in test/access compares them with the commands that are
// sent.
const (
	// ServiceCommands are all that the flag service sends to Redis: the document is read
	// with GETRANGE, which bounds it, and written and deleted in transactions that fail
	// after a concurrent write. There are no scripts, so no EVAL.
	ServiceCommands = "+getrange +set +del +watch +unwatch +multi +exec +publish +subscribe +ping"
	// ProbeCommands are all that the operator sends: its probe, and the published flags, which
	// are written as by the flag service.
	ProbeCommands = "+ping +set +get +info +getrange +watch +unwatch +multi +exec +publish"
)
