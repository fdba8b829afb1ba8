// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs FlagCache on a local cluster for the end-to-end tests, the demo
// and the benchmarks. The cluster is that of hack/kube: a real control plane and a real
// kubelet whose pods are processes on this machine.
//
//	Start ──▶ Deploy ──▶ Kubectl, Client      access for users and programs
//	  │                  Endpoint, Traffic    access for applications
//	  │                  Inventory            all objects of a namespace
//	  └─────▶ Stop
//
// Services are reachable from this machine by their DNS names, through the gateway of
// hack/kube (DIR/net.sock).
//
// A started cluster ends with the program, however it ends. A detached cluster runs
// until End.
package cluster
