// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway is a proxy into a cluster's network, which is an isolated network
// namespace. Unix sockets with a path work across network namespaces, so a server inside
// listens on one and supports HTTP CONNECT:
//
//	this machine                      the cluster's namespaces
//	---------------------             -------------------------------
//	curl -> 127.0.0.1:41873
//	           | kube forward
//	           +---------> net.sock -> Server -> name.ns.svc:8080
package gateway
