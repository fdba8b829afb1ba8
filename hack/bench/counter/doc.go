// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package counter counts the writes of a client to a Kubernetes API server, as a reverse
// proxy between the two:
//
//	client ──TLS──▶ Counter ──TLS──▶ API server
//	                   │
//	                   └──▶ Tally: the number of writes by kind
//
// The Counter supports HTTP/2, compression and watches as the API server does, so that it
// does not change the client's costs. It uses its own credentials for the API server; the
// client needs none.
package counter
