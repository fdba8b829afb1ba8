// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package query is the server's side of the AWS Query protocol
// (https://smithy.io/2.0/aws/protocols/aws-query-protocol.html): it decodes forms into the
// input types of the AWS SDK and encodes its output types as XML. The names on the wire
// are those of the SDK's fields.
package query
