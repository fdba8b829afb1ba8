// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers is the imperative shell of the operator:
//
//	observe ──▶ plan.Make ──▶ apply ──▶ report
//
// It reads a snapshot of the cluster, plans, writes the planned objects, and patches
// the status once. All decisions are made by package plan. This package defines how
// objects are read and written: read from caches that hold FlagCaches' own objects
// only, written by server-side apply with one field manager, and not written at all
// if nothing would change.
package controllers
