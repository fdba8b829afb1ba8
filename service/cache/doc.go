// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cache shares the flags document among instances through Redis. It is
// never on the path of a request: whatever Redis does, evaluations go on.
//
// The document lies under feature_flags:{environment} with an expiry, in an
// envelope that says what it is:
//
//	flagcache/2 hmac-sha256 <hex> <epoch> <number> <length> feature_flags:production
//	{"flags": ...}
//
// A value counts only if it is, byte for byte, the envelope that we would make of
// its document for its key. Everything else is a miss and is deleted, by compare,
// so that a good value that came in between stays. With a key (see
// config.EnvCacheHMACKeyFile) nobody who can only write to Redis can pass off a
// document as ours; without one the envelope shows damage but not forgery. An older
// version (epoch, number) never replaces a newer one.
//
// A message on feature_flags_changed:{environment} follows every change. It says
// nothing but that it is time to look, and so does every (re)connection, because
// messages may have been missed before it.
//
// The client's own defaults would wait ten seconds on a network that swallows
// packets, ignore deadlines, retry behind our back and allocate whatever a reply
// announces. Here every wait is short, and retries are ours: three tries, 100 ms
// doubling to 2 s, to connect and to write. A failure, or 100 ms without an answer,
// opens a breaker; then Redis is asked once a second until it answers. A server that
// says READONLY, LOADING or MASTERDOWN is connected to anew, by name, because its
// successor may be there. Replies are checked before the client sees them. A change
// between working and not working is logged once.
//
// Redis may be one server, a primary that Sentinels name, or a cluster; with TLS, a
// password, an ACL user, or ElastiCache's tokens from AWS credentials. An ACL user
// needs
//
//	~feature_flags* &feature_flags_changed:* +@read +@write +@connection +@transaction +@pubsub
//
// and, in a cluster, +cluster|slots +cluster|shards +command.
package cache
