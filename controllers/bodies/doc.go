// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bodies reads Secrets and ConfigMaps, of which informers cache only metadata.
//
//	informer ── metadata ──▶ UID and resourceVersion ──▶ kept body, or a read by name
//
// Anybody may label a Secret of 1 MiB so that an informer selects it, and very many of
// them. Only those that a FlagCache uses are read, by name from the API server, once for
// each resourceVersion, and the bodies that are kept have a limit in bytes.
package bodies
