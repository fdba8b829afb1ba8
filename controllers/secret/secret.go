// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package secret has the type of values that must not be shown. The operator holds the
// passwords, tokens and keys of Secrets in it, so that a log line, an error or a record of
// a struct that contains one shows stars. To use a value it is converted to a string,
// where one can see it.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// String is a string that is printed, encoded and logged as "***", except as the key of a
// map: encoders write those as they are.
type String string

const masked = "***"

// String implements fmt.Stringer.
func (String) String() string { return masked }

// GoString implements fmt.GoStringer.
func (String) GoString() string { return masked }

// Format implements fmt.Formatter, for verbs that do not use String (%x, %d).
func (String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

// MarshalJSON implements json.Marshaler.
func (String) MarshalJSON() ([]byte, error) { return []byte(`"` + masked + `"`), nil }

// MarshalText implements encoding.TextMarshaler, for encoders other than JSON.
func (String) MarshalText() ([]byte, error) { return []byte(masked), nil }

// LogValue implements slog.LogValuer.
func (String) LogValue() slog.Value { return slog.StringValue(masked) }
