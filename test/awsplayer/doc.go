// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package awsplayer plays AWS for ACK's elasticache-controller, in tests and the demo:
// it serves the Query APIs of ElastiCache (version 2015-02-02) and of STS on one HTTP
// endpoint, and starts a real redis-server for each node of a replication group.
//
//	elasticache-controller ──HTTP──▶ awsplayer ──▶ redis-server
//	--aws-endpoint-url=ENDPOINT                        ▲
//	--aws-identity-endpoint-url=ENDPOINT               │ endpoints in the answers
//	--allow-unsafe-aws-endpoint-urls            clients of the cache
//
// In a test's own process:
//
//	player, err := awsplayer.New(awsplayer.Options{Log: log})
//	go player.Start(ctx)          // returns when ctx ended and all servers are stopped
//	player.Endpoint()             // http://127.0.0.1:PORT, available since New
//
// Any credentials are accepted, but requests must be signed, for the player's region. The
// methods of Player change AWS behind the back of its clients (Failover, Cut,
// DeleteOutOfBand, Snapshotting), inject faults (Inject, ClearFaults) and report what
// happened (Calls, Groups, Snapshots). For a player in another process, such as
// test/awsplayer/cmd in a pod, Control serves them over HTTP.
//
// An action that is not played is answered with InvalidAction, and a parameter that is
// not played with InvalidParameterValue; neither is ignored.
//
// Not played: groups of more than one shard, caches without a replication group,
// serverless caches, log delivery, more than one region, the data of snapshots, changes
// of encryption in transit, the verification of signatures, and that of users of type
// iam, who are accepted with any password.
package awsplayer
