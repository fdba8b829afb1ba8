// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// maxContextNesting is how deep a context may be nested.
const maxContextNesting = 64

// Context is what a caller says about the subject of evaluations, as far as it
// was read. It is used by one goroutine at a time; the zero value has nothing in
// it.
type Context struct {
	env
	scanner scanner
	// read lists the slots that have a value.
	read []int
}

var contexts = sync.Pool{New: func() any { return new(Context) }}

// NewContext returns a context without anything in it. Release gives it back.
func NewContext() *Context { return contexts.Get().(*Context) }

// Release gives the context back, without what it referred to. It must not be
// used any more.
func (c *Context) Release() {
	c.reset()
	contexts.Put(c)
}

func (c *Context) reset() {
	for _, slot := range c.read {
		c.attributes[slot] = attribute{}
	}
	c.read = c.read[:0]
	c.context, c.whole = attribute{}, nil
	c.scanner.reset("", nil)
}

// Read reads the given attributes of the context in an OFREP request's body, all
// of which is checked: what is accepted does not depend on the attributes.
//
// A body is JSON that every parser reads the same way, in the sense of RFC 7493
// (I-JSON): UTF-8 without a byte order mark, no name twice in an object, no half
// of a surrogate pair, no number beyond a float64; and its context is an object
// nested at most 64 levels deep. A body or a context that is not there, or a
// context of null, is an empty context. An attribute $flagd does not count, it is
// ours. Everything else is an error, which never quotes the body.
func (c *Context) Read(body string, attributes *Attributes) error {
	c.reset()
	if len(c.attributes) < attributes.slots {
		c.attributes = make([]attribute, attributes.slots)
	}
	c.scanner.reset(body, c)
	if err := c.scanner.request(attributes.request); err != nil {
		c.reset()
		return err
	}
	if c.context.kind != kindObject && c.context.kind != kindNull {
		c.reset()
		return errContextNotObject
	}
	return nil
}

var (
	errContextNotObject = errors.New("the context is not an object")
	errNested           = fmt.Errorf("the context is nested deeper than %d levels", maxContextNesting)
)

// found takes a value that was wanted.
func (c *Context) found(slot int, a attribute) {
	switch slot {
	case noSlot:
	case contextSlot:
		c.context = a
	default:
		c.attributes[slot] = a
		c.read = append(c.read, slot)
	}
}

// foundIn takes what is wanted of a value that was decoded.
func (c *Context) foundIn(value any, w *wanted) {
	for _, child := range w.children {
		value := step(value, child.name)
		if value == nil {
			continue
		}
		if child.slot >= 0 {
			c.found(child.slot, attributeOf(value))
		}
		c.foundIn(value, child)
	}
}

// attributeOf is the attribute for a value that was decoded.
func attributeOf(value any) attribute {
	a := attribute{value: value}
	switch v := value.(type) {
	case string:
		a.kind, a.text = kindString, v
	case float64:
		a.kind, a.number = kindNumber, v
	case bool:
		a.kind = kindBool
	case []any:
		a.kind = kindArray
	case map[string]any:
		a.kind = kindObject
	}
	return a
}

// onlyTargetingKey are the attributes for TargetingKey.
var onlyTargetingKey = newPlaces().attributes(&compiledRule{reads: map[int]struct{}{targetingKeySlot: {}}})

// TargetingKey returns the targeting key in an OFREP request's body. ok is false
// where there is none that tells callers apart: it is absent, empty or no text,
// or the body is one that Read refuses.
func TargetingKey(body []byte) (key string, ok bool) {
	c := NewContext()
	defer c.Release()
	if err := c.Read(string(body), onlyTargetingKey); err != nil {
		return "", false
	}
	key, ok = c.textIn(targetingKeySlot)
	return strings.Clone(key), ok && key != ""
}
