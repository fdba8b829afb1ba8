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

// scanner reads JSON once, from the first byte to the last. It validates all of
// it and stores the selected values; nothing else is decoded.
type scanner struct {
	text  string
	at    int
	depth int
	// names are the member names of the objects being read, the innermost object's
	// last.
	names []string
	into  *Context
	err   error
}

// maxPooledNames is the capacity of names that is kept between requests.
const maxPooledNames = 256

func (s *scanner) reset(text string, into *Context) {
	clear(s.names)
	names := s.names[:0]
	if cap(names) > maxPooledNames {
		names = nil
	}
	*s = scanner{text: text, names: names, into: into}
}

// request reads a whole request body; an empty body is an empty request.
func (s *scanner) request(n *pathNode) error {
	if !utf8.ValidString(s.text) {
		return fmt.Errorf("the body is not valid UTF-8")
	}
	s.space()
	if s.at == len(s.text) {
		return nil
	}
	if s.text[s.at] != '{' {
		return fmt.Errorf("the body must be a JSON object with a context")
	}
	if s.value(n) {
		if s.space(); s.at < len(s.text) {
			s.fail("data after the top-level value")
		}
	}
	return s.err
}

// fail records the first error and returns false.
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

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// value reads a value; n is the selected path at the value, nil if nothing at
// or below it is selected.
func (s *scanner) value(n *pathNode) bool {
	switch s.peek() {
	case '"':
		return s.stringValue(n)
	case '{':
		return s.container(n, kindObject)
	case '[':
		return s.container(n, kindArray)
	case 't':
		return s.literal(n, "true", kindBool)
	case 'f':
		return s.literal(n, "false", kindBool)
	case 'n':
		return s.literal(n, "null", kindNull)
	default:
		return s.number(n)
	}
}

func (s *scanner) stringValue(n *pathNode) bool {
	raw, escaped, ok := s.string()
	if !ok || n == nil {
		return ok
	}
	if escaped {
		raw = unescape(raw)
	}
	s.into.store(n.slot, attribute{kind: kindString, text: raw})
	return true
}

func (s *scanner) literal(n *pathNode, literal string, kind kind) bool {
	if len(s.text)-s.at < len(literal) || s.text[s.at:s.at+len(literal)] != literal {
		return s.fail("unknown literal")
	}
	s.at += len(literal)
	if n != nil {
		s.into.store(n.slot, attribute{kind: kind, text: literal})
	}
	return true
}

// container reads an object or a list.
func (s *scanner) container(n *pathNode, kind kind) bool {
	start := s.at
	// The body itself adds one level around the context.
	if s.depth++; s.depth > maxContextNesting+1 {
		s.err = errNested
		return false
	}
	if kind == kindObject && !s.object(n) || kind == kindArray && !s.array() {
		return false
	}
	s.depth--
	if n == nil {
		return true
	}
	raw := s.text[start:s.at]
	s.into.store(n.slot, attribute{kind: kind, text: raw})
	if kind == kindArray && len(n.children) > 0 && n.slot != contextSlot {
		s.into.storeFrom(decodeScanned(raw), n)
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

// more reads the separator after an element: a comma, or the end.
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
		return false, s.fail("missing comma or closing bracket")
	}
}

func (s *scanner) object(n *pathNode) bool {
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
		var child *pathNode
		if n != nil && len(n.children) > 0 {
			child = n.child(name)
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
		return "", s.fail("missing member name")
	}
	name, escaped, ok := s.string()
	if !ok {
		return "", false
	}
	if escaped {
		name = unescape(name)
	}
	if s.space(); s.peek() != ':' {
		return "", s.fail("missing colon")
	}
	s.at++
	s.space()
	return name, true
}

// nameSet detects duplicate names in an object.
type nameSet struct {
	// first is the index of the object's first name.
	first int
	// bloom has a bit for the hash of each name: a name whose bit is unset is new,
	// which is the usual case.
	bloom uint64
	// all is used by objects with too many names for bloom.
	all map[string]struct{}
}

