// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strconv"
	"strings"
	"time"
)

// heartbeat is how often an idle primary pings its replicas by default
// (repl-ping-replica-period): silence up to that is not lag.
const heartbeat = 10 * time.Second

// replication is the replication state that a server reports.
type replication struct {
	role string
	lag  time.Duration
}

// parseReplication parses the reply to INFO replication. Missing or invalid fields stay
// unknown: some proxies and compatible servers report only a part.
func parseReplication(info string) replication {
	fields := parseInfo(info)
	switch fields["role"] {
	case "master":
		return replication{role: "master"}
	case "slave":
		return replication{role: "slave", lag: lagOf(fields)}
	}
	return replication{}
}

// parseInfo parses the fields of a reply to INFO.
func parseInfo(info string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// lagOf returns how long a replica has not received data from its primary, rounded up.
func lagOf(fields map[string]string) time.Duration {
	field := "master_last_io_seconds_ago"
	if fields["master_link_status"] == "down" {
		field = "master_link_down_since_seconds"
	}
	seconds, err := strconv.ParseInt(fields[field], 10, 32)
	if err != nil || seconds < 0 {
		return 0
	}
	lag := time.Duration(seconds) * time.Second
	if lag == 0 || lag <= heartbeat && fields["master_link_status"] == "up" {
		return 0
	}
	return roundUp125(lag, time.Second)
}
