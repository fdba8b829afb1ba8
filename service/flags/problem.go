// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Problem is one thing that is wrong with one flag, or with a part that flags
// share ($evaluators, metadata), in which case Flag is empty.
type Problem struct {
	// Flag is the flag's key.
	Flag string
	// Path leads from the document's root to the place, such as
	// flags.new-checkout.targeting.if[0].
	Path string
	// Line and Column say where the place is in the document, both from 1.
	Line, Column int
	// Message is what is wrong, without the place.
	Message string
}

// String is the problem in one line:
//
//	flag "new-checkout": flags.new-checkout.defaultVariant: "blue" is not one of the variants (line 12, column 9)
func (p Problem) String() string {
	return fmt.Sprintf("%s (line %d, column %d)", p.Description(), p.Line, p.Column)
}

// Description is the problem without line and column.
func (p Problem) Description() string {
	if p.Flag == "" {
		return p.Path + ": " + p.Message
	}
	return fmt.Sprintf("flag %q: %s: %s", p.Flag, p.Path, p.Message)
}

// DocumentError says why a document as a whole is of no use.
type DocumentError struct {
	// Line and Column say where that shows, both from 1.
	Line, Column int
	// Message is what is wrong, without the place.
	Message string
}

// Error is the error in one line:
//
//	line 12, column 9: not valid JSON: unexpected end of JSON input
func (e *DocumentError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// isPlain says that a key needs no quotes in a path.
func isPlain(key string) bool {
	for _, r := range key {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune("_$@+:/-", r) {
			return false
		}
	}
	return key != ""
}

// under extends a path by a member's key.
func under(path, key string) string {
	switch {
	case !isPlain(key):
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

// at extends a path by a list's index.
func at(path string, index int) string {
	return path + "[" + strconv.Itoa(index) + "]"
}
