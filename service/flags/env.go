// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// env is the state of one evaluation with the data that it reads.
type env struct {
	// attributes are the context attributes that rules read, by slot.
	attributes []attribute
	// context is the whole context; decodedContext is the same, decoded, for rules
	// that may read any attribute.
	context        attribute
	decodedContext map[string]any

	// frames holds the data: the whole context, then the element of each enclosing
	// iteration.
	frames [MaxDepth + 2]any
	// stack holds evaluated arguments until their operator runs.
	stack []any
	// steps is the number of steps left.
	steps int
	// err is the first failure. After it all parts return nil, and the result is
	// not used.
	err     error
	flagKey string
	now     int64
}

var errTooManySteps = errors.New("the evaluation exceeded the step limit")

// evaluate returns a rule's value, nil if e.err is set.
func (e *env) evaluate(r *compiledRule, flagKey string, now int64) any {
	e.steps, e.flagKey, e.now, e.err = MaxSteps, flagKey, now, nil
	if r.readsAll {
		e.frames[0] = e.wholeContext(r.readsFlagd)
	}
	value := r.eval(e)
	if r.frames > 1 || r.readsAll {
		clear(e.frames[:r.frames])
	}
	return value
}

// wholeContext returns the decoded context, with $flagd if requested.
func (e *env) wholeContext(withFlagd bool) map[string]any {
	if e.decodedContext == nil {
		e.decodedContext, _ = decodeScanned(e.context.text).(map[string]any)
		if e.decodedContext == nil {
			e.decodedContext = map[string]any{}
		}
		delete(e.decodedContext, flagdKey)
	}
	if !withFlagd {
		return e.decodedContext
	}
	all := make(map[string]any, len(e.decodedContext)+1)
	maps.Copy(all, e.decodedContext)
	all[flagdKey] = e.flagd()
	return all
}

// flagd returns the value of $flagd.
func (e *env) flagd() map[string]any {
	return map[string]any{flagdFlagKey: e.flagKey, flagdTimestamp: float64(e.now)}
}

// attribute returns the value in a slot, nil if there is none.
func (e *env) attribute(slot int) any {
	if slot >= len(e.attributes) {
		return nil
	}
	a := &e.attributes[slot]
	if a.value == nil {
		a.value = a.decode()
	}
	return a.value
}

// stringAt returns the value in a slot if it is a string.
func (e *env) stringAt(slot int) (text string, ok bool) {
	if slot >= len(e.attributes) {
		return "", false
	}
	if a := &e.attributes[slot]; a.kind == kindString {
		return a.text, true
	}
	return "", false
}

// numberAt returns the value in a slot if it is a number.
func (e *env) numberAt(slot int) (number float64, ok bool) {
	if slot >= len(e.attributes) {
		return 0, false
	}
	a := &e.attributes[slot]
	return a.number, a.kind == kindNumber
}

// fail aborts the evaluation; the first failure is kept. It returns nil, the
// value of a failed part.
func (e *env) fail(err error) any {
	if e.err == nil {
		e.err = err
	}
	return nil
}

// spend consumes steps and reports whether the evaluation can continue.
func (e *env) spend(steps int) bool {
	e.steps -= steps
	if e.steps < 0 {
		e.fail(errTooManySteps)
	}
	return e.err == nil
}

// spendText consumes steps for work on a string; short strings are free.
func (e *env) spendText(text string) bool { return e.spend(len(text) >> 6) }

// The conversions are those of jsonlogic/v3 3.9.1, which has two kinds: a
// strict one for arithmetic, which fails for booleans and null, and
// JavaScript's for comparisons.

var (
	errNotNumber = errors.New("expected a number or a string")
	errNotText   = errors.New("expected a string or a number")
)

// isTrue reports whether a value is truthy: not false, 0, "", an empty list, an
// empty object or null.
func isTrue(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case int:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	default:
		return false
	}
}

func isNumber(v any) bool {
	switch v.(type) {
	case float64, int:
		return true
	default:
		return false
	}
}

// number is the strict conversion. A string that is not a number counts as 0.
func (e *env) number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case int:
		return float64(v)
	case string:
		e.spendText(v)
		value, _ := strconv.ParseFloat(v, 64)
		return value
	default:
		e.fail(errNotNumber)
		return 0
	}
}

// integer truncates a number. NaN and numbers that an int cannot hold become
// the smallest int, as in the library on amd64: a rule must not depend on the
// architecture.
func integer(number float64) int {
	if number >= math.MinInt64 && number < math.MaxInt64 {
		return int(number)
	}
	return math.MinInt64
}

// text is the strict conversion to a string; null counts as empty.
func (e *env) text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case int:
		return strconv.Itoa(v)
	case nil:
		return ""
	default:
		e.fail(errNotText)
		return ""
	}
}

// looseNumber is JavaScript's conversion; anything that is not a number is NaN.
func (e *env) looseNumber(v any) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case float64:
		return v
	case int:
		return float64(v)
	case bool:
		if v {
			return 1
		}
		return 0
	case string:
		return e.looseNumberOfText(v)
	default:
		return math.NaN()
	}
}

func (e *env) looseNumberOfText(text string) float64 {
	if !e.spendText(text) {
		return 0
	}
	if strings.TrimSpace(text) == "" {
		return 0
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return value
}

// equal is ==.
func (e *env) equal(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if s, ok := a.(string); ok {
		if t, ok := b.(string); ok {
			return len(s) == len(t) && e.spendText(s) && s == t
		}
	}
	return e.looseNumber(a) == e.looseNumber(b)
}

// identical is ===: the same JSON type, and equal.
func (e *env) identical(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.TypeOf(a).Kind() == reflect.TypeOf(b).Kind() && e.equal(a, b)
}

// less is <: strings are compared by code points, everything else as numbers.
func (e *env) less(a, b any) bool {
	if s, ok := a.(string); ok {
		if t, ok := b.(string); ok {
			return e.spendText(s) && s < t
		}
	}
	return e.looseNumber(b) > e.looseNumber(a)
}

func (e *env) lessOrEqual(a, b any) bool { return e.less(a, b) || e.equal(a, b) }

// same compares two values of the same type. As in the library it fails for two
// lists or two objects.
func (e *env) same(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if reflect.TypeOf(a) != reflect.TypeOf(b) {
		return false
	}
	if !reflect.TypeOf(a).Comparable() {
		e.fail(errors.New("lists and objects cannot be compared"))
		return false
	}
	if s, ok := a.(string); ok && !e.spendText(s) {
		return false
	}
	return a == b
}

// resultText returns a rule's result as the name of a variant: its JSON without
// quotes. ok is false for a value that JSON cannot represent (infinity).
func resultText(v any) (text string, ok bool) {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v), true
	default:
		encoded, err := json.Marshal(v)
		return strings.ReplaceAll(string(encoded), `"`, ""), err == nil
	}
}
