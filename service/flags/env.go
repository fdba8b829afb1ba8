// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"maps"
)

// env is the state of one evaluation, and the data it reads.
type env struct {
	// attributes are the values in the context that rules read, by slot.
	attributes []attribute
	// context is the whole context; whole is the same decoded, for the rules that
	// may read any of it.
	context attribute
	whole   map[string]any

	// frames holds the data: the context as a whole, then the element of each
	// iteration.
	frames [MaxDepth + 2]any
	// stack holds arguments between their evaluation and the operator's.
	stack []any
	// steps is how many the evaluation may still take.
	steps int
	// err is the first failure. Parts return nil after it and the value that comes
	// out in the end is not used.
	err     error
	flagKey string
	now     int64
}

var errTooManySteps = errors.New("the evaluation took more steps than it may")

// evaluate returns a rule's value, nil if e.err is set.
func (e *env) evaluate(r *compiledRule, flagKey string, now int64) any {
	e.steps, e.flagKey, e.now, e.err = MaxSteps, flagKey, now, nil
	if r.readsAll {
		e.frames[0] = e.everything(r.readsFlagd)
	}
	value := r.eval(e)
	if r.frames > 1 || r.readsAll {
		clear(e.frames[:r.frames])
	}
	return value
}

// everything returns the whole context, with $flagd in it if it is asked for.
func (e *env) everything(withFlagd bool) map[string]any {
	if e.whole == nil {
		e.whole, _ = decodeScanned(e.context.text).(map[string]any)
		if e.whole == nil {
			e.whole = map[string]any{}
		}
		delete(e.whole, flagdKey)
	}
	if !withFlagd {
		return e.whole
	}
	all := make(map[string]any, len(e.whole)+1)
	maps.Copy(all, e.whole)
	all[flagdKey] = e.flagd()
	return all
}

// flagd is what rules see under $flagd.
func (e *env) flagd() map[string]any {
	return map[string]any{flagdFlagKey: e.flagKey, flagdTimestamp: float64(e.now)}
}

// attribute returns the value in a slot, nil where there is none.
func (e *env) attribute(slot int) any {
	if slot >= len(e.attributes) {
		return nil
	}
	a := &e.attributes[slot]
	if a.value == nil {
		a.value = a.box()
	}
	return a.value
}

// textIn returns the value in a slot if it is a text.
func (e *env) textIn(slot int) (text string, ok bool) {
	if slot >= len(e.attributes) {
		return "", false
	}
	if a := &e.attributes[slot]; a.kind == kindString {
		return a.text, true
	}
	return "", false
}

// numberIn returns the value in a slot if it is a number.
func (e *env) numberIn(slot int) (number float64, ok bool) {
	if slot >= len(e.attributes) {
		return 0, false
	}
	a := &e.attributes[slot]
	return a.number, a.kind == kindNumber
}

// fail ends the evaluation; the first failure is kept. It returns nil, the value
// of a part that failed.
func (e *env) fail(err error) any {
	if e.err == nil {
		e.err = err
	}
	return nil
}

// spend takes steps and says whether the evaluation may go on.
func (e *env) spend(steps int) bool {
	e.steps -= steps
	if e.steps < 0 {
		e.fail(errTooManySteps)
	}
	return e.err == nil
}

// spendText takes steps for work on text, of which short ones are free.
func (e *env) spendText(text string) bool { return e.spend(len(text) >> 6) }
