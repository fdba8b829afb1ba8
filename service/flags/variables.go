// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"strconv"
	"strings"
)

// flagdKey is where a rule finds the flag's key and the time; flagdTimestamp is
// in Unix seconds.
const (
	flagdKey       = "$flagd"
	flagdFlagKey   = "flagKey"
	flagdTimestamp = "timestamp"
	targetingKey   = "targetingKey"
)

var errNotPath = errors.New("the name of a variable must be a text")

// variable compiles {"var": args}. In the body of an iteration it may be looked
// up in several frames, the first value found counts.
func (c *compiler) variable(args *node, s scope, path string) rule {
	var lookups []rule
	for _, frame := range c.substituted(args, s) {
		lookups = append(lookups, c.variableIn(args, s.reading(frame), path))
	}
	lookups = append(lookups, c.variableIn(args, s.reading(s.current), path))
	return firstFound(lookups)
}

// substituted lists the frames from which the library replaces the variable
// before it evaluates the body it stands in. Names that are empty or start with
// a dot are left alone, they are always of the element.
func (c *compiler) substituted(args *node, s scope) []int {
	if args.kind == kindString && (args.text == "" || strings.HasPrefix(args.text, ".")) {
		return nil
	}
	return s.outer
}

// substitution compiles the look-up in the surrounding frames alone, nil where
// there is none.
func (c *compiler) substitution(n *node, s scope, path string) rule {
	if n.kind != kindObject || len(n.members) != 1 || n.members[0].key != "var" {
		return nil
	}
	args := n.members[0].value
	var lookups []rule
	for _, frame := range c.substituted(args, s) {
		lookups = append(lookups, c.variableIn(args, s.reading(frame), path))
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

// variableIn compiles a look-up in the scope's current frame.
func (c *compiler) variableIn(args *node, s scope, path string) rule {
	name, fallback, fixed := fixedName(args)
	if !fixed {
		return c.computedVariable(args, s, path)
	}
	read := c.reader(name, s.current)
	if fallback == nil {
		return read
	}
	return withDefault(read, c.value(fallback, s, at(path, 1)))
}

// reader compiles the look-up of a name in a frame.
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

// flagdReader compiles a look-up in $flagd.
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

// fixedName returns the name that {"var": ...} has when it is written out, and
// the node of its default.
func fixedName(args *node) (name string, fallback *node, ok bool) {
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

// splitPath returns the parts of a dotted name; empty ones do not count.
func splitPath(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '.' })
}

// withDefault puts a default behind a look-up. It is evaluated beforehand, as the
// library does, because its failure counts.
func withDefault(read, otherwise rule) rule {
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		fallback := otherwise(e)
		if value := read(e); value != nil {
			return value
		}
		return fallback
	}
}

// follow walks a path into data, nil where it leads nowhere.
func (e *env) follow(data any, parts []string) any {
	if len(parts) > 0 && !e.spend(len(parts)) {
		return nil
	}
	for _, part := range parts {
		data = step(data, part)
	}
	return data
}

// computedVariable compiles a look-up whose name is only known on evaluation.
func (c *compiler) computedVariable(args *node, s scope, path string) rule {
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

// variable looks up what evaluated arguments of var name: nothing or an empty
// text is the data itself, a list is a name and a default.
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
