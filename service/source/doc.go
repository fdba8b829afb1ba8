// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package source reads flag documents from their source of truth. It returns
// bytes with a version and does not interpret them.
//
// File reads a file, Published a document with a number that the operator publishes in a
// ConfigMap. Package postgres reads a
// database.
package source
