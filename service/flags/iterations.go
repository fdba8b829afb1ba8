// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"fmt"
)

var (
	errNotList   = errors.New("an iteration requires a list")
	errNotObject = errors.New("the body of this iteration must be an operator")
)

// iteration compiles the operators that evaluate a body for each element of a
// list. A variable in the body is looked up as in the library, in:
//
//	map, reduce   the element
//	filter, none  the surrounding data, then the element
//	some          the surrounding data, then the element
//	all           the element
func (c *compiler) iteration(name string, args *node, s scope, path *place) rule {
	if args.kind != kindArray {
		return failing(name + " needs a list of arguments")
	}
	if short := tooFewArguments(name, len(args.items)); short != nil {
		return short
	}
	c.rule.frames = max(c.rule.frames, s.top+2)
	it := iteration{frame: s.top + 1, subject: c.subject(args.items[0], s, path.item(0))}
	if len(args.items) < 2 {
		return it.quantified(name, failing(name+" has no body"))
	}
	body := c.iterationScope(name, s)
	node, place := args.items[1], path.item(1)
	switch name {
	case "map":
		return it.mapped(c.value(node, body, place))
	case "filter":
		return it.filtered(c.value(node, body, place))
	case "reduce":
		return it.reduced(c.operatorBody(node, body, place), c.value(args.items[2], s, path.item(2)))
	default:
		return it.quantified(name, c.operatorBody(node, body, place))
	}
}

// tooFewArguments returns the rule for an iteration with too few arguments, nil
// if there are enough.
func tooFewArguments(name string, arguments int) rule {
	switch {
	case (name == "map" || name == "filter") && arguments < 2:
		return func(*env) any { return []any{} }
	case name == "reduce" && arguments < 3:
		return func(*env) any { return 0.0 }
	case arguments == 0:
		return failing(name + " has no arguments")
	default:
		return nil
	}
}

func (c *compiler) iterationScope(name string, s scope) scope {
	element := s.top + 1
	switch name {
	case "filter", "none":
		return s.body(s.current)
	case "some":
		return s.body(s.current, element)
	case "all":
		return s.body(element)
	default:
		return s.body()
	}
}

// subject compiles the list that an iteration runs over. The items of a literal
// list are not evaluated. The rule returns nil for anything that is neither a
// list nor an operator: there is nothing to iterate over.
func (c *compiler) subject(n *node, s scope, path *place) rule {
	switch n.kind {
	case kindArray:
		list := n.goValue()
		return func(*env) any { return list }
	case kindObject:
		return c.computedSubject(n, s, path)
	default:
		return func(*env) any { return nil }
	}
}

// computedSubject compiles a subject that is an operator. A variable that the
// library substitutes from the surrounding data counts as a literal.
func (c *compiler) computedSubject(n *node, s scope, path *place) rule {
	value := c.value(n, s, path)
	substitution := c.substitution(n, s, path)
	if substitution == nil {
		return value
	}
	return func(e *env) any {
		switch found := substitution(e).(type) {
		case nil:
			return value(e)
		case []any, map[string]any:
			return found
		default:
			return nil
		}
	}
}

// operatorBody compiles a body that must be an operator. A body that is a
// variable which the library substitutes fails, unless its value is an object.
func (c *compiler) operatorBody(n *node, s scope, path *place) rule {
	if n.kind != kindObject {
		return func(e *env) any { return e.fail(errNotObject) }
	}
	value := c.value(n, s, path)
	substitution := c.substitution(n, s, path)
	if substitution == nil {
		return value
	}
	return func(e *env) any {
		switch found := substitution(e).(type) {
		case nil:
			return value(e)
		case map[string]any:
			return found
		default:
			return e.fail(errNotObject)
		}
	}
}

// iteration is the part that the iterating operators share.
type iteration struct {
	frame   int
	subject rule
}

// list returns the list to iterate over; present is false if there is none.
func (it iteration) list(e *env) (list []any, present bool) {
	if !e.spend(1) {
		return nil, false
	}
	subject := it.subject(e)
	if subject == nil || e.err != nil {
		return nil, false
	}
	list, ok := subject.([]any)
	if !ok {
		e.fail(errNotList)
	}
	return list, ok
}

// evaluate evaluates the body for an element.
func (it iteration) evaluate(e *env, body rule, element any) any {
	if !e.spend(1) {
		return nil
	}
	e.frames[it.frame] = element
	return body(e)
}

func (it iteration) mapped(body rule) rule {
	return func(e *env) any {
		list, _ := it.list(e)
		mapped := make([]any, 0, len(list))
		for _, element := range list {
			mapped = append(mapped, it.evaluate(e, body, element))
			if e.err != nil {
				return nil
			}
		}
		return mapped
	}
}

func (it iteration) filtered(body rule) rule {
	return func(e *env) any {
		list, _ := it.list(e)
		kept := []any{}
		for _, element := range list {
			if isTrue(it.evaluate(e, body, element)) {
				kept = append(kept, element)
			}
			if e.err != nil {
				return nil
			}
		}
		return kept
	}
}

// reduced folds the list into an accumulator that keeps the type it starts with.
func (it iteration) reduced(body, initial rule) rule {
	return func(e *env) any {
		accumulator := initial(e)
		convert, name, err := accumulatorConversion(accumulator)
		if err != nil || e.err != nil {
			return e.fail(err)
		}
		accumulator = convert(e, accumulator)
		list, present := it.list(e)
		if !present {
			return 0.0
		}
		frame := map[string]any{"current": 0.0, "accumulator": accumulator, "valueType": name}
		for _, element := range list {
			if element == nil {
				continue
			}
			frame["current"] = element
			frame["accumulator"] = convert(e, it.evaluate(e, body, frame))
			if e.err != nil {
				return nil
			}
		}
		return frame["accumulator"]
	}
}

// accumulatorConversion returns the conversion that keeps an accumulator's
// type.
func accumulatorConversion(initial any) (convert func(*env, any) any, name string, err error) {
	switch initial.(type) {
	case bool:
		return func(_ *env, v any) any { return isTrue(v) }, "bool", nil
	case float64, int:
		return func(e *env, v any) any { return e.number(v) }, "number", nil
	case string:
		return func(e *env, v any) any { return e.text(v) }, "string", nil
	default:
		return nil, "", fmt.Errorf("reduce cannot start with %T", initial)
	}
}

// quantified is all, none and some: it stops at the first deciding element.
func (it iteration) quantified(name string, body rule) rule {
	deciding := name != "all"
	decided := name == "some"
	onEmpty := name == "none"
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		subject := it.subject(e)
		if !isTrue(subject) {
			return onEmpty
		}
		list, ok := subject.([]any)
		if !ok {
			return e.fail(errNotList)
		}
		for _, element := range list {
			if isTrue(it.evaluate(e, body, element)) == deciding || e.err != nil {
				return decided
			}
		}
		return !decided
	}
}
