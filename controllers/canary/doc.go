// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package canary decides how the trial of a candidate revision goes on. It is
// pure: what was counted and what the time is are in its input.
package canary
