// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"unicode/utf8"
)

// kind is the JSON type of a node.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// String returns the name of the kind with its article, for messages.
func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// node is a JSON value with its position in the document.
type node struct {
	kind   kind
	offset int
	// text is a string's value, a number's literal, or true or false.
	text    string
	items   []*node
	members []member
	// unpaired marks a string with half of a surrogate pair.
	unpaired bool
	// tooDeep marks a value that was skipped because it is nested too deeply.
	tooDeep bool
	// The following are computed once, because rules may share a node.
	folded, mentions memo
	possible         types
	decoded          *any
	strings          *map[string]struct{}
	result           *constantResult
}

// memo remembers the answer to a question.
type memo uint8

const (
	memoUnknown memo = iota
	memoYes
	memoNo
)

// get returns the answer, which is computed the first time.
func (m *memo) get(compute func() bool) bool {
	if *m == memoUnknown {
		*m = memoNo
		if compute() {
			*m = memoYes
		}
	}
	return *m == memoYes
}

// maxNesting is the maximum nesting depth of a document. It leaves room for
// MaxDepth operators, each an object with a list in it.
const maxNesting = 128

// member is one entry of an object, in document order; a duplicate key has two.
type member struct {
	key    string
	offset int
	value  *node
	// unpaired marks a key with half of a surrogate pair.
	unpaired bool
}

// member returns the value of key, or nil.
func (n *node) member(key string) *node {
	for i := range n.members {
		if n.members[i].key == key {
			return n.members[i].value
		}
	}
	return nil
}

// duplicate returns the first member whose key occurred before.
func (n *node) duplicate() (member, bool) {
	seen := make(map[string]struct{}, len(n.members))
	for _, m := range n.members {
		if _, twice := seen[m.key]; twice {
			return m, true
		}
		seen[m.key] = struct{}{}
	}
	return member{}, false
}

// number returns the value of a number node; ok is false if it is too large for
// a float64.
func (n *node) number() (value float64, ok bool) {
	value, err := strconv.ParseFloat(n.text, 64)
	return value, err == nil
}

// readTree parses a whole document. Its errors have a line and a column.
func readTree(data []byte, at positions) (*node, error) {
	if err := checkSyntax(data, at); err != nil {
		return nil, err
	}
	reader := treeReader{data: data, tokens: json.NewDecoder(bytes.NewReader(data)), unpaired: unpairedSurrogates(data)}
	reader.tokens.UseNumber()
	root, err := reader.value()
	if err != nil {
		return nil, at.errorAt(int(reader.tokens.InputOffset()), "not valid JSON: %s", err)
	}
	return root, nil
}

// treeReader builds nodes from the decoder's tokens. The document has been
// validated before, so that its nesting is within encoding/json's own limit.
type treeReader struct {
	data    []byte
	tokens  *json.Decoder
	nesting int
	// unpaired are the offsets of the unpaired surrogates that have not been read.
	unpaired []int
}

// readUnpaired reports whether the last token has an unpaired surrogate.
func (r *treeReader) readUnpaired() bool {
	end, found := int(r.tokens.InputOffset()), false
	for len(r.unpaired) > 0 && r.unpaired[0] < end {
		r.unpaired, found = r.unpaired[1:], true
	}
	return found
}

// next returns the next token and the offset at which it starts.
func (r *treeReader) next() (json.Token, int, error) {
	start := int(r.tokens.InputOffset())
	for start < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[start]) >= 0 {
		start++
	}
	token, err := r.tokens.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return token, start, err
}

func (r *treeReader) value() (*node, error) {
	token, offset, err := r.next()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		r.nesting++
		defer func() { r.nesting-- }()
		if r.nesting > maxNesting {
			return &node{kind: kindNull, offset: offset, tooDeep: true}, r.skip()
		}
		if token == '[' {
			return r.array(offset)
		}
		return r.object(offset)
	case string:
		return &node{kind: kindString, offset: offset, text: token, unpaired: r.readUnpaired()}, nil
	case json.Number:
		return &node{kind: kindNumber, offset: offset, text: token.String()}, nil
	case bool:
		return &node{kind: kindBool, offset: offset, text: strconv.FormatBool(token)}, nil
	default:
		return &node{kind: kindNull, offset: offset}, nil
	}
}

// skip reads to the end of the object or list that has just been opened.
func (r *treeReader) skip() error {
	for open := 1; open > 0; {
		token, err := r.tokens.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('['), json.Delim('{'):
			open++
		case json.Delim(']'), json.Delim('}'):
			open--
		}
	}
	return nil
}

