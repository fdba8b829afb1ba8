// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package access says who may ask, and how often.
//
// Keys are credentials in a directory, usually a mounted Secret: each file holds
// one token, and the file's name is the client's. The directory is read again
// when it changes, so that a client is let in or shut out without a restart. What
// cannot be read lets nobody in.
package access
