// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// Reason is OpenFeature's reason for an outcome.
type Reason string

// Reasons of an outcome.
const (
	// ReasonStatic: the flag has no targeting.
	ReasonStatic Reason = "STATIC"
	// ReasonTargetingMatch: a rule chose the variant.
	ReasonTargetingMatch Reason = "TARGETING_MATCH"
	// ReasonDefault: the rule returned null, or there is no default variant, in
	// which case the outcome has no value.
	ReasonDefault Reason = "DEFAULT"
	// ReasonDisabled: the flag is disabled; the outcome has no value.
	ReasonDisabled Reason = "DISABLED"
	// ReasonError: the outcome has an ErrorCode.
	ReasonError Reason = "ERROR"
)

// ErrorCode is OpenFeature's error code for a failed evaluation.
type ErrorCode string

// Error codes of an outcome.
const (
	// CodeParse: the rule cannot be evaluated.
	CodeParse ErrorCode = "PARSE_ERROR"
	// CodeGeneral: the rule returned something that is not a variant, or exceeded
	// MaxSteps.
	CodeGeneral ErrorCode = "GENERAL"
)

// Outcome is one possible result of a flag. Outcomes belong to a Set and are
// immutable.
type Outcome struct {
	// ID numbers the outcomes of a Set from 0.
	ID int
	// Key is the flag's key.
	Key string
	// Reason is always set.
	Reason Reason
	// Variant is the name of the variant, empty if there is no value.
	Variant string
	// Value is the variant's value as compact JSON, nil if there is none: the
	// client then uses its code default.
	Value json.RawMessage
	// Metadata is the set's metadata overridden by the flag's, as a compact JSON
	// object; nil if there is none. Flags without metadata of their own share the
	// set's bytes.
	Metadata json.RawMessage
	// ErrorCode is empty unless the evaluation failed.
	ErrorCode ErrorCode
	// ErrorDetails is a human-readable explanation. It never quotes a rule or a
	// context.
	ErrorDetails string
}

// Flag is one compiled flag, safe for concurrent use.
type Flag struct {
	// Key is the flag's key.
	Key string
	// FlagSet is the identifier of the set of flags that the flag belongs to: the string
	// flagSetId of its metadata, or else of the document's; empty if there is none.
	FlagSet string
	// Default is the value of the default variant as compact JSON, nil if there is none.
	Default json.RawMessage
	// Definition is the flag as the document defines it, as a compact JSON object with
	// the members that an evaluation uses. Its targeting may refer to the set's Evaluators.
	Definition json.RawMessage

	rule     *compiledRule
	metadata json.RawMessage
	outcomes []*Outcome
	// attributes are the context attributes that the rule reads.
	attributes *Attributes

	// static is the outcome of a flag without a rule.
	static *Outcome
	// fallback is the outcome when the rule returns null.
	fallback *Outcome
	// matches are the outcomes when the rule selects a variant; byName indexes them
	// for flags with many variants. longest is the length of the longest name.
	matches []*Outcome
	byName  map[string]*Outcome
	longest int

	unparsable, mismatched, exhausted *Outcome
}

// add appends an outcome of the flag.
func (f *Flag) add(o Outcome) *Outcome {
	o.Key, o.Metadata = f.Key, f.metadata
	f.outcomes = append(f.outcomes, &o)
	return &o
}

// addResults adds the possible outcomes of a rule.
func (f *Flag) addResults(variants map[string]json.RawMessage, fallback string) {
	f.fallback = f.add(Outcome{Reason: ReasonDefault, Variant: fallback, Value: variants[fallback]})
	f.byName = make(map[string]*Outcome, len(variants))
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		match := f.add(Outcome{Reason: ReasonTargetingMatch, Variant: name, Value: variants[name]})
		f.matches, f.byName[name], f.longest = append(f.matches, match), match, max(f.longest, len(name))
	}
	f.unparsable = f.failure(CodeParse, "the targeting rule cannot be evaluated")
	f.mismatched = f.failure(CodeGeneral, "the targeting rule returned something that is not a variant")
	f.exhausted = f.failure(CodeGeneral, "the targeting rule exceeds the step limit")
}

