// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package chaos has no code of its own: its tests take away what the flag service
// depends on, while clients send requests.
//
//	loadtest ──▶ flag-service ─┐                   ┌─▶ redis-server (TLS, password)
//	loadtest ──▶ flag-service ─┼─▶ fault proxies ─┤
//	loadtest ──▶ flag-service ─┘                   └─▶ PostgreSQL, the source of truth
//
// All of these are real processes. In a calm time the tests learn the answer to
// every question; with a fault each answer is compared with that. A flag called
// marker is changed while a fault lasts and after it is over: it shows how long a
// change takes to reach every instance.
//
// Environment variables set how much: CHAOS_SECONDS is how long each fault lasts (2),
// CHAOS_RATE how many requests a second each instance gets (150), CHAOS_SEED
// replays a storm.
package chaos
