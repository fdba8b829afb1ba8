// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cache shares the flags document among instances through Redis. It is
// never on the path of a request: evaluations do not depend on Redis.
//
// The document is stored under feature_flags:{environment} with a TTL, in an envelope: see
// package envelope. A value that is not an intact envelope is a miss and is deleted with a
// compare-and-delete, so that a valid value written in between is kept. With a key (see
// config.EnvCacheHMACKeyFile) a document cannot be forged with write access to Redis alone.
//
// Where no database confirms documents, the tag is the time at which the document was stored,
// "sealed-at:" with the seconds since 1970. One that is older than the TTL and a day, by which
// clocks may differ, is used only by an instance without any flags: whoever can write to Redis
// may have stored it again. Instances of an earlier release ignore that tag.
//
// The store and the tag identify the document in its source; the callers of Read
// use it only if the source has it. An older version (epoch, number) never replaces
// a newer one that the source may have, and a document never replaces that of
// another store. An envelope without store and tag, of an earlier release, is read,
// but no source confirms it.
//
// A message on feature_flags_changed:{environment} follows every change. It has
// no content: instances read the document after every message, and after every
// (re)connection, because messages may have been missed before it.
//
// By default the client would wait ten seconds on a network that drops packets,
// ignore deadlines, retry by itself and allocate whatever size a reply announces.
// Here every timeout is short, and this package retries: three attempts, 100 ms
// doubling to 2 s, to connect and to write. A failure, or 100 ms without a reply,
// opens a circuit breaker; then Redis is probed once per second until it replies.
// After READONLY, LOADING or MASTERDOWN the client reconnects by name, because
// another server may have taken over. Replies are validated before the client
// reads them. Each change between working and failing is logged once.
//
// Redis may be a single server, a primary found through Sentinels, or a cluster;
// with TLS, a password, an ACL user, or ElastiCache IAM authentication. An ACL
// user needs
//
//	~feature_flags* &feature_flags_changed:* +@read +@write +@connection +@transaction +@pubsub
//
// and, in a cluster, +cluster|slots +cluster|shards +command.
package cache
