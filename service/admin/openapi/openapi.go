// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openapi has the OpenAPI specification of the flag service.
package openapi

import _ "embed"

// Document is the OpenAPI document in YAML.
//
//go:embed openapi.yaml
var Document []byte
