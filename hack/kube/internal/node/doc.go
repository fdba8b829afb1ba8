// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package node is the node of a cluster in one process: the real kubelet with the
// process runtime, the proxy of Services, the cluster's DNS, and the gateway.
package node
