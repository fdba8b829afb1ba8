// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import "strings"

// specialized compiles the most common forms of operators, where more is known
// at compile time: an attribute that is compared with a constant is read in
// place, without boxing it. A value of another type takes the general path, so
// the results are the same. It returns nil for all other forms.
func (c *compiler) specialized(name string, args *node, s scope, path *place) rule {
	switch name {
	case "fractional":
		return c.constantFractional(args, s, path)
	case "in":
		return c.inConstant(args, s, path)
	case "starts_with":
		return c.constantAffix(strings.HasPrefix, args, s, path)
	case "ends_with":
		return c.constantAffix(strings.HasSuffix, args, s, path)
	case "==", "===", "!=", "!==":
		return c.equality(name, args, s, path)
	case "<", "<=", ">", ">=":
		return c.ordering(name, args, s, path)
	case "missing":
		return c.constantMissing(args, s, path)
	default:
		return nil
	}
}

// attributeName returns the path of an argument of the form {"var": "name"}
// that is an attribute of the context; nil for anything else.
func attributeName(n *node, s scope) []string {
	if s.current != 0 || len(s.outer) > 0 || n.kind != kindObject || len(n.members) != 1 || n.members[0].key != "var" {
		return nil
	}
	name, fallback, fixed := constantName(n.members[0].value)
	parts := splitPath(name)
	if !fixed || fallback != nil || len(parts) == 0 || parts[0] == flagdKey {
		return nil
	}
	return parts
}

// pair is an operator's two arguments if they are an attribute and a constant.
type pair struct {
	attribute []string
	constant  *node
	// swapped means that the constant comes first.
	swapped bool
}

// pairOf returns the attribute and the constant among two arguments.
func pairOf(args *node, s scope) (p pair, ok bool) {
	if args.kind != kindArray || len(args.items) != 2 {
		return pair{}, false
	}
	p = pair{attribute: attributeName(args.items[0], s), constant: args.items[1]}
	if p.attribute == nil {
		p = pair{attribute: attributeName(args.items[1], s), constant: args.items[0], swapped: true}
	}
	isScalar := p.constant.kind == kindString || p.constant.kind == kindNumber
	return p, p.attribute != nil && isScalar
}

// usePair counts the pair's nodes and returns the attribute's slot.
func (c *compiler) usePair(p pair, s scope, path *place) (slot int) {
	s.depth++
	c.count(1+pathSize(p.attribute), p.constant, s, path)
	return c.slot(p.attribute...)
}

// constantAffix compiles starts_with and ends_with for an attribute and a constant.
func (c *compiler) constantAffix(has func(text, affix string) bool, args *node, s scope, path *place) rule {
	pair, ok := pairOf(args, s)
	if !ok || pair.swapped || pair.constant.kind != kindString {
		return nil
	}
	slot, affix := c.usePair(pair, s, path), pair.constant.text
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		text, ok := e.stringAt(slot)
		if !ok {
			return nil
		}
		return has(text, affix)
	}
}

// equality compiles a comparison of an attribute with a constant.
func (c *compiler) equality(name string, args *node, s scope, path *place) rule {
	pair, ok := pairOf(args, s)
	if !ok {
		return nil
	}
	compare := (*env).equal
	if len(name) == len("===") {
		compare = (*env).identical
	}
	slot, value, expected := c.usePair(pair, s, path), pair.constant.goValue(), name[0] == '='
	general := func(e *env) bool { return compare(e, e.attribute(slot), value) == expected }
	if pair.constant.kind == kindString {
		return equalString(slot, pair.constant.text, expected, general)
	}
	return equalNumber(slot, value.(float64), expected, general)
}

func equalString(slot int, text string, expected bool, general func(*env) bool) rule {
	return func(e *env) any {
		if !e.spend(1 + len(text)>>6) {
			return nil
		}
		if found, ok := e.stringAt(slot); ok {
			return (found == text) == expected
		}
		return general(e)
	}
}

func equalNumber(slot int, number float64, expected bool, general func(*env) bool) rule {
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		if found, ok := e.numberAt(slot); ok {
			return (found == number) == expected
		}
		return general(e)
	}
}

// ordering compiles the comparison of an attribute with a number.
func (c *compiler) ordering(name string, args *node, s scope, path *place) rule {
	pair, ok := pairOf(args, s)
	if !ok || pair.constant.kind != kindNumber {
		return nil
	}
	slot, value := c.usePair(pair, s, path), pair.constant.goValue()
	compare, within, number := operators[name].list, withinLimit(name, pair.swapped), value.(float64)
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		if found, ok := e.numberAt(slot); ok {
			return within(found, number)
		}
		if pair.swapped {
			return compare(e, 0, []any{value, e.attribute(slot)})
		}
		return compare(e, 0, []any{e.attribute(slot), value})
	}
}

