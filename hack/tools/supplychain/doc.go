// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package supplychain tests the scripts in hack/release with this module's commands: what
// they build, and what they would publish.
package supplychain