func (r *treeReader) array(offset int) (*node, error) {
	n := &node{kind: kindArray, offset: offset}
	for r.tokens.More() {
		item, err := r.value()
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
	_, _, err := r.next()
	return n, err
}

func (r *treeReader) object(offset int) (*node, error) {
	n := &node{kind: kindObject, offset: offset}
	for r.tokens.More() {
		key, at, err := r.next()
		if err != nil {
			return nil, err
		}
		unpaired := r.readUnpaired()
		value, err := r.value()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		n.members = append(n.members, member{key: name, offset: at, value: value, unpaired: unpaired})
	}
	_, _, err := r.next()
	return n, err
}

// unpairedMessage describes the flaw of an unpaired surrogate, which would be
// served as another character.
const unpairedMessage = `the text has half of a surrogate pair, an escape between \ud800 and \udfff without its other half`

// flaw is a defect that makes a value invalid wherever it is used.
type flaw struct {
	path    *place
	offset  int
	message string
}

// flaws returns the defects of the node and its descendants: duplicate keys (it
// is unknown which one was meant), numbers beyond a float64, text that is not
// Unicode, and values that are nested too deeply.
func (n *node) flaws(path *place) []flaw {
	var found []flaw
	if m, twice := n.duplicate(); twice {
		found = append(found, flaw{path.member(m.key), m.offset, "duplicate key " + quote(m.key)})
	}
	if n.tooDeep {
		found = append(found, flaw{path, n.offset, "nested deeper than " + strconv.Itoa(maxNesting) + " levels"})
	}
	if n.kind == kindNumber {
		if _, ok := n.number(); !ok {
			found = append(found, flaw{path, n.offset, shorten(n.text) + " is out of range for a number"})
		}
	}
	if n.unpaired {
		found = append(found, flaw{path, n.offset, unpairedMessage})
	}
	for _, m := range n.members {
		if m.unpaired {
			found = append(found, flaw{path.member(m.key), m.offset, unpairedMessage})
		}
		found = append(found, m.value.flaws(path.member(m.key))...)
	}
	for i, item := range n.items {
		found = append(found, item.flaws(path.item(i))...)
	}
	return found
}

// positions converts offsets to lines and columns.
type positions struct {
	data []byte
	// starts holds the offset of each line's first byte.
	starts []int
	// runes holds the number of characters before each block of bytes, because a
	// document may be a single long line with many problems.
	runes []int
}

// blockSize is the maximum number of bytes that are counted for one position.
const blockSize = 1 << 10

func newPositions(data []byte) positions {
	p := positions{data: data, starts: []int{0}}
	runes := 0
	for i, b := range data {
		if i%blockSize == 0 {
			p.runes = append(p.runes, runes)
		}
		if utf8.RuneStart(b) {
			runes++
		}
		if b == '\n' {
			p.starts = append(p.starts, i+1)
		}
	}
	p.runes = append(p.runes, runes)
	return p
}

// lineColumn returns the line and the column, both counted from 1; a column
// counts characters.
func (p positions) lineColumn(offset int) (line, column int) {
	offset = max(0, min(offset, len(p.data)))
	line = sort.SearchInts(p.starts, offset+1)
	return line, p.runesBefore(offset) - p.runesBefore(p.starts[line-1]) + 1
}

func (p positions) runesBefore(offset int) int {
	block := offset / blockSize
	runes := p.runes[block]
	for _, b := range p.data[block*blockSize : offset] {
		if utf8.RuneStart(b) {
			runes++
		}
	}
	return runes
}

// errorAt returns a DocumentError at an offset.
func (p positions) errorAt(offset int, format string, values ...any) *DocumentError {
	line, column := p.lineColumn(offset)
	return &DocumentError{Line: line, Column: column, Message: fmt.Sprintf(format, values...)}
}

// goValue returns the value that encoding/json would decode the node to.
// Callers must not modify it.
func (n *node) goValue() any {
	if n.decoded == nil {
		value := n.decode()
		n.decoded = &value
	}
	return *n.decoded
}

func (n *node) decode() any {
	switch n.kind {
	case kindBool:
		return n.text == "true"
	case kindNumber:
		value, _ := n.number()
		return value
	case kindString:
		return n.text
	case kindArray:
		list := make([]any, 0, len(n.items))
		for _, item := range n.items {
			list = append(list, item.goValue())
		}
		return list
	case kindObject:
		object := make(map[string]any, len(n.members))
		for _, m := range n.members {
			object[m.key] = m.value.goValue()
		}
		return object
	default:
		return nil
	}
}

// stringSet returns the items of a list of strings, nil for any other node.
func (n *node) stringSet() map[string]struct{} {
	if n.strings == nil {
		texts := n.collectStrings()
		n.strings = &texts
	}
	return *n.strings
}

func (n *node) collectStrings() map[string]struct{} {
	if n.kind != kindArray {
		return nil
	}
	texts := make(map[string]struct{}, len(n.items))
	for _, item := range n.items {
		if item.kind != kindString {
			return nil
		}
		texts[item.text] = struct{}{}
	}
	return texts
}

// appendJSON appends the node as compact JSON, members in document order.
func (n *node) appendJSON(to []byte) []byte {
	switch n.kind {
	case kindBool:
		return append(to, n.text...)
	case kindNumber:
		return n.appendNumber(to)
	case kindString:
		return appendString(to, n.text)
	case kindArray:
		to = append(to, '[')
		for i, item := range n.items {
			if i > 0 {
				to = append(to, ',')
			}
			to = item.appendJSON(to)
		}
		return append(to, ']')
	case kindObject:
		to = append(to, '{')
		for i, m := range n.members {
			if i > 0 {
				to = append(to, ',')
			}
			to = append(appendString(to, m.key), ':')
			to = m.value.appendJSON(to)
		}
		return append(to, '}')
	default:
		return append(to, "null"...)
	}
}

// appendNumber writes 1.0 as 1, as flagd does, but keeps a number that a
// float64 cannot represent exactly.
func (n *node) appendNumber(to []byte) []byte {
	value, ok := n.number()
	if !ok || value > maxNumber || value < -maxNumber {
		return append(to, n.text...)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return append(to, n.text...)
	}
	return append(to, text...)
}

// appendString appends text as a JSON string, leaving <, > and & as they are.
func appendString(to []byte, text string) []byte {
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return append(to, `""`...)
	}
	return append(to, bytes.TrimRight(quoted.Bytes(), "\n")...)
}
