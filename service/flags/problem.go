// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"fmt"
	"slices"
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
	// Served means that the flag is served nevertheless: only evaluations that
	// reach the part fail, or are not as intended.
	Served bool
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
	return fmt.Sprintf("flag %s: %s: %s", quote(p.Flag), p.Path, p.Message)
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

// place is a position in the structure of a document: a path from its root. It
// is rendered only for a problem, because places are many and keys may be long.
type place struct {
	parent *place
	// key is the key of an object's member; index counts the items of a list, -1 for
	// a member.
	key   string
	index int
}

// root returns the place of a member of the document.
func root(key string) *place { return (*place)(nil).member(key) }

// member returns the place of an object's member.
func (p *place) member(key string) *place { return &place{parent: p, key: key, index: -1} }

// item returns the place of an item of a list.
func (p *place) item(index int) *place { return &place{parent: p, index: index} }

// maxPath is the length from which the middle of a path is left out.
const maxPath = 1024

// String returns the path, such as flags.new-checkout.targeting.if[0].
func (p *place) String() string {
	var parts []string
	for ; p != nil; p = p.parent {
		parts = append(parts, p.text(p.parent == nil))
	}
	slices.Reverse(parts)
	path := strings.Join(parts, "")
	if len(path) <= maxPath {
		return path
	}
	const half = maxPath / 2
	return strings.ToValidUTF8(path[:half], "") + "…" + strings.ToValidUTF8(path[len(path)-half:], "")
}

func (p *place) text(first bool) string {
	switch {
	case p.index >= 0:
		return "[" + strconv.Itoa(p.index) + "]"
	case !isBareKey(p.key[:min(len(p.key), maxQuoted)]):
		return "[" + quote(p.key) + "]"
	case first:
		return shorten(p.key)
	default:
		return "." + shorten(p.key)
	}
}

// maxQuoted is the length to which text of a document is cut in a message. The
// same text may be part of many messages.
const maxQuoted = 128

// shorten cuts text.
func shorten(text string) string {
	if len(text) <= maxQuoted {
		return text
	}
	return strings.ToValidUTF8(text[:maxQuoted], "") + "…"
}

// quote quotes text for a message.
func quote(text string) string { return strconv.Quote(shorten(text)) }