func (f *Flag) failure(code ErrorCode, details string) *Outcome {
	return f.add(Outcome{Reason: ReasonError, ErrorCode: code, ErrorDetails: details})
}

// Attributes returns the context attributes that an evaluation of the flag
// reads.
func (f *Flag) Attributes() *Attributes { return f.attributes }

// Evaluate returns the flag's outcome for a context, into which the attributes
// of the flag or of its set were read, at a time in Unix seconds. The error
// explains an outcome that has an ErrorCode to the authors of rules; it is not
// for clients.
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

// A rule's result may be client data, which must not appear in an error.
var (
	errNotJSON   = errors.New("the rule returned a number that JSON cannot represent")
	errNoVariant = errors.New("the rule returned something that is not a variant")
)

// outcome returns the outcome for a rule's result: null selects the default,
// anything else names a variant by its string form.
func (f *Flag) outcome(result any) (*Outcome, error) {
	if result == nil {
		return f.fallback, nil
	}
	if name, ok := result.(string); ok {
		if len(name) > f.longest {
			return f.mismatched, errNoVariant
		}
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

// match returns the outcome for a variant, or nil if the flag has no such
// variant.
func (f *Flag) match(name string) *Outcome {
	if len(f.matches) > maxLinearSearch {
		return f.byName[name]
	}
	for _, match := range f.matches {
		if match.Variant == name {
			return match
		}
	}
	return nil
}

// Set holds all flags of a document. It is immutable and safe for concurrent
// use.
type Set struct {
	flags  map[string]*Flag
	sorted []*Flag
	// rejected are the keys of the flags that were left out as invalid.
	rejected map[string]struct{}
	outcomes []*Outcome
	metadata json.RawMessage
	// evaluators are the shared parts of rules.
	evaluators json.RawMessage
	// attributes are the context attributes that the rules of all flags read.
	attributes *Attributes
}

func newSet(flags []*Flag, places *attributeIndex, metadata json.RawMessage) *Set {
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

// Len returns the number of flags in the set.
func (s *Set) Len() int { return len(s.sorted) }

// Flag returns the flag with the given key.
func (s *Set) Flag(key string) (*Flag, bool) {
	flag, ok := s.flags[key]
	return flag, ok
}

// Rejected reports whether the document has a flag with the given key that was
// left out because it is invalid.
func (s *Set) Rejected(key string) bool {
	_, rejected := s.rejected[key]
	return rejected
}

// Flags returns all flags, sorted by key. Callers must not modify the slice.
func (s *Set) Flags() []*Flag { return s.sorted }

// Outcomes returns all possible outcomes of the set's flags, ordered by ID.
// Callers must not modify the slice.
func (s *Set) Outcomes() []*Outcome { return s.outcomes }

// Attributes returns the context attributes that an evaluation of all flags
// reads.
func (s *Set) Attributes() *Attributes { return s.attributes }

// Metadata returns the set's metadata as a compact JSON object, nil if there is
// none.
func (s *Set) Metadata() json.RawMessage { return s.metadata }

// Evaluators returns the valid $evaluators of the document as a compact JSON object, nil
// if there are none.
func (s *Set) Evaluators() json.RawMessage { return s.evaluators }

// Changes are the keys of the flags that differ between two sets, sorted.
type Changes struct{ Added, Updated, Removed []string }

// ChangesSince returns what differs from an earlier set. A flag whose rule refers to the
// set's evaluators changes with them, and each with the metadata of the document.
func (s *Set) ChangesSince(earlier *Set) Changes {
	var changes Changes
	sameEvaluators := bytes.Equal(s.evaluators, earlier.evaluators)
	for _, flag := range s.sorted {
		before, known := earlier.flags[flag.Key]
		switch {
		case !known:
			changes.Added = append(changes.Added, flag.Key)
		case !bytes.Equal(flag.Definition, before.Definition), !bytes.Equal(flag.metadata, before.metadata),
			!sameEvaluators && bytes.Contains(flag.Definition, []byte(`"$ref"`)):
			changes.Updated = append(changes.Updated, flag.Key)
		}
	}
	for _, flag := range earlier.sorted {
		if _, kept := s.flags[flag.Key]; !kept {
			changes.Removed = append(changes.Removed, flag.Key)
		}
	}
	return changes
}
