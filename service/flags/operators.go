// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"math"
	"strings"
)

// operator is an operator whose arguments are all evaluated before it runs.
type operator struct {
	// list applies it to a list of arguments, which it must not retain.
	list func(e *env, frame int, args []any) any
	// single applies it to one argument that is not a list; nil if the operator
	// only accepts a list.
	single func(e *env, frame int, arg any) any
	// reads is what the operator reads of its frame's data besides its arguments.
	reads implicitReads
}

// implicitReads is what an operator reads of the data besides its arguments.
type implicitReads uint8

const (
	readsNothing implicitReads = iota
	readsTargetingKey
	readsAnything
)

var (
	errNeedsList = errors.New("the operator needs a list of arguments")
	errTooFew    = errors.New("the operator has too few arguments")
)

// apply calls the operator with arguments that were computed as one value.
func (o operator) apply(e *env, frame int, arg any) any {
	if e.err != nil {
		return nil
	}
	if list, ok := arg.([]any); ok {
		return o.list(e, frame, list)
	}
	if o.single == nil {
		return e.fail(errNeedsList)
	}
	return o.single(e, frame, arg)
}

// operators are all operators but those that the compiler handles by name.
var operators = map[string]operator{
	"==":  {list: comparing((*env).equal)},
	"!=":  {list: negated(comparing((*env).equal))},
	"===": {list: comparing((*env).identical), single: constantly(false)},
	"!==": {list: negated(comparing((*env).identical)), single: constantly(true)},
	"<":   {list: ordered((*env).less, false)},
	"<=":  {list: ordered((*env).lessOrEqual, false)},
	">":   {list: ordered((*env).less, true)},
	">=":  {list: ordered((*env).lessOrEqual, true)},

	"!":  {list: negation, single: func(_ *env, _ int, v any) any { return !isTrue(v) }},
	"!!": {list: affirmation, single: func(_ *env, _ int, v any) any { return isTrue(v) }},

	"+":   {list: sum, single: func(e *env, _ int, v any) any { return e.number(v) }},
	"-":   {list: difference},
	"*":   {list: product},
	"/":   {list: quotient},
	"%":   {list: remainder},
	"abs": {list: absolute, single: func(e *env, _ int, v any) any { return math.Abs(e.number(v)) }},
	"max": {list: extreme(func(a, b float64) bool { return a > b })},
	"min": {list: extreme(func(a, b float64) bool { return a < b })},

	"cat":    {list: concatenation, single: concatenationOfOne},
	"substr": {list: substring},
	"in":     {list: in},
	"merge":  {list: merge, single: mergeOne},
	"set":    {list: set},

	"missing":      {list: missing, single: missingOne, reads: readsAnything},
	"missing_some": {list: missingSome, reads: readsAnything},

	"contains_all":  {list: containing(containsAll, false), single: constantly(false)},
	"contains_any":  {list: containing(containsAny, false), single: constantly(false)},
	"contains_none": {list: containing(containsNone, true), single: constantly(true)},

	"fractional":  {list: fractional, single: constantly(nil), reads: readsTargetingKey},
	"sem_ver":     {list: semVer, single: constantly(nil)},
	"starts_with": {list: affix(strings.HasPrefix), single: constantly(nil)},
	"ends_with":   {list: affix(strings.HasSuffix), single: constantly(nil)},
}

func constantly(result any) func(*env, int, any) any {
	return func(*env, int, any) any { return result }
}

func comparing(compare func(e *env, a, b any) bool) func(*env, int, []any) any {
	return func(e *env, _ int, args []any) any {
		return len(args) >= 2 && compare(e, args[0], args[1])
	}
}

func negated(list func(*env, int, []any) any) func(*env, int, []any) any {
	return func(e *env, frame int, args []any) any { return !isTrue(list(e, frame, args)) }
}

// ordered compares two arguments, or three for "between"; with backwards, from
// the last to the first.
func ordered(before func(e *env, a, b any) bool, backwards bool) func(*env, int, []any) any {
	return func(e *env, _ int, args []any) any {
		if len(args) < 2 {
			return false
		}
		a, b := args[0], args[1]
		if len(args) == 3 {
			c := args[2]
			if backwards {
				return before(e, c, b) && before(e, b, a)
			}
			return before(e, a, b) && before(e, b, c)
		}
		if backwards {
			return before(e, b, a)
		}
		return before(e, a, b)
	}
}

