// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cri is a container runtime behind the kubelet's runtime interface in
// which a container is a process of this machine:
//
//	sandbox     a network namespace with an address on the node's bridge
//	image       an executable of this machine
//	container   a process with mount, PID, UTS and IPC namespaces of its own,
//	            whose root is a tmpfs with the executable and the system's
//	            libraries bound into it
//
// It enforces no limits, because it uses no cgroups, and does not isolate containers
// securely from the machine.
package cri
