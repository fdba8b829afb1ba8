// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reason says why an outcome is what it is, in OpenFeature's words.
type Reason string

// Reasons of an outcome.
const (
	// ReasonStatic: the flag has no targeting.
	ReasonStatic Reason = "STATIC"
	// ReasonTargetingMatch: a rule chose the variant.
	ReasonTargetingMatch Reason = "TARGETING_MATCH"
	// ReasonDefault: a rule chose nothing, or there is no default variant, and then
	// the outcome has no value.
	ReasonDefault Reason = "DEFAULT"
	// ReasonDisabled: the flag is disabled; the outcome has no value.
	ReasonDisabled Reason = "DISABLED"
	// ReasonError: the outcome has an ErrorCode.
	ReasonError Reason = "ERROR"
)

// ErrorCode says what went wrong with an evaluation, in OpenFeature's words.
type ErrorCode string

// Error codes of an outcome.
const (
	// CodeParse: the rule cannot be evaluated as it is written.
	CodeParse ErrorCode = "PARSE_ERROR"
	// CodeGeneral: the rule chose something that is no variant, or took too many
	// steps.
	CodeGeneral ErrorCode = "GENERAL"
)

// Outcome is one of the things that a flag can answer. Outcomes belong to a Set
// and never change.
type Outcome struct {
	// ID numbers the outcomes of a Set from 0.
	ID int
	// Key is the flag's.
	Key string
	// Reason is always there.
	Reason Reason
	// Variant is the name of the variant, empty if there is no value.
	Variant string
	// Value is the variant's value as compact JSON, nil if there is none: the
	// caller's own default counts then.
	Value json.RawMessage
	// Metadata is the flag's metadata laid over the set's, as a compact JSON
	// object; nil if there is none.
	Metadata json.RawMessage
	// ErrorCode is empty unless the evaluation failed.
	ErrorCode ErrorCode
	// ErrorDetails is for people. It never quotes a rule or a context.
	ErrorDetails string
}

// Flag is one compiled flag, safe for concurrent use.
type Flag struct {
	// Key names the flag.
	Key string

	rule     *compiledRule
	metadata json.RawMessage
	outcomes []*Outcome

	// static is the outcome of a flag without a rule.
	static *Outcome
	// fallback is the outcome when a rule chooses nothing.
	fallback *Outcome
	// matches are the outcomes when a rule chooses a variant.
	matches map[string]*Outcome

	unparsable, mismatched, exhausted *Outcome
}

// add appends an outcome of the flag.
func (f *Flag) add(o Outcome) *Outcome {
	o.Key, o.Metadata = f.Key, f.metadata
	f.outcomes = append(f.outcomes, &o)
	return &o
}

// build prepares what a rule can come to.
func (f *Flag) build(variants map[string]json.RawMessage, fallback string, metadata json.RawMessage) {
	f.metadata = metadata
	f.fallback = f.add(Outcome{Reason: ReasonDefault, Variant: fallback, Value: variants[fallback]})
	f.matches = make(map[string]*Outcome, len(variants))
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		f.matches[name] = f.add(Outcome{Reason: ReasonTargetingMatch, Variant: name, Value: variants[name]})
	}
	f.unparsable = f.failure(CodeParse, "the targeting rule cannot be evaluated")
	f.mismatched = f.failure(CodeGeneral, "the targeting rule chose something that is not a variant")
	f.exhausted = f.failure(CodeGeneral, "the targeting rule takes too many steps")
}

func (f *Flag) failure(code ErrorCode, details string) *Outcome {
	return f.add(Outcome{Reason: ReasonError, ErrorCode: code, ErrorDetails: details})
}

// IsStatic says that the flag answers the same in every context.
func (f *Flag) IsStatic() bool { return f.rule == nil }

// Evaluate returns the flag's outcome for a context at a time in Unix seconds.
// The error explains an outcome that has an ErrorCode, for those who write
// rules; it is not for clients.
func (f *Flag) Evaluate(context Context, now int64) (*Outcome, error) {
	if f.rule == nil {
		return f.static, nil
	}
	e := newEnv(f.Key, f.data(context, now), now)
	defer e.release()
	result := f.rule.eval(e)
	switch {
	case errors.Is(e.err, errTooManySteps):
		return f.exhausted, e.err
	case e.err != nil:
		return f.unparsable, e.err
	default:
		return f.outcome(result)
	}
}

