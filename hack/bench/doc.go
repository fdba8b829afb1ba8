// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures what the operator costs, and writes it to
// docs/benchmarks.md. It starts two local clusters, one after the other.
//
// One with real pods tells how long a person waits:
//
//	kubectl apply ──▶ API server ◀── counter ◀── operator
//	                      │        (both containers of one pod)
//	                      └──▶ kubelet: Redis and flag services, as processes
//
// One without a node tells what many FlagCaches cost. kwok plays the pods, so
// that the operator is what is measured:
//
//	fleet of FlagCaches ──▶ API server ◀── counter ◀── operator, a process here
//	                            │                           │ probes
//	                          kwok                     one redis-server
//
// In both, the operator reaches the API server through a proxy that counts its
// writes. All that is started ends with the program, however that ends.
//
// The programs come from the environment, as make sets it: KUBE, MANAGER,
// FLAG_SERVICE, KWOK, and KWOK_STAGES, the folder of kwok's stages.
package main
