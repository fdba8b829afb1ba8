// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package service makes Services reachable: a proxy that listens on their
// addresses, and a DNS server that knows their names. Both read one table, which
// follows the API server:
//
//	informers -> Table -> changes -> Proxy: a listener for each port with endpoints
//	               |
//	               +---- names ----> DNS
//
// Every address of the range of Services is the node's own, so a port without a
// listener refuses connections, which is what a Service without ready endpoints
// does in any cluster.
package service
