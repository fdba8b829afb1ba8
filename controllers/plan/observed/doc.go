// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package observed holds what the operator observed of one FlagCache: the
// Snapshot that a plan is made from, the Index that answers questions about its
// children, and the names and metadata of those children. It is the lowest floor
// of the planner, and imports none of its other packages.
package observed
