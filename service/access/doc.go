// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package access authenticates clients and limits their rates.
//
// Keys are credentials in a directory, usually a mounted Secret: each file
// contains one token and is named after its client. The directory is reloaded
// when it changes, so that a client is granted or denied access without a
// restart. If no token can be read, all requests are denied.
package access
