// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admin is the HTTP API by which flags in PostgreSQL are changed. It has
// a listener of its own, so that it is never exposed along with OFREP.
//
//	request ─ who? ─ how often? ─▶ operation ─▶ postgres.Store.EditFlag
//	                                               │ the flag as it is, locked
//	            If-Match, If-None-Match, patch, lint ◀┘
//	                                               │ commit
//	                                               ▼
//	                                           Redis is told
//
// A flag's representation is its definition in flagd's format, as it is in a
// flags file. Its ETag changes with each change of it, and a change has to name
// the ETag that it was made from (RFC 9110, 13.1.1; RFC 6585, 3), so that nobody
// overwrites what he has not seen. Errors are problems as in RFC 9457; a definition
// is refused with what flag-service lint says about it.
//
// openapi/openapi.yaml describes every request and answer, and is served.
package admin
