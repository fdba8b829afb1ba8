// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs FlagCache on a Kubernetes of its own, for the demo and
// the end-to-end tests. The cluster is the one of hack/kube: a real control
// plane and a real kubelet, whose pods are processes of this machine.
//
//	Start ──▶ Deploy ──▶ Kubectl, Client: what a person and a program do
//	  │                  Endpoint, Traffic: what applications do
//	  │                  Inventory: what is there
//	  └─────▶ Stop: nothing of it is left
//
// Programs of this machine reach Services by their names in the cluster, through
// the gateway that hack/kube opens (DIR/net.sock).
//
// A cluster that was started ends with the program, however the program ends. One
// that was detached stays until End.
package cluster
