// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// scanner reads JSON once, from the first byte to the last. It checks all of it
// and hands over the values that are wanted; nothing else is decoded.
type scanner struct {
	text  string
	at    int
	depth int
	// names are those of the objects that are being read, the innermost last.
	names []string
	into  *Context
	err   error
}

// keptNames is how many names there is room for from one request to the next.
const keptNames = 256

func (s *scanner) reset(text string, into *Context) {
	clear(s.names)
	names := s.names[:0]
	if cap(names) > keptNames {
		names = nil
	}
	*s = scanner{text: text, names: names, into: into}
}

// request reads a whole request; nothing at all is an empty one.
func (s *scanner) request(w *wanted) error {
	if !utf8.ValidString(s.text) {
		return fmt.Errorf("the body is not UTF-8")
	}
	s.space()
	if s.at == len(s.text) {
		return nil
	}
	if s.text[s.at] != '{' {
		return fmt.Errorf("the body must be a JSON object with a context")
	}
	if s.value(w) {
		if s.space(); s.at < len(s.text) {
			s.fail("something follows the body's end")
		}
	}
	return s.err
}

// fail notes the first thing that is wrong and returns false.
func (s *scanner) fail(what string) bool {
	if s.err == nil {
		s.err = fmt.Errorf("the body is not valid JSON: %s at byte %d", what, s.at)
	}
	return false
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek returns the byte that comes next, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// value reads a value; w is what is wanted of it, nil for nothing.
func (s *scanner) value(w *wanted) bool {
	switch s.peek() {
	case '"':
		return s.stringValue(w)
	case '{':
		return s.container(w, kindObject)
	case '[':
		return s.container(w, kindArray)
	case 't':
		return s.literal(w, "true", kindBool)
	case 'f':
		return s.literal(w, "false", kindBool)
	case 'n':
		return s.literal(w, "null", kindNull)
	default:
		return s.number(w)
	}
}

func (s *scanner) stringValue(w *wanted) bool {
	raw, escaped, ok := s.string()
	if !ok || w == nil {
		return ok
	}
	if escaped {
		raw = unescape(raw)
	}
	s.into.found(w.slot, attribute{kind: kindString, text: raw})
	return true
}

func (s *scanner) literal(w *wanted, literal string, kind kind) bool {
	if len(s.text)-s.at < len(literal) || s.text[s.at:s.at+len(literal)] != literal {
		return s.fail("an unknown word")
	}
	s.at += len(literal)
	if w != nil {
		s.into.found(w.slot, attribute{kind: kind, text: literal})
	}
	return true
}

// container reads an object or a list.
func (s *scanner) container(w *wanted, kind kind) bool {
	start := s.at
	// The body is one level around the context.
	if s.depth++; s.depth > maxContextNesting+1 {
		s.err = errNested
		return false
	}
	if kind == kindObject && !s.object(w) || kind == kindArray && !s.array() {
		return false
	}
	s.depth--
	if w == nil {
		return true
	}
	raw := s.text[start:s.at]
	s.into.found(w.slot, attribute{kind: kind, text: raw})
	if kind == kindArray && len(w.children) > 0 && w.slot != contextSlot {
		s.into.foundIn(decodeScanned(raw), w)
	}
	return true
}

func (s *scanner) array() bool {
	s.at++
	if s.space(); s.peek() == ']' {
		s.at++
		return true
	}
	for {
		if s.space(); !s.value(nil) {
			return false
		}
		if more, ok := s.more(']'); !more {
			return ok
		}
	}
}

// more reads what follows an element: a comma, or the end.
func (s *scanner) more(end byte) (more, ok bool) {
	s.space()
	switch s.peek() {
	case ',':
		s.at++
		return true, true
	case end:
		s.at++
		return false, true
	default:
		return false, s.fail("a comma or an end is missing")
	}
}

func (s *scanner) object(w *wanted) bool {
	s.at++
	if s.space(); s.peek() == '}' {
		s.at++
		return true
	}
	seen := nameSet{first: len(s.names)}
	for {
		name, ok := s.name()
		if !ok || !s.unique(&seen, name) {
			return false
		}
		var child *wanted
		if w != nil && len(w.children) > 0 {
			child = w.child(name)
		}
		if !s.value(child) {
			return false
		}
		if more, ok := s.more('}'); !more {
			clear(s.names[seen.first:])
			s.names = s.names[:seen.first]
			return ok
		}
	}
}

// name reads a member's name and the colon after it.
func (s *scanner) name() (name string, ok bool) {
	if s.space(); s.peek() != '"' {
		return "", s.fail("a name is missing")
	}
	name, escaped, ok := s.string()
	if !ok {
		return "", false
	}
	if escaped {
		name = unescape(name)
	}
	if s.space(); s.peek() != ':' {
		return "", s.fail("a colon is missing")
	}
	s.at++
	s.space()
	return name, true
}

// nameSet finds a name that an object has twice.
type nameSet struct {
	// first is where the object's names begin.
	first int
	// marks has a bit for the hash of each name: a name whose bit is not there is
	// new, and most are.
	marks uint64
	// many is used by objects with more names than marks can tell apart.
	many map[string]struct{}
}

// manyMembers is how many names it takes to fill a map with them.
const manyMembers = 48

func (s *scanner) unique(seen *nameSet, name string) bool {
	if seen.has(s.names, name) {
		return s.fail("a name that the object already has")
	}
	s.names = append(s.names, name)
	return true
}

func (n *nameSet) has(names []string, name string) bool {
	if n.many == nil && len(names)-n.first >= manyMembers {
		n.many = make(map[string]struct{}, 2*manyMembers)
		for _, other := range names[n.first:] {
			n.many[other] = struct{}{}
		}
	}
	if n.many != nil {
		_, twice := n.many[name]
		n.many[name] = struct{}{}
		return twice
	}
	mark := markOf(name)
	known := n.marks&mark != 0
	n.marks |= mark
	if known {
		for _, other := range names[n.first:] {
			if other == name {
				return true
			}
		}
	}
	return false
}

func markOf(name string) uint64 {
	if name == "" {
		return 1
	}
	return 1 << ((uint(name[0]) + 7*uint(name[len(name)/2]) + 13*uint(name[len(name)-1]) + 29*uint(len(name))) % 64)
}

// special marks the bytes at which a string does not simply go on.
var special = func() (table [256]bool) {
	for b := range ' ' {
		table[b] = true
	}
	table['"'], table['\\'] = true, true
	return table
}()

// string reads a string and returns what is between its quotes.
func (s *scanner) string() (raw string, escaped, ok bool) {
	s.at++
	start := s.at
	for i := start; i < len(s.text); i++ {
		b := s.text[i]
		if !special[b] {
			continue
		}
		if b == '"' {
			s.at = i + 1
			return s.text[start:i], escaped, true
		}
		s.at = i
		if b != '\\' {
			return "", false, s.fail("a control character in a string")
		}
		if !s.escape() {
			return "", false, false
		}
		escaped = true
		i = s.at - 1
	}
	s.at = len(s.text)
	return "", false, s.fail("the end inside a string")
}

// escape reads an escape sequence; a pair of surrogates counts as one.
func (s *scanner) escape() bool {
	s.at++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at++
		return true
	case 'u':
		s.at++
	default:
		return s.fail("an unknown escape sequence")
	}
	unit, ok := s.codeUnit()
	if !ok || unit < 0xD800 || unit > 0xDFFF {
		return ok
	}
	if unit >= 0xDC00 || s.peek() != '\\' || s.at+1 >= len(s.text) || s.text[s.at+1] != 'u' {
		return s.fail("half of a surrogate pair")
	}
	s.at += 2
	if unit, ok = s.codeUnit(); ok && (unit < 0xDC00 || unit > 0xDFFF) {
		return s.fail("half of a surrogate pair")
	}
	return ok
}

