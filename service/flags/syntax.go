// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// CheckSyntax returns a *DocumentError for data that is not JSON. It names the
// mistakes that a JSON parser describes badly: a byte order mark, an encoding
// other than UTF-8, and YAML.
func CheckSyntax(data []byte) error {
	if err := checkSyntax(data, newPositions(data)); err != nil {
		return err
	}
	return nil
}

func checkSyntax(data []byte, at positions) *DocumentError {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return at.errorAt(0, "the document begins with a byte order mark (BOM): save it as UTF-8 without one")
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return at.errorAt(0, "the document is encoded as UTF-16: save it as UTF-8")
	}
	if offset := invalidUTF8(data); offset >= 0 {
		return at.errorAt(offset, "the document is not valid UTF-8")
	}
	var whole json.RawMessage
	err := json.Unmarshal(data, &whole)
	if err == nil {
		return nil
	}
	offset := 0
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = int(syntax.Offset) - 1
	}
	if looksLikeYAML.Match(data[:min(len(data), maxYAMLStart)]) {
		return at.errorAt(offset, "not valid JSON: %s; the document looks like YAML: convert it to JSON", err)
	}
	return at.errorAt(offset, "not valid JSON: %s", err)
}

// looksLikeYAML matches the start of a block in YAML, after comments.
var looksLikeYAML = regexp.MustCompile(`^(\s*#[^\n]*\n|\s*\n)*(---|%YAML|["']?[\w$.-]+["']?\s*:(\s|$)|- )`)

// maxYAMLStart is the number of bytes that are searched for YAML.
const maxYAMLStart = 4096

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// unpairedSurrogates returns the offsets of the escapes in valid JSON that are
// half of a surrogate pair. A parser replaces them by another character.
func unpairedSurrogates(data []byte) []int {
	var found []int
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		first := escaped(data[i:])
		if !utf16.IsSurrogate(first) {
			i++
			continue
		}
		if utf16.DecodeRune(first, escaped(data[i+6:])) == utf8.RuneError {
			found = append(found, i)
			i += 5
			continue
		}
		i += 11
	}
	return found
}

// escaped returns the code unit of an escape \uXXXX at the start of data, 0 if
// there is none.
func escaped(data []byte) rune {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0
	}
	unit, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(unit)
}
