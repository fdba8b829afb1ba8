// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// linter checks a rule for parts that cannot work, by the signatures of the
// operators: an evaluation that reaches them fails or always has the same
// result. The flag is served nevertheless, as by flagd.
type linter struct {
	evaluators map[string]evaluator
	report     func(n *node, at *place, format string, values ...any)
}

// lint checks the rule of a flag.
func (r *flagReader) lint(n *node, path *place, variants map[string]json.RawMessage) {
	l := &linter{evaluators: r.parser.evaluators, report: r.parser.adviser(r.key)}
	l.rule(n, path)
	c := &resultCheck{linter: l, variants: newVariantNames(variants), checked: map[evaluatorUse][]finding{}}
	c.check(n, path, anyResult)
}

// lintEvaluators checks the shared evaluators.
func (p *parser) lintEvaluators() {
	l := &linter{evaluators: p.evaluators, report: p.adviser("")}
	for _, name := range slices.Sorted(maps.Keys(p.evaluators)) {
		if e := p.evaluators[name]; e.defect == "" {
			l.rule(e.value, e.path)
		}
	}
}

// rule checks an operator, a constant, or a list of these.
func (l *linter) rule(n *node, at *place) {
	switch {
	case n.kind == kindArray:
		for i, item := range n.items {
			l.rule(item, at.item(i))
		}
	case n.kind == kindObject && len(n.members) == 1:
		l.operator(n, at)
	case n.kind == kindObject:
		l.severalOperators(n, at)
	}
}

// severalOperators reports an object with several members, which is data, if
// one of them is named like an operator.
func (l *linter) severalOperators(n *node, at *place) {
	if name := operatorAmong(n); name != "" {
		l.report(n, at, "an object with %d members is data and is not evaluated: each operator, such as %s, must be in an object of its own",
			len(n.members), quote(name))
	}
}

// operatorAmong returns the first member that is named like an operator, empty if
// there is none.
func operatorAmong(n *node) string {
	for _, m := range n.members {
		if _, known := signatures[m.key]; known || m.key == "$ref" {
			return m.key
		}
	}
	return ""
}

func (l *linter) operator(n *node, at *place) {
	name, args, place := n.members[0].key, n.members[0].value, at.member(n.members[0].key)
	if evaluatorName, is := reference(n); is {
		if _, known := l.evaluators[evaluatorName]; !known {
			l.report(n, place, "there is no evaluator %s; an evaluation that reaches it returns PARSE_ERROR", quote(evaluatorName))
		}
		return
	}
	s, known := signatures[name]
	if !known {
		l.report(n, place, "unknown operator %s; an evaluation that reaches it returns PARSE_ERROR", quote(name))
		return
	}
	switch {
	case args.kind == kindArray:
		l.arguments(name, s, args, place)
	case s.literal, s.list && args.constant():
		l.report(args, place, "%s needs a list of arguments, not %s", name, args.kind)
	case args.constant():
		accepted := s.argument(0)
		if s.single != 0 {
			accepted = s.single
		}
		l.checkType(name, args, place, "argument", accepted)
		l.checkArguments(name, []*node{args}, place)
	default:
		l.rule(args, place)
	}
}

func (l *linter) arguments(name string, s signature, args *node, at *place) {
	count := len(args.items)
	if count < s.min || s.max > 0 && count > s.max {
		l.report(args, at, "%s needs %s, not %d", name, s.arity(), count)
		return
	}
	for i, arg := range args.items {
		if possible := l.types(arg); possible&s.argument(i) == 0 {
			l.report(arg, at.item(i), "argument %d of %s is %s and must be %s", i+1, name, possible, s.argument(i))
		}
		// The items of a literal list that an iteration runs over are data.
		if iterated := s.literal && s.argument(i) == aList && arg.kind == kindArray; !iterated {
			l.rule(arg, at.item(i))
		}
	}
	l.checkArguments(name, args.items, at)
}

func (l *linter) checkArguments(name string, args []*node, at *place) {
	if check, defined := argumentChecks[name]; defined {
		check(l, args, at)
	}
}

