// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package network builds the network of a node: a bridge in the node's network
// namespace, and a network namespace with an address on the bridge for each pod.
//
//	 pod 10.244.0.2      pod 10.244.0.3
//	   | veth              | veth
//	---+-------------------+---------- bridge 10.244.0.1 (node)
//	                                     |
//	                       local route 10.96.0.0/16: the node accepts what
//	                       is sent to the address of any Service
package network
