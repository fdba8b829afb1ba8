// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package evidence gathers the evidence of canaries in the background.
//
// A Sampler samples each watched canary at its interval and keeps the last
// sample; it decides nothing. A sample is a set of streams: cumulative counters
// of one life of one process, or of one series of another source, so that whoever
// adds them up can tell a reset from a decrease and never counts twice. What
// cannot be had is absent and never zero.
//
// Pods are scraped directly, and no other target: their addresses come from the
// API server, for pods that the operator's own Deployments made, at a fixed port
// and path. A FlagCache of that type cannot make the operator fetch anything else.
//
// Prometheus is asked for the same counters as they are, put together again to
// what each process exposed. Its address is the user's, so it is connected to by a
// client that goes to no address of the operator's own machine, follows no
// redirect, and repeats nothing of what it was answered.
//
// CloudWatch has numbers of events per minute. All minutes since the canary began
// are added up at each look, so that nothing has to be remembered.
package evidence
