// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package evidence gathers in the background what pods report: the evidence of canaries,
// and which flags they serve.
//
//	Sampler    ──interval──▶ Sources ──type──▶ Pods, Prometheus, CloudWatch
//	Deliveries ──until all serve the document──▶ Pods
//
// A Sampler samples each watched canary at its interval and keeps the last sample; it
// makes no decisions. A sample is a set of streams: cumulative counters of one run of
// one process, or of one series of another source, so that their sum distinguishes a
// reset from a decrease and never counts an event twice. What cannot be read is
// absent, never zero.
//
// Pods are scraped directly: the addresses come from the API server, for pods that
// the operator's own Deployments created, at a fixed port and path. A FlagCache with
// this source cannot make the operator connect to anything else.
//
// Prometheus is queried for the same counters, which are reassembled into what each
// process exposed. Its address is chosen by the user, so the client refuses addresses
// of the operator's own machine, follows no redirects, and no text of a response is
// repeated.
//
// CloudWatch has the number of events per minute. Every sample adds up all minutes
// since the canary started, so that no state is kept between samples.
//
// Deliveries compare the digest of the document that each ready pod serves with that of
// the source. What a pod reports is only compared: no text of it is repeated.
package evidence