// withinLimit compares an attribute with a limit. All numbers are finite, so
// swapping the arguments is the same as mirroring the operator.
func withinLimit(name string, swapped bool) func(value, limit float64) bool {
	if swapped {
		name = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<="}[name]
	}
	switch name {
	case "<":
		return func(value, limit float64) bool { return value < limit }
	case "<=":
		return func(value, limit float64) bool { return value <= limit }
	case ">":
		return func(value, limit float64) bool { return value > limit }
	default:
		return func(value, limit float64) bool { return value >= limit }
	}
}

// inConstant compiles membership in a constant list of strings as a map lookup,
// so that a list of thousands costs no more than a short one, and the search
// for a constant substring in an attribute.
func (c *compiler) inConstant(args *node, s scope, path *place) rule {
	if args.kind != kindArray || len(args.items) != 2 {
		return nil
	}
	if texts := args.items[1].stringSet(); texts != nil {
		return c.inStrings(texts, args, s, path)
	}
	pair, ok := pairOf(args, s)
	if !ok || !pair.swapped || pair.constant.kind != kindString {
		return nil
	}
	slot, text := c.usePair(pair, s, path), pair.constant.text
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		if haystack, ok := e.stringAt(slot); ok {
			return e.spendText(haystack) && strings.Contains(haystack, text)
		}
		return in(e, 0, []any{text, e.attribute(slot)})
	}
}

func (c *compiler) inStrings(texts map[string]struct{}, args *node, s scope, path *place) rule {
	list := args.items[1].goValue().([]any)
	needle := c.value(args.items[0], s, path.item(0))
	general := func(e *env) any {
		value := needle(e)
		if text, ok := value.(string); ok {
			_, found := texts[text]
			return found
		}
		return e.isAmong(value, list)
	}
	attribute := attributeName(args.items[0], s)
	if attribute == nil {
		return func(e *env) any {
			if !e.spend(1) {
				return nil
			}
			return general(e)
		}
	}
	slot := c.slot(attribute...)
	return func(e *env) any {
		if !e.spend(1) {
			return nil
		}
		if text, ok := e.stringAt(slot); ok {
			_, found := texts[text]
			return found
		}
		return general(e)
	}
}

// constantFractional compiles constant shares for callers identified by their
// targeting key: only the hash remains to be computed at run time.
func (c *compiler) constantFractional(args *node, s scope, path *place) rule {
	constant, ok := args.foldConstant()
	if !ok || args.kind != kindArray || s.current != 0 {
		return nil
	}
	distribution := constant.([]any)
	if len(distribution) == 0 || isString(distribution[0]) {
		return nil
	}
	if distribution[0] == nil {
		distribution = distribution[1:]
	}
	if !c.count(len(distribution), args, s, path) {
		return failing("the rule exceeds its limits")
	}
	e := &env{steps: MaxSteps}
	shares, total, ok := e.parseShares(nil, distribution)
	if !ok || total == 0 {
		return func(*env) any { return nil }
	}
	slot := c.slot(targetingKey)
	return func(e *env) any {
		key, ok := e.stringAt(slot)
		if !ok || key == "" || !e.spend(1) {
			return nil
		}
		return pick(shares, total, bucketHash(e.flagKey, key))
	}
}

func isString(v any) bool {
	_, ok := v.(string)
	return ok
}

// constantMissing compiles missing for constant names, so that only these
// attributes are read.
func (c *compiler) constantMissing(args *node, s scope, path *place) rule {
	names := namesOf(args)
	if s.current != 0 || !allStrings(names) || !c.count(lookupSizes(names), args, s, path) {
		return nil
	}
	readers := make([]rule, len(names))
	for i, name := range names {
		readers[i] = c.reader(name.text, 0)
	}
	return func(e *env) any {
		absent := []any{}
		for i, read := range readers {
			if !e.spend(1) {
				return nil
			}
			if read(e) == nil {
				absent = append(absent, names[i].text)
			}
		}
		return absent
	}
}

// namesOf returns the names in the arguments of missing.
func namesOf(args *node) []*node {
	if args.kind == kindArray {
		return args.items
	}
	return []*node{args}
}

// lookupSizes returns the nodes for several variables.
func lookupSizes(names []*node) (size int) {
	for _, name := range names {
		size += lookupSize(name.text, 0)
	}
	return size
}

func allStrings(nodes []*node) bool {
	for _, n := range nodes {
		if n.kind != kindString {
			return false
		}
	}
	return true
}
