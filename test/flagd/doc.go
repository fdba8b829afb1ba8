// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flagd compares the evaluation of flags with flagd itself, and the
// signatures of the operators with flagd's JSON schema. It is a module of its own,
// because flagd requires versions of modules that nothing else needs.
package flagd
