// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"errors"
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
	// attributes are what the rule reads.
	attributes *Attributes

	// static is the outcome of a flag without a rule.
	static *Outcome
	// fallback is the outcome when a rule chooses nothing.
	fallback *Outcome
	// matches are the outcomes when a rule chooses a variant; byName finds one among
	// many.
	matches []*Outcome
	byName  map[string]*Outcome

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
	f.byName = make(map[string]*Outcome, len(variants))
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		match := f.add(Outcome{Reason: ReasonTargetingMatch, Variant: name, Value: variants[name]})
		f.matches, f.byName[name] = append(f.matches, match), match
	}
	f.unparsable = f.failure(CodeParse, "the targeting rule cannot be evaluated")
	f.mismatched = f.failure(CodeGeneral, "the targeting rule chose something that is not a variant")
	f.exhausted = f.failure(CodeGeneral, "the targeting rule takes too many steps")
}

func (f *Flag) failure(code ErrorCode, details string) *Outcome {
	return f.add(Outcome{Reason: ReasonError, ErrorCode: code, ErrorDetails: details})
}

// Attributes are what an evaluation of the flag reads of a context.
func (f *Flag) Attributes() *Attributes { return f.attributes }

// Evaluate returns the flag's outcome at a time in Unix seconds for a context,
// into which the flag's attributes were read, or its set's. The error explains an
// outcome that has an ErrorCode, for those who write rules; it is not for clients.
func (f *Flag) Evaluate(c *Context, now int64) (*Outcome, error) {
	if f.rule == nil {
		return f.static, nil
	}
	result := c.evaluate(f.rule, f.Key, now)
	switch {
	case c.err == nil:
		return f.outcome(result)
	case errors.Is(c.err, errTooManySteps):
		return f.exhausted, c.err
	default:
		return f.unparsable, c.err
	}
}

// What a rule came to may be a caller's data, which has no place in an error.
var (
	errNotJSON   = errors.New("the rule came to a number that JSON does not have")
	errNoVariant = errors.New("the rule came to something that is not a variant")
)

// outcome finds the variant that a rule's result names: null is none, anything
// else names a variant by its text.
func (f *Flag) outcome(result any) (*Outcome, error) {
	if result == nil {
		return f.fallback, nil
	}
	if name, ok := result.(string); ok {
		if match := f.match(name); match != nil {
			return match, nil
		}
	}
	text, ok := resultText(result)
	if !ok {
		return f.unparsable, errNotJSON
	}
	if match := f.match(text); match != nil {
		return match, nil
	}
	return f.mismatched, errNoVariant
}

// match returns the outcome for a variant, nil if there is no such variant.
func (f *Flag) match(name string) *Outcome {
	if len(f.matches) > manyNames {
		return f.byName[name]
	}
	for _, match := range f.matches {
		if match.Variant == name {
			return match
		}
	}
	return nil
}

// Set is all flags of a document, immutable and safe for concurrent use.
type Set struct {
	flags    map[string]*Flag
	sorted   []*Flag
	outcomes []*Outcome
	metadata json.RawMessage
	// attributes are what the rules of all flags read.
	attributes *Attributes
}

func newSet(flags []*Flag, places *places, metadata json.RawMessage) *Set {
	set := &Set{flags: make(map[string]*Flag, len(flags)), sorted: flags, metadata: metadata}
	var rules []*compiledRule
	slices.SortFunc(set.sorted, func(a, b *Flag) int { return strings.Compare(a.Key, b.Key) })
	for _, flag := range set.sorted {
		set.flags[flag.Key] = flag
		for _, outcome := range flag.outcomes {
			outcome.ID = len(set.outcomes)
			set.outcomes = append(set.outcomes, outcome)
		}
		if flag.rule != nil {
			rules = append(rules, flag.rule)
		}
	}
	set.attributes = places.attributes(rules...)
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

// Attributes are what an evaluation of all flags reads of a context.
func (s *Set) Attributes() *Attributes { return s.attributes }

// Metadata is the metadata of the set as a compact JSON object, nil if there is
// none.
func (s *Set) Metadata() json.RawMessage { return s.metadata }
