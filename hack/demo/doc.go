// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows FlagCache on a local cluster, step by step. It verifies the outcome
// of each step and stops with an error at the first one that fails.
//
//	go run ./hack/demo                       a cache in the cluster, on a temporary cluster
//	go run ./hack/demo --cache=elasticache   a cache in a simulated ElastiCache, with ACK
//	go run ./hack/demo dev                   start a cluster in bin/dev and leave it running
//	go run ./hack/demo down                  stop that cluster
//
// The programs it runs are built by make (make demo, make dev, make dev-down).
//
// Redis is a real redis-server. If none is installed, an embedded server replaces it. The
// simulation of ElastiCache (test/awsplayer) requires the real one.
package main
