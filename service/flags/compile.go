// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds on rules. Iterations inside iterations multiply, so a small rule can be
// an endless one: the last bound is on the evaluation itself.
const (
	// MaxDepth is how deep operators may be nested.
	MaxDepth = 32
	// MaxNodes is how many parts a rule may have: operators and their arguments. A
	// constant list counts as one, however long it is.
	MaxNodes = 2000
	// MaxSteps is how much work one evaluation may be: an operator is a step, and
	// so are an element that is looked at and 64 bytes of text.
	MaxSteps = 100_000
)

// rule is a compiled part of a rule: it returns its value for what e holds.
type rule func(e *env) any

// compiledRule is a flag's whole targeting.
type compiledRule struct {
	eval rule
	// reads are the slots of the attributes that the rule reads.
	reads map[int]struct{}
	// readsAll says that the rule may read any of the context, and readsFlagd that
	// it may look for $flagd there, which then has to carry it.
	readsAll, readsFlagd bool
	// readsTime says that the rule may look at the time.
	readsTime bool
	// frames is how many frames of data the rule uses.
	frames int
}

// boundError refuses a rule that is too deep or too large.
type boundError struct {
	path    string
	offset  int
	message string
}

func (e *boundError) Error() string { return e.path + ": " + e.message }

// compiler turns the tree of one rule into closures.
type compiler struct {
	report func(n *node, path, message string)
	// places numbers what the rules of the document read.
	places *places

	rule  compiledRule
	nodes int
	err   *boundError
}

// scope is what data a part of a rule sees, known when it is compiled. The data
// of the rule is frame 0; each iteration around a part adds a frame for the
// element.
type scope struct {
	// current is the frame that the part reads.
	current int
	// top is the highest frame in use; an iteration inside takes the next.
	top int
	// outer lists frames in which variables are looked up before the current one.
	// The library substitutes variables in the body of filter, all, none and some
	// from the surrounding data first.
	outer []int
	// depth is how many operators are around the part.
	depth int
}

// reading returns the scope for a part that reads one frame and no other.
func (s scope) reading(frame int) scope {
	return scope{current: frame, top: s.top, depth: s.depth}
}

// body returns the scope inside an iteration, in which variables are first
// looked up in the given frames.
func (s scope) body(outer ...int) scope {
	chain := append(append([]int(nil), s.outer...), outer...)
	return scope{current: s.top + 1, top: s.top + 1, outer: chain, depth: s.depth}
}

func (c *compiler) compile(n *node, path string) (*compiledRule, error) {
	c.rule = compiledRule{reads: map[int]struct{}{}, frames: 1}
	c.rule.eval = c.value(n, scope{}, path)
	if c.err != nil {
		return nil, c.err
	}
	return &c.rule, nil
}

// slot returns the slot of an attribute that the rule reads.
func (c *compiler) slot(path ...string) int {
	slot := c.places.slot(path)
	c.rule.reads[slot] = struct{}{}
	return slot
}

// count takes parts into account and says whether compiling may go on.
func (c *compiler) count(parts int, n *node, s scope, path string) bool {
	c.nodes += parts
	switch {
	case c.err != nil:
	case c.nodes > MaxNodes:
		c.err = &boundError{path, n.offset, fmt.Sprintf("the rule has more than %d parts", MaxNodes)}
	case s.depth > MaxDepth:
		c.err = &boundError{path, n.offset, fmt.Sprintf("the rule is nested deeper than %d operators", MaxDepth)}
	}
	return c.err == nil
}

// value compiles a part that stands for its value: an operator, a constant, or
// a list of such.
func (c *compiler) value(n *node, s scope, path string) rule {
	constant, ok := n.foldConstant()
	if !ok {
		s.depth++
	}
	if !c.count(1, n, s, path) {
		return failing("the rule is over its bounds")
	}
	if ok {
		return func(*env) any { return constant }
	}
	if n.kind == kindArray {
		return c.list(n, s, path)
	}
	m := n.members[0]
	return c.operator(m.key, n, m.value, s, under(path, m.key))
}

// foldConstant returns the value of a part without operators. An object with two
// keys or more, or none, is data, whatever it contains.
func (n *node) foldConstant() (value any, ok bool) {
	if n.folded == foldingUnknown {
		n.folded = foldingDynamic
		if n.isConstant() {
			n.folded = foldingConstant
		}
	}
	if n.folded == foldingDynamic {
		return nil, false
	}
	return n.plain(), true
}

func (n *node) isConstant() bool {
	if n.kind == kindObject {
		return len(n.members) != 1
	}
	for _, item := range n.items {
		if _, ok := item.foldConstant(); !ok {
			return false
		}
	}
	return true
}

// list compiles a list with operators among its items.
func (c *compiler) list(n *node, s scope, path string) rule {
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

func (c *compiler) values(n *node, s scope, path string) []rule {
	if c.nodes+len(n.items) > MaxNodes {
		c.count(len(n.items), n, s, path)
		return nil
	}
	items := make([]rule, len(n.items))
	for i, item := range n.items {
		items[i] = c.value(item, s, at(path, i))
	}
	return items
}

// operator compiles {name: args}.
func (c *compiler) operator(name string, n, args *node, s scope, path string) rule {
	switch name {
	case "var":
		return c.variable(args, s, path)
	case "if", "?:", "and", "or":
		return c.lazy(name, args, s, path)
	case "map", "filter", "reduce", "all", "none", "some":
		return c.iteration(name, args, s, path)
	}
	if specialised := c.specialised(name, args, s, path); specialised != nil {
		return specialised
	}
	op, known := operators[name]
	if !known {
		c.report(n, path, fmt.Sprintf("unknown operator %q; an evaluation that reaches it answers PARSE_ERROR", name))
		return failing("unknown operator " + name)
	}
	if s.current == 0 {
		c.noteData(op.data, args)
	}
	return c.call(op, args, s, path)
}

// noteData notes what an operator reads of the context by itself.
func (c *compiler) noteData(data dataUse, args *node) {
	switch data {
	case readsTargetingKey:
		c.slot(targetingKey)
	case readsAnything:
		c.readAll(mentionsFlagd(args))
	}
}

// readAll notes that the rule may read any of the context, and of $flagd.
func (c *compiler) readAll(flagd bool) {
	c.rule.readsAll = true
	c.rule.readsFlagd = c.rule.readsFlagd || flagd
	c.rule.readsTime = c.rule.readsTime || flagd
}

// call compiles an operator whose arguments are all evaluated first. They lie on
// the environment's stack meanwhile, so that a call allocates nothing.
func (c *compiler) call(op operator, args *node, s scope, path string) rule {
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

// lazy compiles the operators that evaluate only the arguments they need.
func (c *compiler) lazy(name string, args *node, s scope, path string) rule {
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

// shortCircuit returns the first value that is as true as stop, or the last.
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

// failing is a part that cannot be evaluated.
func failing(message string) rule {
	err := errors.New(message)
	return func(e *env) any { return e.fail(err) }
}

// mentionsFlagd says whether arguments may name $flagd; those that are computed
// may.
func mentionsFlagd(n *node) bool {
	if n.kind == kindObject {
		return true
	}
	if n.kind == kindString {
		return strings.HasPrefix(strings.TrimLeft(n.text, "."), flagdKey)
	}
	for _, item := range n.items {
		if mentionsFlagd(item) {
			return true
		}
	}
	return false
}
