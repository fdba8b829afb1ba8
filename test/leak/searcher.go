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

// Piece is how many bytes of a credential give it away: the search finds pieces of this
// length, because messages are cut and log lines show beginnings.
const Piece = 12

// Searcher finds values in texts.
type Searcher struct {
	// patterns are by the eight bytes by which they are recognized.
	patterns map[uint64][]pattern
	// filter has a bit for each key of patterns, to look up only few.
	filter [filterBits / 64]uint64
	known  map[string]bool
}

// filterBits is a power of two, far above the number of patterns of a run.
const filterBits = 1 << filterExponent
const filterExponent = 21

// pattern is a form of a value, or a piece of it around some bytes.
type pattern struct {
	form
	what string
	// at is where the bytes are in the text of the form, least how much of it must be found.
	at, least int
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

// Summary is a line for each secret that was found, with the first place.
func Summary(found []Finding) string {
	var lines []string
	seen := map[string]bool{}
	for _, f := range found {
		if !seen[f.What] {
			seen[f.What] = true
			lines = append(lines, f.String())
		}
	}
	return strings.Join(lines, "\n")
}

// NewSearcher returns a searcher that finds nothing yet.
func NewSearcher() *Searcher {
	return &Searcher{patterns: map[uint64][]pattern{}, known: map[string]bool{}}
}

// Add adds a value to search for, with a description, and the pieces of the credentials in
// it. It is an error if it is too short.
func (s *Searcher) Add(what, value string) error {
	if len(value) < Shortest {
		return fmt.Errorf("%s has %d bytes: give it at least %d, because a shorter value cannot be searched for", what, len(value), Shortest)
	}
	if s.known[value] {
		return nil
	}
	s.known[value] = true
	for _, f := range forms(value) {
		s.addPattern(pattern{form: f, what: what, least: len(f.text)})
	}
	for _, credential := range credentials(value) {
		for _, f := range forms(credential) {
			// Any piece of this length has one of these bytes.
			least := f.piece(Piece)
			for at := 0; at+Shortest <= len(f.text); at += least - Shortest + 1 {
				s.addPattern(pattern{form: f, what: "a piece of " + what, at: at, least: min(least, len(f.text))})
			}
		}
	}
	return nil
}

func (s *Searcher) addPattern(p pattern) {
	k := key(p.text[p.at:])
	s.patterns[k] = append(s.patterns[k], p)
	s.filter[bit(k)/64] |= 1 << (bit(k) % 64)
}

// bit is that of a key in the filter.
func bit(k uint64) uint64 { return k * 0x9E3779B97F4A7C15 >> (64 - filterExponent) }

// Len is the number of values.
func (s *Searcher) Len() int { return len(s.known) }

// Search returns what it finds in a text: each form of each value at most once.
func (s *Searcher) Search(where, text string) []Finding {
	const before = 60
	var found []Finding
	type reported struct{ what, form string }
	known := map[reported]bool{}
	for i := 0; i+Shortest <= len(text); i++ {
		k := key(text[i:])
		if s.filter[bit(k)/64]&(1<<(bit(k)%64)) == 0 {
			continue
		}
		for _, p := range s.patterns[k] {
			begin, end := p.around(text, i)
			if this := (reported{p.what, p.name}); end-begin >= p.least && !known[this] {
				known[this] = true
				found = append(found, Finding{What: p.what, Form: p.name, Where: where, Before: text[max(0, begin-before):begin]})
			}
		}
	}
	return found
}

// around is the part of a text, around its bytes at i, that is also around those of the
// pattern.
func (p pattern) around(text string, i int) (begin, end int) {
	begin, end = i, i
	for at := p.at; at > 0 && begin > 0 && p.text[at-1] == text[begin-1]; at-- {
		begin--
	}
	for at := p.at; at < len(p.text) && end < len(text) && p.text[at] == text[end]; at++ {
		end++
	}
	return begin, end
}

// key is the first eight bytes of a text.
func key(text string) uint64 {
	_ = text[7]
	return uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
		uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
}
