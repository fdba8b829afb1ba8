// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"strconv"
	"strings"
)

// flagdKey is the attribute with the flag's key and the time; flagdTimestamp is
// in Unix seconds.
const (
	flagdKey       = "$flagd"
	flagdFlagKey   = "flagKey"
	flagdTimestamp = "timestamp"
	targetingKey   = "targetingKey"
)

var errNotPath = errors.New("the name of a variable must be a string")

// variable compiles {"var": args}. In the body of an iteration it may be looked
// up in several frames; the first value found is used.
func (c *compiler) variable(args *node, s scope, path *place) rule {
	name, _, _ := constantName(args)
	if !c.count(lookupSize(name, len(s.outer))-1, args, s, path) {
		return failing("the rule exceeds its limits")
	}
	var lookups []rule
	for _, frame := range c.substituted(args, s) {
		lookups = append(lookups, c.variableIn(args, s.only(frame), path))
	}
	lookups = append(lookups, c.variableIn(args, s.only(s.current), path))
	return firstFound(lookups)
}

// substituted returns the frames from which the library substitutes the
// variable before it evaluates the body. Names that are empty or start with a
// dot always refer to the element.
func (c *compiler) substituted(args *node, s scope) []int {
	if args.kind == kindString && (args.text == "" || strings.HasPrefix(args.text, ".")) {
		return nil
	}
	return s.outer
}

// substitution compiles the lookup in the surrounding frames alone; it returns
// nil if there are none.
func (c *compiler) substitution(n *node, s scope, path *place) rule {
	if n.kind != kindObject || len(n.members) != 1 || n.members[0].key != "var" {
		return nil
	}
	args := n.members[0].value
	var lookups []rule
	for _, frame := range c.substituted(args, s) {
		lookups = append(lookups, c.variableIn(args, s.only(frame), path))
	}
	if lookups == nil {
		return nil
	}
	return firstFound(lookups)
}

func firstFound(lookups []rule) rule {
	if len(lookups) == 1 {
		return lookups[0]
	}
	return func(e *env) any {
		for _, lookup := range lookups {
			if value := lookup(e); value != nil {
				return value
			}
		}
		return nil
	}
}

// variableIn compiles a lookup in the scope's current frame.
func (c *compiler) variableIn(args *node, s scope, path *place) rule {
	name, fallback, fixed := constantName(args)
	if !fixed {
		return c.computedVariable(args, s, path)
	}
	read := c.reader(name, s.current)
	if fallback == nil {
		return read
	}
	return withDefault(read, c.value(fallback, s, path.item(1)))
}

// reader compiles the lookup of a name in a frame.
func (c *compiler) reader(name string, frame int) rule {
	parts := splitPath(name)
	switch {
	case frame > 0:
		return func(e *env) any { return e.follow(e.frames[frame], parts) }
	case len(parts) == 0:
		c.readAll(true)
		return func(e *env) any { return e.frames[0] }
	case parts[0] == flagdKey:
		return c.flagdReader(parts[1:])
	default:
		slot := c.slot(parts...)
		return func(e *env) any { return e.attribute(slot) }
	}
}

// flagdReader compiles a lookup in $flagd.
func (c *compiler) flagdReader(parts []string) rule {
	name := strings.Join(parts, ".")
	if name == flagdFlagKey {
		return func(e *env) any { return e.flagKey }
	}
	c.rule.readsTime = true
	if name == flagdTimestamp {
		return func(e *env) any { return float64(e.now) }
	}
	return func(e *env) any { return e.follow(e.flagd(), parts) }
}

// constantName returns the name in {"var": ...} if it is constant, and the node
// of its default.
func constantName(args *node) (name string, fallback *node, ok bool) {
	switch args.kind {
	case kindString:
		return args.text, nil, true
	case kindNumber:
		value, _ := args.number()
		return strconv.FormatFloat(value, 'f', -1, 64), nil, true
	case kindArray:
		if len(args.items) == 0 || args.items[0].kind != kindString {
			return "", nil, false
		}
		if len(args.items) == 1 {
			return args.items[0].text, nil, true
		}
		return args.items[0].text, args.items[1], len(args.items) == 2
	default:
		return "", nil, false
	}
}

// splitPath returns the parts of a dotted name without empty ones.
func splitPath(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '.' })
}

// withDefault adds a default to a lookup. As in the library the default is
// evaluated first, because its failure counts.
func withDefault(read, defaultValue rule) rule {
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		fallback := defaultValue(e)
		if value := read(e); value != nil {
			return value
		}
		return fallback
	}
}

// follow follows a path into data; it returns nil if there is nothing.
func (e *env) follow(data any, parts []string) any {
	if len(parts) > 0 && !e.spend(len(parts)) {
		return nil
	}
	for _, part := range parts {
		data = descend(data, part)
	}
	return data
}

// computedVariable compiles a lookup whose name is only known at run time.
func (c *compiler) computedVariable(args *node, s scope, path *place) rule {
	if s.current == 0 {
		c.readAll(true)
	}
	frame, name := s.current, c.value(args, s, path)
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		return e.variable(name(e), e.frames[frame])
	}
}

// variable looks up a variable by the evaluated arguments of var: null or an
// empty string is the data itself, a list is a name and a default.
func (e *env) variable(args, data any) any {
	var name, fallback any = args, nil
	switch v := args.(type) {
	case nil:
		switch data.(type) {
		case bool, string, float64, int:
			return data
		default:
			return nil
		}
	case float64, int:
		name = e.text(v)
	case []any:
		if len(v) == 0 {
			return data
		}
		if len(v) == 2 {
			fallback = v[1]
		}
		if _, ok := v[0].(string); !ok {
			return e.fail(errNotPath)
		}
		name = v[0]
	}
	return e.named(name, data, fallback)
}

func (e *env) named(name, data, fallback any) any {
	if data == nil {
		return fallback
	}
	text, ok := name.(string)
	if !ok {
		return e.fail(errNotPath)
	}
	if !e.spendText(text) {
		return nil
	}
	if value := e.follow(data, splitPath(text)); value != nil {
		return value
	}
	return fallback
}
