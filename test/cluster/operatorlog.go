// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import "strings"

// Texts of controller-runtime and client-go in the operator's log.
const (
	// stoppingReconciles is logged immediately before the context of all reconciles is
	// canceled, and that of the events after it.
	stoppingReconciles = `"msg":"Stopping and waiting for leader election runnables"`
	// unreadResponse is logged when a request ends between the header of its response
	// and the end of the body.
	unreadResponse = `"msg":"Unexpected error when reading response body"`
	// unwrittenEvent is logged when the request for an event fails.
	unwrittenEvent = `"msg":"Unable to write event (may retry after sleeping)"`
	// canceled ends the error of a request whose context was canceled.
	canceled = `context canceled"`
)

// Errors returns the errors in the log of one container of the operator, without those
// that the environment causes: a namespace that is being deleted accepts no events, a
// machine that stalls for seconds loses the lease, and an operator that is being stopped
// does not wait for the responses to its last requests.
func Errors(log string) []string {
	var errors []string
	stopping := false
	for line := range strings.Lines(log) {
		stopping = stopping || strings.Contains(line, stoppingReconciles)
		if strings.Contains(line, `"level":"error"`) && !isEnvironmental(line, stopping) {
			errors = append(errors, line)
		}
	}
	return errors
}

func isEnvironmental(line string, stopping bool) bool {
	if stopping && strings.Contains(line, canceled) && (strings.Contains(line, unreadResponse) || strings.Contains(line, unwrittenEvent)) {
		return true
	}
	for _, text := range []string{"because it is being terminated", "lease lock", "leader election lost"} {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}