// maxBloomNames is the number of names above which a map is used.
const maxBloomNames = 48

func (s *scanner) unique(seen *nameSet, name string) bool {
	if seen.has(s.names, name) {
		return s.fail("duplicate member name")
	}
	s.names = append(s.names, name)
	return true
}

func (n *nameSet) has(names []string, name string) bool {
	if n.all == nil && len(names)-n.first >= maxBloomNames {
		n.all = make(map[string]struct{}, 2*maxBloomNames)
		for _, other := range names[n.first:] {
			n.all[other] = struct{}{}
		}
	}
	if n.all != nil {
		_, twice := n.all[name]
		n.all[name] = struct{}{}
		return twice
	}
	mark := bloomBit(name)
	known := n.bloom&mark != 0
	n.bloom |= mark
	if known {
		for _, other := range names[n.first:] {
			if other == name {
				return true
			}
		}
	}
	return false
}

func bloomBit(name string) uint64 {
	if name == "" {
		return 1
	}
	return 1 << ((uint(name[0]) + 7*uint(name[len(name)/2]) + 13*uint(name[len(name)-1]) + 29*uint(len(name))) % 64)
}

// special marks the bytes that need attention within a string: quotes,
// backslashes and control characters.
var special = func() (table [256]bool) {
	for b := range ' ' {
		table[b] = true
	}
	table['"'], table['\\'] = true, true
	return table
}()

// string reads a string and returns the raw text between its quotes.
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
			return "", false, s.fail("control character in a string")
		}
		if !s.escape() {
			return "", false, false
		}
		escaped = true
		i = s.at - 1
	}
	s.at = len(s.text)
	return "", false, s.fail("unterminated string")
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
		return s.fail("unknown escape sequence")
	}
	unit, ok := s.codeUnit()
	if !ok || unit < 0xD800 || unit > 0xDFFF {
		return ok
	}
	if unit >= 0xDC00 || s.peek() != '\\' || s.at+1 >= len(s.text) || s.text[s.at+1] != 'u' {
		return s.fail("unpaired surrogate")
	}
	s.at += 2
	if unit, ok = s.codeUnit(); ok && (unit < 0xDC00 || unit > 0xDFFF) {
		return s.fail("unpaired surrogate")
	}
	return ok
}

// codeUnit reads four hexadecimal digits.
func (s *scanner) codeUnit() (unit uint16, ok bool) {
	if len(s.text)-s.at < 4 {
		return 0, s.fail("invalid escape sequence")
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
			return 0, s.fail("invalid escape sequence")
		}
		unit = unit<<4 | uint16(b)
	}
	s.at += 4
	return unit, true
}

// unescape decodes the raw text of a validated string.
func unescape(raw string) string {
	var text string
	if err := json.Unmarshal([]byte(`"`+raw+`"`), &text); err != nil {
		return ""
	}
	return text
}

// maxFiniteDigits is the length up to which a number without an exponent is
// certain to be finite as a float64.
const maxFiniteDigits = 300

func (s *scanner) number(n *pathNode) bool {
	start := s.at
	exponent, ok := s.numberLiteral()
	if !ok {
		return false
	}
	literal := s.text[start:s.at]
	if n == nil && !exponent && len(literal) <= maxFiniteDigits {
		return true
	}
	value, err := strconv.ParseFloat(literal, 64)
	if err != nil || math.IsInf(value, 0) {
		return s.fail("number out of range")
	}
	if n != nil {
		s.into.store(n.slot, attribute{kind: kindNumber, text: literal, number: value})
	}
	return true
}

// numberLiteral reads the characters of a JSON number.
func (s *scanner) numberLiteral() (exponent, ok bool) {
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return false, s.fail("unexpected character or end of input")
	}
	if s.peek() == '.' {
		s.at++
		if !s.digits() {
			return false, s.fail("missing digits after the decimal point")
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
		return true, s.fail("missing digits in the exponent")
	}
	return true, true
}

// digits reads one or more digits.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}
