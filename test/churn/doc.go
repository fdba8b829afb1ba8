// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package churn has no code of its own: its test runs the operator on a local cluster with
// many FlagCaches that are edited, deleted and created at random, while the operator, the API
// server and Redis are killed, and one of three tenants is hostile.
//
//	a baseline:  team-a, team-b                 random edits, and faults
//	hostile:     team-a, team-b, and hostile    the same edits and faults
//	afterwards:  hostile is deleted, the others settle, then all are deleted
//
// The hostile tenant has flags that cost much to validate, pods whose metrics never end or are
// of many tiny families, and canaries on a Prometheus that never responds. The others must
// become Ready in at most twice the time of the baseline; the operator must stay under the
// memory limit of its Deployment, return to the memory and the goroutines that it had before,
// and leave no objects behind.
//
// Most pods are simulated by kwok, on nodes beside the real one. Some FlagCaches, the operator,
// all Redis servers and the hostile pods are real.
//
// Environment variables set how much: CHURN_SECONDS is how long the edits last (60),
// CHURN_FLAGCACHES how many FlagCaches there are (30), CHURN_SEED replays the choice of edits
// and faults.
package churn
