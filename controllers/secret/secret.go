// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package secret has the type of values that must not be shown. The operator holds the
// passwords, tokens and keys of Secrets in it, so that a log line, an error or a record of
// a struct that contains one shows stars. To use a value it is revealed, where one can see
// it.
package secret

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// String is a string that is printed, encoded and logged as "***". Two are equal if their
// values are. The value is behind a handle, because fmt prints unexported fields without
// the methods of their types: of these it shows an address.
type String struct{ handle unique.Handle[string] }

const masked = "***"

// New returns a String with a value.
func New(value string) String {
	if value == "" {
		return String{}
	}
	return String{unique.Make(value)}
}

// Reveal returns the value.
func (s String) Reveal() string {
	if s.IsEmpty() {
		return ""
	}
	return s.handle.Value()
}

// IsEmpty reports whether the value is "".
func (s String) IsEmpty() bool { return s == String{} }

// Equal reports whether two values are equal, for packages that do not compare with ==.
func (s String) Equal(other String) bool { return s == other }

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
