// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ackmodel is a model of ACK's elasticache-controller 1.8 and of ElastiCache behind it. It
// has no clock, no client and no random numbers: the object, the state of the account and the time
// are the input of a sync.
//
//	object ─┐                    ┌─▶ the versions of the object that ACK writes
//	account ├─▶ Controller.Sync ─┼─▶ the calls to AWS, and the account after them
//	time ───┘                    └─▶ the time of the next sync
//
// The files reconcile.go and conditions.go follow ACK's runtime, which is the same for all kinds,
// and the files of the kinds follow the elasticache-controller. Their names are kept where it helps
// to compare. The recordings in test/acklives hold the model to the real controller.
//
// Not modelled are references to other objects, which FlagCache does not use, and the tags that ACK
// adds in AWS. SecurityGroups and MetricAlarms, whose controllers are others, are created at once,
// by calls that are named after the kind, and never updated.
package ackmodel
