// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package envelope has the form in which a document of flags is in Redis, and the
// transaction that writes it. The flag service and the operator share it: there is one format.
//
//	flagcache/3 hmac-sha256 <hex> <epoch> <number> <length> =<store> =<tag> feature_flags:production
//	{"flags": ...}
//
// A value is accepted only if it is, byte for byte, the envelope that Seal would produce for its
// document and key. With a key a document cannot be forged with write access to Redis alone;
// without one the envelope detects corruption but not forgery.
//
// An older version (epoch, number) never replaces a newer one of the same store, and a document
// never replaces that of another store: Slot.Put compares in a transaction that fails after a
// concurrent write.
package envelope
