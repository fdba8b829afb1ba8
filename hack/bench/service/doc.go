// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command service measures the cost of flag evaluations over HTTP, relative to a bare
// net/http handler that responds with the same bytes and ignores the request. It writes
// its section of docs/benchmarks.md.
//
//	core 0: flag-service │ bare handler        core 1: this program
//	        (one of them at a time)       ◀──  50 connections, one thread
//
// Each case is measured in rounds, the bare handler and the flag service alternately, so
// that other load on the machine affects both. The cost of a request is the server's CPU
// time (user and system) divided by the number of responses. The load generator uses raw
// HTTP/1.1 over epoll, so that it is never the bottleneck.
//
// The environment variable FLAG_SERVICE, which make sets, names the program to measure.
package main
