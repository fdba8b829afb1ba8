// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"maps"
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