func negation(_ *env, _ int, args []any) any { return len(args) == 0 || !isTrue(args[0]) }

func affirmation(_ *env, _ int, args []any) any { return len(args) > 0 && isTrue(args[0]) }

func sum(e *env, _ int, args []any) any {
	if !e.spend(len(args)) {
		return nil
	}
	if len(args) == 1 {
		return e.number(args[0])
	}
	total := 0.0
	for _, arg := range args {
		total += e.number(arg)
	}
	return total
}

func difference(e *env, _ int, args []any) any {
	switch {
	case len(args) == 0:
		return 0
	case len(args) == 1:
		return -1 * e.number(args[0])
	case !e.spend(len(args)):
		return nil
	}
	total := e.number(args[0])
	for _, arg := range args[1:] {
		total -= e.number(arg)
	}
	return total
}

func product(e *env, _ int, args []any) any {
	if !e.spend(len(args)) {
		return nil
	}
	total := 1.0
	for _, arg := range args {
		total *= e.number(arg)
	}
	return total
}

func quotient(e *env, _ int, args []any) any {
	if len(args) == 0 {
		return 0
	}
	if !e.spend(len(args)) {
		return nil
	}
	total := e.number(args[0])
	for _, arg := range args[1:] {
		total /= e.number(arg)
	}
	return total
}

func remainder(e *env, _ int, args []any) any {
	if len(args) < 2 {
		return e.fail(errTooFew)
	}
	return math.Mod(e.number(args[0]), e.number(args[1]))
}

func absolute(e *env, _ int, args []any) any {
	if len(args) == 0 {
		return e.fail(errTooFew)
	}
	return math.Abs(e.number(args[0]))
}

func extreme(beats func(a, b float64) bool) func(*env, int, []any) any {
	return func(e *env, _ int, args []any) any {
		if len(args) == 0 || !e.spend(len(args)) {
			return nil
		}
		best := e.number(args[0])
		for _, arg := range args[1:] {
			if n := e.number(arg); beats(n, best) {
				best = n
			}
		}
		return best
	}
}

// concatenation joins strings and trims the result; a single argument is not
// trimmed.
func concatenation(e *env, _ int, args []any) any {
	switch len(args) {
	case 0:
		return ""
	case 1:
		return e.text(args[0])
	}
	var joined strings.Builder
	for _, arg := range args {
		text := e.text(arg)
		if !e.spend(1 + len(text)>>6) {
			return nil
		}
		joined.WriteString(text)
	}
	return strings.TrimSpace(joined.String())
}

func concatenationOfOne(e *env, _ int, v any) any {
	if _, ok := v.(string); !ok {
		return e.fail(errNeedsList)
	}
	return v
}

var errBadRange = errors.New("the range of substr ends before it starts")

// substring counts characters; negative numbers count from the end.
func substring(e *env, _ int, args []any) any {
	if len(args) < 2 {
		return e.fail(errTooFew)
	}
	text := e.text(args[0])
	if !e.spendText(text) {
		return nil
	}
	runes := []rune(text)
	from := integer(e.number(args[1]))
	length := len(runes)
	if from < 0 {
		from += length
	}
	if from < 0 || from > length {
		return string(runes)
	}
	if len(args) == 3 {
		length = integer(e.number(args[2]))
	}
	to := from + length
	if length < 0 {
		to = len(runes) + length
	}
	to = min(to, len(runes))
	if to < from || e.err != nil {
		return e.fail(errBadRange)
	}
	return string(runes[from:to])
}

// in is membership in a list, or a substring test. A list inside the list is a
// range from its first to its second element.
func in(e *env, _ int, args []any) any {
	if len(args) == 0 {
		return e.fail(errTooFew)
	}
	if len(args) == 1 {
		return false
	}
	switch haystack := args[1].(type) {
	case string:
		needle, ok := args[0].(string)
		if !ok {
			return e.fail(errNotText)
		}
		return e.spendText(haystack) && strings.Contains(haystack, needle)
	case []any:
		return e.isAmong(args[0], haystack)
	default:
		return false
	}
}

