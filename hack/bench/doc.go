// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the resource usage and the latency of the operator and writes
// them to docs/benchmarks.md. It starts two local clusters, one after the other.
//
// One with real pods measures how long a FlagCache takes to become Ready:
//
//	kubectl apply ──▶ API server ◀── counter ◀── operator
//	                      │        (both containers of one pod)
//	                      └──▶ kubelet: Redis and flag services, as processes
//
// One without a node measures the cost of many FlagCaches. kwok simulates the pods, so
// that only the operator is measured:
//
//	fleet of FlagCaches ──▶ API server ◀── counter ◀── operator, a local process
//	                            │                           │ probes
//	                          kwok                     one redis-server
//
// In both, the operator accesses the API server through a proxy that counts its writes.
// All processes end with the program, however it ends.
//
// The programs are taken from environment variables, which make sets: KUBE, MANAGER,
// FLAG_SERVICE and KWOK.
package main
