// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway is the way into a cluster's network, which is a network
// namespace that nothing else reaches. Unix sockets with a path do cross network
// namespaces, so a server inside listens on one and speaks HTTP CONNECT:
//
//	this machine                      the cluster's namespaces
//	---------------------             -------------------------------
//	curl -> 127.0.0.1:41873
//	           | kube forward
//	           +---------> net.sock -> Server -> name.ns.svc:8080
package gateway
