// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"fmt"
	"regexp"
	"strconv"
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
	place := fmt.Sprintf("%s: %s (line %d, column %d)", p.Path, p.Message, p.Line, p.Column)
	if p.Flag == "" {
		return place
	}
	return fmt.Sprintf("flag %q: %s", p.Flag, place)
}

// plainKey matches the keys that need no quotes in a path.
var plainKey = regexp.MustCompile(`^[\pL\pN_$@+:/-]+$`)

// under extends a path by a member's key.
func under(path, key string) string {
	switch {
	case !plainKey.MatchString(key):
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
