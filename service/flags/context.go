// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// maxContextNesting is the maximum nesting depth of a context.
const maxContextNesting = 64

// Context is the evaluation context of a request: the attributes of it that
// were read. It must not be used concurrently; the zero value is empty.
type Context struct {
	env
	scanner scanner
	// read lists the slots that have a value.
	read []int
}

var contexts = sync.Pool{New: func() any { return new(Context) }}

// NewContext returns an empty context from a pool. Release returns it to the
// pool.
func NewContext() *Context { return contexts.Get().(*Context) }

// Release clears the context and returns it to the pool. The context must not
// be used afterwards.
func (c *Context) Release() {
	c.reset()
	contexts.Put(c)
}

func (c *Context) reset() {
	for _, slot := range c.read {
		c.attributes[slot] = attribute{}
	}
	c.read = c.read[:0]
	c.context, c.decodedContext = attribute{}, nil
	c.scanner.reset("", nil)
}

// Read reads the given attributes from the context in an OFREP request's body.
// The whole body is validated: which bodies are accepted does not depend on the
// attributes.
//
// A body must be JSON that every parser reads the same way, in the sense of RFC
// 7493 (I-JSON): UTF-8 without a byte order mark, no duplicate names in an
// object, no unpaired surrogate, no number beyond a float64. Its context must
// be an object nested at most 64 levels deep. An absent body, an absent context
// and a null context are an empty context. An attribute $flagd is ignored,
// because the name is reserved. Everything else is an error, which never quotes
// the body.
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

// store stores a selected value.
func (c *Context) store(slot int, a attribute) {
	switch slot {
	case noSlot:
	case contextSlot:
		c.context = a
	default:
		c.attributes[slot] = a
		c.read = append(c.read, slot)
	}
}

// storeFrom stores the selected descendants of a decoded value.
func (c *Context) storeFrom(value any, n *pathNode) {
	for _, child := range n.children {
		value := descend(value, child.name)
		if value == nil {
			continue
		}
		if child.slot >= 0 {
			c.store(child.slot, attributeOf(value))
		}
		c.storeFrom(value, child)
	}
}

// attributeOf returns the attribute for a decoded value.
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

// onlyTargetingKey selects the targeting key alone.
var onlyTargetingKey = newAttributeIndex().attributes(&compiledRule{reads: map[int]struct{}{targetingKeySlot: {}}})

// TargetingKey returns the targeting key in an OFREP request's body. ok is
// false if there is no usable one: it is absent, empty or not a string, or Read
// rejects the body.
func TargetingKey(body []byte) (key string, ok bool) {
	c := NewContext()
	defer c.Release()
	if err := c.Read(string(body), onlyTargetingKey); err != nil {
		return "", false
	}
	key, ok = c.stringAt(targetingKeySlot)
	return strings.Clone(key), ok && key != ""
}