// data returns what the rule reads: the context, with $flagd in it if the rule
// may come upon it.
func (f *Flag) data(context Context, now int64) any {
	if !f.rule.readsFlagd {
		return context.attributes
	}
	data := make(map[string]any, len(context.attributes)+1)
	maps.Copy(data, context.attributes)
	data[flagdKey] = map[string]any{flagdFlagKey: f.Key, flagdTimestamp: float64(now)}
	return data
}

// outcome finds the variant that a rule's result names: null is none, anything
// else names a variant by its text.
func (f *Flag) outcome(result any) (*Outcome, error) {
	if result == nil {
		return f.fallback, nil
	}
	if name, ok := result.(string); ok {
		if match, ok := f.matches[name]; ok {
			return match, nil
		}
	}
	text, ok := resultText(result)
	if !ok {
		return f.unparsable, fmt.Errorf("the rule's result, %v, is not JSON", result)
	}
	if match, ok := f.matches[text]; ok {
		return match, nil
	}
	return f.mismatched, fmt.Errorf("the rule chose %.80q, which is not a variant", text)
}

// Set is all flags of a document, immutable and safe for concurrent use.
type Set struct {
	flags    map[string]*Flag
	sorted   []*Flag
	outcomes []*Outcome
	metadata json.RawMessage
}

func newSet(flags []*Flag, metadata json.RawMessage) *Set {
	set := &Set{flags: make(map[string]*Flag, len(flags)), sorted: flags, metadata: metadata}
	slices.SortFunc(set.sorted, func(a, b *Flag) int { return strings.Compare(a.Key, b.Key) })
	for _, flag := range set.sorted {
		set.flags[flag.Key] = flag
		for _, outcome := range flag.outcomes {
			outcome.ID = len(set.outcomes)
			set.outcomes = append(set.outcomes, outcome)
		}
	}
	return set
}

// Len is the number of flags in the set.
func (s *Set) Len() int { return len(s.sorted) }

// Flag returns the flag of that key.
func (s *Set) Flag(key string) (*Flag, bool) {
	flag, ok := s.flags[key]
	return flag, ok
}

// Flags returns all flags, sorted by key. The slice must not be changed.
func (s *Set) Flags() []*Flag { return s.sorted }

// Outcomes returns all that the set's flags can answer, in the order of their
// IDs. The slice must not be changed.
func (s *Set) Outcomes() []*Outcome { return s.outcomes }

// Metadata is the metadata of the set as a compact JSON object, nil if there is
// none.
func (s *Set) Metadata() json.RawMessage { return s.metadata }

// maxContextNesting is how deep a context may be nested.
const maxContextNesting = 64

// Context is what a caller says about the subject of an evaluation.
type Context struct{ attributes map[string]any }

// ParseContext reads a context from a JSON object; nothing at all or null is an
// empty one. An attribute $flagd is dropped, it is ours.
func ParseContext(data []byte) (Context, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || bytes.Equal(data, []byte("null")) {
		return Context{attributes: map[string]any{}}, nil
	}
	if nesting(data) > maxContextNesting {
		return Context{}, fmt.Errorf("the context is nested deeper than %d levels", maxContextNesting)
	}
	if data[0] != '{' {
		return Context{}, errors.New("the context is not an object")
	}
	var attributes map[string]any
	if err := json.Unmarshal(data, &attributes); err != nil {
		return Context{}, fmt.Errorf("the context is not valid JSON: %w", err)
	}
	delete(attributes, flagdKey)
	return Context{attributes: attributes}, nil
}

// nesting returns how deep brackets are nested in JSON text.
func nesting(data []byte) int {
	depth, deepest := 0, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		case '"':
			i = endOfString(data, i)
		}
	}
	return deepest
}

// endOfString returns where the string that starts at i ends.
func endOfString(data []byte, i int) int {
	for i++; i < len(data) && data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i
}
