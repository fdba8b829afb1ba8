// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package leak finds secrets where they must not be. A Recording collects the values of
// all Secrets of a cluster while a test suite runs, and everything else that appears in
// its API: every version of every object, events included. A Searcher then looks for the
// values in that and in whatever else the run produced, such as logs and metrics, in all
// forms in which software writes a string.
//
//	recording, err := leak.Record(config)
//	...the suite...
//	found, err := recording.Search(texts)
package leak
