// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ackmodel predicts what ACK's controllers write to an object, and what AWS has afterwards.
// It has no clock, no client and no random numbers: the object, the state of the account and the
// time are the input.
//
//	object ─┐
//	account ├─▶ Controller.Sync ─▶ the next version of the object, the account, the next sync
//	time ───┘
package ackmodel
