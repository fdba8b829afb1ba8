// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits on rules. Nested iterations multiply, so a small rule can run
// practically for ever: the last limit is on the evaluation itself.
const (
	// MaxDepth is the maximum nesting depth of operators.
	MaxDepth = 32
	// MaxNodes is the maximum number of nodes in a rule: operators and their
	// arguments. A constant list counts as one, whatever its length, and the name of a
	// variable or an operator once more for each 64 bytes.
	MaxNodes = 2000
	// MaxSteps is the maximum amount of work in one evaluation: an operator, an
	// element that is visited and 64 bytes of text are one step each.
	MaxSteps = 100_000
)

// rule is a compiled (part of a) rule: it returns its value for the data in e.
type rule func(e *env) any

// compiledRule is the compiled targeting of a flag.
type compiledRule struct {
	eval rule
	// reads are the slots of the attributes that the rule reads.
	reads map[int]struct{}
	// readsAll means that the rule may read any attribute of the context, and
	// readsFlagd that it may read $flagd there, so that the context must include
	// it.
	readsAll, readsFlagd bool
	// readsTime means that the rule may read the time.
	readsTime bool
	// frames is the number of data frames that the rule uses.
	frames int
}

// limitError is returned for a rule that is nested too deeply or too large.
type limitError struct {
	path    *place
	offset  int
	message string
}

func (e *limitError) Error() string { return e.path.String() + ": " + e.message }

// compiler turns the tree of one rule into closures.
type compiler struct {
	// index numbers the attributes that the rules of the document read.
	index *attributeIndex

	rule  compiledRule
	nodes int
	err   *limitError
}

// scope is the data that a part of a rule can read, known at compile time. The
// context is frame 0; each enclosing iteration adds a frame for its element.
type scope struct {
	// current is the frame in which variables are looked up.
	current int
	// top is the highest frame in use; a nested iteration uses the next one.
	top int
	// outer lists the frames in which variables are looked up before the current
	// one: the library first substitutes variables in the body of filter, all, none
	// and some from the surrounding data.
	outer []int
	// depth is the number of enclosing operators.
	depth int
}

// only returns the scope for a part that reads a single frame.
func (s scope) only(frame int) scope {
	return scope{current: frame, top: s.top, depth: s.depth}
}

// body returns the scope of an iteration's body, in which variables are first
// looked up in the given frames.
func (s scope) body(outer ...int) scope {
	chain := append(append([]int(nil), s.outer...), outer...)
	return scope{current: s.top + 1, top: s.top + 1, outer: chain, depth: s.depth}
}

func (c *compiler) compile(n *node, path *place) (*compiledRule, error) {
	c.rule = compiledRule{reads: map[int]struct{}{}, frames: 1}
	c.rule.eval = c.value(n, scope{}, path)
	if c.err != nil {
		return nil, c.err
	}
	return &c.rule, nil
}

// slot records that the rule reads an attribute and returns its slot.
func (c *compiler) slot(path ...string) int {
	slot := c.index.slot(path)
	c.rule.reads[slot] = struct{}{}
	return slot
}

// count adds nodes to the rule's size and reports whether compilation can
// continue.
func (c *compiler) count(parts int, n *node, s scope, path *place) bool {
	c.nodes += parts
	switch {
	case c.err != nil:
	case c.nodes > MaxNodes:
		c.err = &limitError{path, n.offset, fmt.Sprintf("the rule has more than %d nodes", MaxNodes)}
	case s.depth > MaxDepth:
		c.err = &limitError{path, n.offset, fmt.Sprintf("the rule is nested deeper than %d operators", MaxDepth)}
	}
	return c.err == nil
}

// value compiles an operator, a constant, or a list of these.
func (c *compiler) value(n *node, s scope, path *place) rule {
	constant, ok := n.foldConstant()
	if !ok {
		s.depth++
	}
	if !c.count(1, n, s, path) {
		return failing("the rule exceeds its limits")
	}
	if ok {
		return func(*env) any { return constant }
	}
	if n.kind == kindArray {
		return c.list(n, s, path)
	}
	m := n.members[0]
	if !c.count(nameSize(m.key), n, s, path) {
		return failing("the rule exceeds its limits")
	}
	return c.operator(m.key, m.value, s, path.member(m.key))
}

// foldConstant returns the value of a node without operators. An object without
// keys or with two or more is data, whatever it contains.
func (n *node) foldConstant() (value any, ok bool) {
	if !n.constant() {
		return nil, false
	}
	return n.goValue(), true
}

// constant reports whether a node has no operators.
func (n *node) constant() bool { return n.folded.get(n.isConstant) }

