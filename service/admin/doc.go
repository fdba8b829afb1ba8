// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admin is the HTTP API for changing flags in PostgreSQL. It has its
// own listener, so that it is not exposed with OFREP.
//
//	request ─ authenticate, limit ─▶ operation ─▶ postgres.Store.EditFlag
//	                                               │ the current flag, locked
//	            If-Match, If-None-Match, patch, lint ◀┘
//	                                               │ commit
//	                                               ▼
//	                                           Redis is invalidated
//
// A flag's representation is its definition in flagd's format, as in a flags
// file. Its ETag changes with every change of the flag, and a change requires
// the ETag on which it is based (RFC 9110, 13.1.1; RFC 6585, 3), so that no
// client overwrites a change that it has not seen. Errors are problems as in RFC
// 9457; an invalid definition is rejected with the problems that flag-service
// lint reports.
//
// openapi/openapi.yaml describes all requests and responses. The API serves it.
package admin
