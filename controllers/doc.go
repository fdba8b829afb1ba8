// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers is the imperative shell of the operator. It reads the
// world into a plan.Snapshot, asks plan.Make what to do, does it, and reports
// once:
//
//	observe ──▶ plan.Make ──▶ apply ──▶ report
//
// Every decision is plan's. What is here is how things are read and written:
// from caches that hold only what is FlagCache's, by server-side apply under
// one field manager, and not at all when nothing would change.
package controllers