func (n *node) isConstant() bool {
	if n.kind == kindObject {
		return len(n.members) != 1
	}
	for _, item := range n.items {
		if !item.constant() {
			return false
		}
	}
	return true
}

// list compiles a list with operators among its items.
func (c *compiler) list(n *node, s scope, path *place) rule {
	items := c.values(n, s, path)
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		values := make([]any, len(items))
		for i, item := range items {
			values[i] = item(e)
		}
		return values
	}
}

func (c *compiler) values(n *node, s scope, path *place) []rule {
	if c.nodes+len(n.items) > MaxNodes {
		c.count(len(n.items), n, s, path)
		return nil
	}
	items := make([]rule, len(n.items))
	for i, item := range n.items {
		items[i] = c.value(item, s, path.item(i))
	}
	return items
}

// operator compiles {name: args}.
func (c *compiler) operator(name string, args *node, s scope, path *place) rule {
	switch name {
	case "var":
		return c.variable(args, s, path)
	case "if", "?:", "and", "or":
		return c.lazy(name, args, s, path)
	case "map", "filter", "reduce", "all", "none", "some":
		return c.iteration(name, args, s, path)
	}
	if specialized := c.specialized(name, args, s, path); specialized != nil {
		return specialized
	}
	op, known := operators[name]
	if !known {
		return failing("unknown operator " + shorten(name))
	}
	if s.current == 0 {
		c.recordReads(op.reads, args)
	}
	return c.call(op, args, s, path)
}

// recordReads records what an operator reads of the context besides its
// arguments.
func (c *compiler) recordReads(data implicitReads, args *node) {
	switch data {
	case readsTargetingKey:
		c.slot(targetingKey)
	case readsAnything:
		c.readAll(args.mentionsFlagd())
	}
}

// readAll records that the rule may read any attribute of the context and, with
// flagd, of $flagd.
func (c *compiler) readAll(flagd bool) {
	c.rule.readsAll = true
	c.rule.readsFlagd = c.rule.readsFlagd || flagd
	c.rule.readsTime = c.rule.readsTime || flagd
}

// call compiles an operator whose arguments are all evaluated first. The
// arguments are kept on the environment's stack, so that a call does not
// allocate.
func (c *compiler) call(op operator, args *node, s scope, path *place) rule {
	frame := s.current
	if args.kind != kindArray {
		argument := c.value(args, s, path)
		return func(e *env) any {
			if !e.spend(1) {
				return nil
			}
			return op.apply(e, frame, argument(e))
		}
	}
	items := c.values(args, s, path)
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		base := len(e.stack)
		for _, item := range items {
			value := item(e)
			e.stack = append(e.stack, value)
		}
		var result any
		if e.err == nil {
			result = op.list(e, frame, e.stack[base:])
		}
		clear(e.stack[base:])
		e.stack = e.stack[:base]
		return result
	}
}

// lazy compiles the operators that evaluate only the arguments that they need.
func (c *compiler) lazy(name string, args *node, s scope, path *place) rule {
	if args.kind != kindArray {
		return failing(name + " needs a list of arguments")
	}
	clauses := c.values(args, s, path)
	switch name {
	case "and":
		return shortCircuit(clauses, false)
	case "or":
		return shortCircuit(clauses, true)
	default:
		return conditional(clauses)
	}
}

// shortCircuit returns the first value whose truthiness equals stop, or the
// last value.
func shortCircuit(clauses []rule, stop bool) rule {
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		var last any
		for _, clause := range clauses {
			last = clause(e)
			if isTrue(last) == stop || e.err != nil {
				return last
			}
		}
		return last
	}
}

// conditional is if, then, else if, then, ..., else.
func conditional(clauses []rule) rule {
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		for i := 0; i+1 < len(clauses); i += 2 {
			if isTrue(clauses[i](e)) {
				return clauses[i+1](e)
			}
			if e.err != nil {
				return nil
			}
		}
		if len(clauses)%2 == 1 {
			return clauses[len(clauses)-1](e)
		}
		return nil
	}
}

// failing returns a rule that fails when it is evaluated.
func failing(message string) rule {
	err := errors.New(message)
	return func(e *env) any { return e.fail(err) }
}

// mentionsFlagd reports whether arguments may name $flagd; computed ones may.
func (n *node) mentionsFlagd() bool {
	return n.mentions.get(func() bool {
		switch n.kind {
		case kindObject:
			return true
		case kindString:
			return strings.HasPrefix(strings.TrimLeft(n.text, "."), flagdKey)
		default:
			return slices.ContainsFunc(n.items, (*node).mentionsFlagd)
		}
	})
}
