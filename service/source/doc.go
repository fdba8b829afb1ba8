// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package source reads flag definitions from where they are kept. It delivers
// bytes with a version; what they mean is for others to say.
//
// File is a path: usually a ConfigMap that is mounted, or any file.
package source
