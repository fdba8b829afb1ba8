// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package stage is the short time between the start of a container's first
// process and the program of the container. The runtime starts this executable
// again in new mount, PID, UTS and IPC namespaces; the stage builds the file
// system, drops privileges, and executes the program:
//
//	runtime                          container
//	-------                          ---------
//	Launch(Spec) -- clone+exec --->  init of this package
//	                                 mounts, pivots, becomes the user
//	             <-- error or end--  exec of the program
//
// It runs during the initialization of Go packages, before those of Kubernetes, whose
// initialization takes a significant part of a second on a busy machine.
package stage
