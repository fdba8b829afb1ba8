// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openapi holds the description of the flag service's HTTP interfaces.
package openapi

import _ "embed"

// Document is the OpenAPI document in YAML.
//
//go:embed openapi.yaml
var Document []byte
