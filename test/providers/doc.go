// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package providers runs the real providers of OpenFeature's JavaScript SDKs against the flag
// service: flagd's, which asks the service for each flag (rpc) or evaluates flags itself
// (in-process), and OFREP's for browsers, which is notified of changes. The npm packages are
// pinned in testdata/npm and installed by `make providers`.
package providers
