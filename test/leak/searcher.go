// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"fmt"
	"strings"
)

// Shortest is the length of the shortest value that can be searched for: shorter ones
// appear by chance.
const Shortest = 8

// Searcher finds values in texts.
type Searcher struct {
	// patterns are the forms of all values, by their first eight bytes.
	patterns map[uint64][]pattern
	known    map[string]bool
}

// pattern is a form of a value.
type pattern struct {
	form
	what string
}

// Finding is a secret in a text. It does not contain the secret.
type Finding struct {
	// What is the description of the secret.
	What string
	// Form is how it is written.
	Form string
	// Where is the description of the text.
	Where string
	// Before are the bytes before it.
	Before string
}

// String describes the finding.
func (f Finding) String() string {
	return fmt.Sprintf("%s, as %s, in %s after %q", f.What, f.Form, f.Where, f.Before)
}

// NewSearcher returns a searcher that finds nothing yet.
func NewSearcher() *Searcher {
	return &Searcher{patterns: map[uint64][]pattern{}, known: map[string]bool{}}
}

// Add adds a value to search for, with a description. It is an error if it is too short.
func (s *Searcher) Add(what, value string) error {
	if len(value) < Shortest {
		return fmt.Errorf("%s has %d bytes: give it at least %d, because a shorter value cannot be searched for", what, len(value), Shortest)
	}
	if s.known[value] {
		return nil
	}
	s.known[value] = true
	for _, f := range forms(value) {
		s.patterns[key(f.text)] = append(s.patterns[key(f.text)], pattern{f, what})
	}
	return nil
}

// Len is the number of values.
func (s *Searcher) Len() int { return len(s.known) }

// Search returns what it finds in a text: each form of each value at most once.
func (s *Searcher) Search(where, text string) []Finding {
	const before = 60
	var found []Finding
	reported := map[form]bool{}
	for i := 0; i+Shortest <= len(text); i++ {
		for _, p := range s.patterns[key(text[i:])] {
			if strings.HasPrefix(text[i:], p.text) && !reported[p.form] {
				reported[p.form] = true
				found = append(found, Finding{What: p.what, Form: p.name, Where: where, Before: text[max(0, i-before):i]})
			}
		}
	}
	return found
}

// key is the first eight bytes of a text.
func key(text string) uint64 {
	_ = text[7]
	return uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
		uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
}
