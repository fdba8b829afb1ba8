// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows FlagCache at work on a local cluster. It tells each thing
// before it does it, shows what comes of it, and ends with an error as soon as
// something does not come true.
//
//	go run ./hack/demo                       the whole story, on a cluster that goes with it
//	go run ./hack/demo --cache=elasticache   another one, about a cache in ElastiCache
//	go run ./hack/demo dev                   the same cluster, left running in bin/dev
//	go run ./hack/demo down                  the end of that one
//
// The programs it runs are built by make (make demo, make dev, make dev-down).
//
// Redis is a real redis-server. Where there is none, an embedded server takes
// its place, and the demo says so. ACK and ElastiCache are played by test/ackplayer,
// which takes the real one.
package main
