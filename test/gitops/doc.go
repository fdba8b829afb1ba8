// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gitops evaluates the health of a FlagCache in each phase as Flux and Argo CD
// do: with Flux's libraries, and with Argo CD's health check in a sandbox like that of
// Argo CD. It is a module of its own, because Flux requires modules that nothing else
// needs.
package gitops