// arity describes the number of arguments.
func (s signature) arity() string {
	switch {
	case s.max == 0 && s.min == 0:
		return "any number of arguments"
	case s.max == 0 && s.min == 1:
		return "at least one argument"
	case s.max == 0:
		return fmt.Sprintf("at least %d arguments", s.min)
	case s.max == s.min && s.max == 1:
		return "one argument"
	case s.max == s.min:
		return fmt.Sprintf("%d arguments", s.min)
	default:
		return fmt.Sprintf("%d to %d arguments", s.min, s.max)
	}
}

// checkType reports an argument that can only have types that the operator does
// not accept.
func (l *linter) checkType(name string, n *node, at *place, what string, accepted types) {
	possible := l.types(n)
	if possible&accepted == 0 {
		l.report(n, at, "%s of %s is %s and must be %s", what, name, possible, accepted)
	}
}

// types returns the types that a part of a rule can have.
func (l *linter) types(n *node) types {
	if n.possible == 0 {
		n.possible = l.possibleTypes(n)
	}
	return n.possible
}

func (l *linter) possibleTypes(n *node) types {
	if n.kind != kindObject || len(n.members) != 1 {
		return 1 << n.kind
	}
	if name, is := reference(n); is {
		if e, known := l.evaluators[name]; known && e.defect == "" {
			return l.types(e.value)
		}
		return anything
	}
	m := n.members[0]
	switch s, known := signatures[m.key]; {
	case !known:
		return anything
	case (m.key == "if" || m.key == "?:") && m.value.kind == kindArray && len(m.value.items) > 0:
		possible := types(0)
		for _, branch := range branches(m.value) {
			possible |= l.types(m.value.items[branch])
		}
		if len(m.value.items)%2 == 0 {
			possible |= aNull
		}
		return possible
	default:
		return s.returns
	}
}

// branches returns the indexes of the arguments of if that it may return.
func branches(args *node) []int {
	var found []int
	for i := range args.items {
		if i%2 == 1 || i == len(args.items)-1 {
			found = append(found, i)
		}
	}
	return found
}

// resultCheck reports the results of a rule that name no variant.
type resultCheck struct {
	*linter
	variants *variantNames
	// evaluator is the name of the evaluator that is being checked.
	evaluator string
	// checked are the evaluators that the rule refers to.
	checked map[evaluatorUse][]finding
}

// evaluatorUse is an evaluator whose results are those of a rule.
type evaluatorUse struct {
	name string
	want truth
}

// finding is a problem with the results of an evaluator.
type finding struct {
	format string
	values []any
}

// variantNames are the names of a flag's variants.
type variantNames struct {
	names map[string]json.RawMessage
	// longest is the length of the longest name.
	longest int
	numbers memo
}

func newVariantNames(variants map[string]json.RawMessage) *variantNames {
	v := &variantNames{names: variants}
	for name := range variants {
		v.longest = max(v.longest, len(name))
	}
	return v
}

// include reports whether a variant has the name.
func (v *variantNames) include(name string) bool {
	if len(name) > v.longest {
		return false
	}
	_, known := v.names[name]
	return known
}

// includeNumber reports whether a variant is named like a number.
func (v *variantNames) includeNumber() bool {
	return v.numbers.get(func() bool {
		for name := range v.names {
			if name != "" && strings.Trim(name, "0123456789.eE+-") == "" {
				return true
			}
		}
		return false
	})
}

// constantResult is a constant as the result of a rule.
type constantResult struct {
	// isNull selects the default variant; isTrue is the constant's truth.
	isNull, isTrue bool
	// isMistake means that it was probably meant to be an operator.
	isMistake bool
	// name is the variant that it selects, if named.
	name  string
	named bool
}

// constantResult returns a constant node as a result.
func (n *node) constantResult() *constantResult {
	if n.result == nil {
		value := n.goValue()
		n.result = &constantResult{isNull: value == nil, isTrue: isTrue(value), isMistake: operatorAmong(n) != ""}
		if n.kind != kindObject && n.kind != kindArray {
			n.result.name, n.result.named = resultText(value)
		}
	}
	return n.result
}

