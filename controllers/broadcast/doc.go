// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package broadcast writes published flags to the Redis of FlagCaches, so that pods have them
// long before their kubelets update the mount.
//
//	ConfigMap of published flags, as observed ──plan──▶ Target ──▶ Broadcaster ──▶ Redis, message ──▶ pods
//
// It uses the connection that the prober uses, and only while probes of exactly that connection
// succeed. The document is in the envelope that pods write, with the same transaction: an older
// number never replaces a newer one, and the document of another store is left alone. Values that
// are none of the FlagCache's documents are left alone, too: the operator may reach servers that
// the author of a FlagCache does not.
//
// A document is written once. A Broadcaster that has forgotten that, as after a restart, reads
// what Redis has, and writes nothing. A write that fails is repeated with back-off, and affects
// nothing else: the mount brings the document, too.
//
// Servers belong to tenants and may be slow, silent or hostile: see package background. What they
// send is checked before it is read, and no text of it is repeated.
package broadcast
