// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command service measures what an evaluation costs the flag service over HTTP,
// as a ratio to a bare net/http handler that answers the same bytes without
// looking at the request. It writes its part of docs/benchmarks.md.
//
//	core 0: flag-service │ bare handler        core 1: this program
//	        (one of them busy at a time)  ◀──  50 connections, one thread
//
// Each case is measured in rounds, the bare handler and the flag service one
// right after the other, so that whatever else the machine does hits both.
// The cost of a request is the server's CPU time (user and system, as the kernel
// accounts it) by the number of answers. The generator speaks raw HTTP/1.1 over
// epoll, so that it is never what limits the server.
//
// The program to measure is FLAG_SERVICE in the environment, as make sets it.
package main
