// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Problem describes one defect of a flag, or of a part that flags share
// ($evaluators, metadata), in which case Flag is empty.
type Problem struct {
	// Flag is the flag's key.
	Flag string
	// Path is the path from the document's root, such as
	// flags.new-checkout.targeting.if[0].
	Path string
	// Line and Column are the position in the document, both counted from 1.
	Line, Column int
	// Message describes the defect, without its position.
	Message string
}

// String returns the problem in one line:
//
//	flag "new-checkout": flags.new-checkout.defaultVariant: "blue" is not one of the variants (line 12, column 9)
func (p Problem) String() string {
	return fmt.Sprintf("%s (line %d, column %d)", p.Description(), p.Line, p.Column)
}

// Description returns the problem without line and column.
func (p Problem) Description() string {
	if p.Flag == "" {
		return p.Path + ": " + p.Message
	}
	return fmt.Sprintf("flag %q: %s: %s", p.Flag, p.Path, p.Message)
}

// DocumentError is returned for a document that is unusable as a whole.
type DocumentError struct {
	// Line and Column are the position of the error, both counted from 1.
	Line, Column int
	// Message describes the defect, without its position.
	Message string
}

// Error returns the error in one line:
//
//	line 12, column 9: not valid JSON: unexpected end of JSON input
func (e *DocumentError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// isBareKey reports whether a key needs no quotes in a path.
func isBareKey(key string) bool {
	for _, r := range key {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune("_$@+:/-", r) {
			return false
		}
	}
	return key != ""
}

// memberPath extends a path by the key of an object's member.
func memberPath(path, key string) string {
	switch {
	case !isBareKey(key):
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

// itemPath extends a path by an index into a list.
func itemPath(path string, index int) string {
	return path + "[" + strconv.Itoa(index) + "]"
}