// codeUnit reads four hexadecimal digits.
func (s *scanner) codeUnit() (unit uint16, ok bool) {
	if len(s.text)-s.at < 4 {
		return 0, s.fail("a broken escape sequence")
	}
	for _, b := range []byte(s.text[s.at : s.at+4]) {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b && b <= 'f':
			b -= 'a' - 10
		case 'A' <= b && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, s.fail("a broken escape sequence")
		}
		unit = unit<<4 | uint16(b)
	}
	s.at += 4
	return unit, true
}

// unescape decodes what is between the quotes of a string that was read.
func unescape(raw string) string {
	var text string
	if err := json.Unmarshal([]byte(`"`+raw+`"`), &text); err != nil {
		return ""
	}
	return text
}

// surelyFinite is how many characters a number without an exponent may have to
// be within a float64 for sure.
const surelyFinite = 300

func (s *scanner) number(w *wanted) bool {
	start := s.at
	exponent, ok := s.digitsOfNumber()
	if !ok {
		return false
	}
	literal := s.text[start:s.at]
	if w == nil && !exponent && len(literal) <= surelyFinite {
		return true
	}
	value, err := strconv.ParseFloat(literal, 64)
	if err != nil || math.IsInf(value, 0) {
		return s.fail("a number that is too large")
	}
	if w != nil {
		s.into.found(w.slot, attribute{kind: kindNumber, text: literal, number: value})
	}
	return true
}

// digitsOfNumber reads a number as JSON has it.
func (s *scanner) digitsOfNumber() (exponent, ok bool) {
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return false, s.fail("an unexpected character or end")
	}
	if s.peek() == '.' {
		s.at++
		if !s.digits() {
			return false, s.fail("a number without its fraction")
		}
	}
	if s.peek()|0x20 != 'e' {
		return false, true
	}
	s.at++
	if sign := s.peek(); sign == '+' || sign == '-' {
		s.at++
	}
	if !s.digits() {
		return true, s.fail("a number without its exponent")
	}
	return true, true
}

// digits reads digits, one at least.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}
