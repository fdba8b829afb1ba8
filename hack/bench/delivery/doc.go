// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command delivery measures how long a change of flags takes from the write of the user's
// ConfigMap until every pod answers from it, and writes that to docs/benchmarks.md.
//
//	ConfigMap ──▶ operator ──▶ Redis, mounts ──▶ pods ──▶ event streams of all pods
//	    t0                                                        t1 of each pod
//
// It runs the operator, Redis and the pods on a local cluster, whose kubelet has the default
// timings of Kubernetes. Each pod is observed by an event stream, not by polling, and is
// then asked for all flags like a client would. It also measures changes while Redis is away, so
// that only the mounts bring them, and while the operator is killed, and counts the
// operator's writes in the audit log of the API server.
package main