// truth restricts results to those that are true, or not.
type truth uint8

const (
	anyResult truth = iota
	trueResult
	falseResult
)

// check checks the results of a part that may become the result of the rule.
func (c *resultCheck) check(n *node, at *place, want truth) {
	if n.constant() {
		c.constant(n, at, want)
		return
	}
	if n.kind == kindArray {
		c.report(n, at, "the rule returns a list, which is not a variant%s", c.where())
		return
	}
	if name, is := reference(n); is {
		c.reference(name, n, at, want)
		return
	}
	m := n.members[0]
	place := at.member(m.key)
	switch m.key {
	case "if", "?:":
		for _, i := range branches(m.value) {
			c.check(m.value.items[i], place.item(i), want)
		}
	case "and", "or":
		c.shortCircuit(m.key, m.value, place, want)
	case "var":
		if m.value.kind == kindArray && len(m.value.items) == 2 {
			c.check(m.value.items[1], place.item(1), want)
		}
	case "fractional":
		for i, share := range m.value.items {
			if share.kind == kindArray && len(share.items) > 0 {
				c.check(share.items[0], place.item(i).item(0), want)
			}
		}
	default:
		c.operator(m.key, n, place, want)
	}
}

func (c *resultCheck) constant(n *node, at *place, want truth) {
	result := n.constantResult()
	switch {
	case result.isNull, result.isMistake, want == trueResult && !result.isTrue, want == falseResult && result.isTrue:
	case n.kind == kindObject || n.kind == kindArray:
		c.report(n, at, "the rule returns %s, which is not a variant%s", n.kind, c.where())
	case result.named && !c.variants.include(result.name):
		c.report(n, at, "%s is not one of the variants; an evaluation that returns it fails with GENERAL%s", quote(result.name), c.where())
	}
}

func (c *resultCheck) where() string {
	if c.evaluator == "" {
		return ""
	}
	return " (evaluator " + quote(c.evaluator) + ")"
}

// reference checks the results of an evaluator. They are reported where the flag
// refers to it.
func (c *resultCheck) reference(name string, n *node, at *place, want truth) {
	e, known := c.evaluators[name]
	if !known || e.defect != "" {
		return
	}
	use := evaluatorUse{name, want}
	found, done := c.checked[use]
	if !done {
		inside := &resultCheck{variants: c.variants, evaluator: name}
		inside.linter = &linter{report: func(_ *node, _ *place, format string, values ...any) {
			found = append(found, finding{format, values})
		}}
		inside.check(e.value, e.path, want)
		c.checked[use] = found
	}
	for _, f := range found {
		c.report(n, at, f.format, f.values...)
	}
}

// shortCircuit checks the results of and and or: all arguments but the last are
// results only if they are false or true.
func (c *resultCheck) shortCircuit(name string, args *node, at *place, want truth) {
	decides := trueResult
	if name == "and" {
		decides = falseResult
	}
	for i, arg := range args.items {
		switch last := i == len(args.items)-1; {
		case last:
			c.check(arg, at.item(i), want)
		case want == anyResult || want == decides:
			c.check(arg, at.item(i), decides)
		}
	}
}

// operator checks the results of any other operator by their types.
func (c *resultCheck) operator(name string, n *node, at *place, want truth) {
	s, known := signatures[name]
	switch {
	case !known:
	case s.returns == aList:
		c.report(n, at, "the rule returns a list, which is not a variant%s", c.where())
	case s.returns == aNumber && !c.variants.includeNumber():
		c.report(n, at, "the rule returns a number, and no variant is named like one%s", c.where())
	case s.returns&^aNull == aBool:
		c.boolean(n, at, want)
	}
}

func (c *resultCheck) boolean(n *node, at *place, want truth) {
	var missing []string
	if want != falseResult && !c.variants.include("true") {
		missing = append(missing, "true")
	}
	if want != trueResult && !c.variants.include("false") {
		missing = append(missing, "false")
	}
	if len(missing) > 0 {
		c.report(n, at, "the rule may return %s, which is not one of the variants; such an evaluation fails with GENERAL%s",
			strings.Join(missing, " or "), c.where())
	}
}