func (e *env) isAmong(v any, list []any) bool {
	for _, element := range list {
		if !e.spend(1) || e.matches(v, element) {
			return e.err == nil
		}
	}
	return false
}

func (e *env) matches(v, element any) bool {
	if limits, ok := element.([]any); ok {
		return e.isInRange(v, limits)
	}
	switch v := v.(type) {
	case float64:
		return e.number(element) == v
	case int:
		e.number(element)
		return false
	default:
		return e.same(element, v)
	}
}

func (e *env) isInRange(v any, limits []any) bool {
	if len(limits) < 2 {
		e.fail(errTooFew)
		return false
	}
	n := e.number(v)
	return n >= e.number(limits[0]) && e.number(limits[1]) >= n
}

func merge(e *env, _ int, args []any) any {
	merged := make([]any, 0, len(args))
	for _, arg := range args {
		list, ok := arg.([]any)
		if !ok {
			merged = append(merged, arg)
			continue
		}
		if !e.spend(len(list)) {
			return nil
		}
		merged = append(merged, list...)
	}
	return merged
}

func mergeOne(e *env, _ int, v any) any {
	switch v.(type) {
	case bool, string, float64, int:
		return []any{v}
	default:
		return e.fail(errNeedsList)
	}
}

// set returns a copy of an object with one property changed.
func set(e *env, _ int, args []any) any {
	if len(args) == 0 {
		return nil
	}
	object, ok := args[0].(map[string]any)
	if len(args) < 3 || !ok {
		return args[0]
	}
	property, ok := args[1].(string)
	if !ok {
		return e.fail(errNotText)
	}
	if !e.spend(len(object)) {
		return nil
	}
	changed := make(map[string]any, len(object)+1)
	for key, value := range object {
		changed[key] = value
	}
	changed[property] = args[2]
	return changed
}

// missing lists the names for which the data has no value.
func missing(e *env, frame int, args []any) any {
	absent, _ := e.absent(e.frames[frame], args)
	return absent
}

func missingOne(e *env, frame int, arg any) any {
	name, ok := arg.(string)
	if !ok {
		return e.fail(errNeedsList)
	}
	return missing(e, frame, []any{name})
}

// missingSome lists the names without a value if fewer than a given number have
// one.
func missingSome(e *env, frame int, args []any) any {
	if len(args) < 2 {
		return e.fail(errTooFew)
	}
	needed := integer(e.number(args[0]))
	names, ok := args[1].([]any)
	if !ok {
		return e.fail(errNeedsList)
	}
	absent, present := e.absent(e.frames[frame], names)
	if needed > present {
		return absent
	}
	return []any{}
}

func (e *env) absent(data any, names []any) (absent []any, present int) {
	absent = []any{}
	for _, name := range names {
		if !e.spend(1) {
			return absent, present
		}
		if e.variable(name, data) == nil {
			absent = append(absent, name)
			continue
		}
		present++
	}
	return absent, present
}

// containing applies a test to two lists; fallback is the result for any other
// arguments.
func containing(test func(e *env, list, values []any) bool, fallback bool) func(*env, int, []any) any {
	return func(e *env, _ int, args []any) any {
		if len(args) != 2 {
			return fallback
		}
		list, ok := args[0].([]any)
		values, ok2 := args[1].([]any)
		if !ok || !ok2 {
			return fallback
		}
		return test(e, list, values)
	}
}

func containsAll(e *env, list, values []any) bool {
	for _, value := range values {
		if !e.contains(list, value) {
			return false
		}
	}
	return true
}

func containsAny(e *env, list, values []any) bool {
	for _, value := range values {
		if e.contains(list, value) {
			return true
		}
	}
	return false
}

func containsNone(e *env, list, values []any) bool { return !containsAny(e, list, values) }

func (e *env) contains(list []any, value any) bool {
	for _, element := range list {
		if !e.spend(1) {
			return false
		}
		if e.same(element, value) || isNumber(element) && isNumber(value) && e.number(element) == e.number(value) {
			return true
		}
	}
	return false
}
