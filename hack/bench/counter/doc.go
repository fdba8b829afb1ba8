// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package counter counts what a client writes to a Kubernetes API server, by
// standing between the two:
//
//	client ──TLS──▶ Counter ──TLS──▶ API server
//	                   │
//	                   └──▶ Tally: who wrote what how often
//
// The client speaks to it as to any API server, HTTP/2, compression and watches
// included, so that it costs the client what the real one costs. The Counter
// speaks to the API server with credentials of its own; the client needs none.
package counter
