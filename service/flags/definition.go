// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// flagSetName is the metadata entry with the identifier of a set of flags.
const flagSetName = "flagSetId"

// flagSet returns the identifier of the set of flags that a flag with the given metadata
// belongs to.
func (p *parser) flagSet(own metadata) string {
	id, known := own[flagSetName]
	if !known {
		id, known = p.metadata[flagSetName]
	}
	if !known || id.kind != kindString {
		return ""
	}
	return id.text
}

// encoded returns the definition with the members that an evaluation uses. As in what
// flagd sends, no default variant is an empty one.
func (r *flagReader) encoded() json.RawMessage {
	object := node{kind: kindObject}
	add := func(name string, value *node) {
		object.members = append(object.members, member{key: name, value: value})
	}
	add("state", r.value.member("state"))
	add("variants", r.value.member("variants"))
	fallback := r.value.member("defaultVariant")
	if fallback == nil || fallback.kind == kindNull {
		fallback = &node{kind: kindString}
	}
	add("defaultVariant", fallback)
	for _, name := range []string{"targeting", "metadata"} {
		if value := r.value.member(name); value != nil && len(value.members) > 0 {
			add(name, value)
		}
	}
	return object.appendJSON(nil)
}

// encodedEvaluators returns the evaluators that flags may refer to, sorted by name.
func (p *parser) encodedEvaluators() json.RawMessage {
	object := node{kind: kindObject}
	for _, name := range slices.Sorted(maps.Keys(p.evaluators)) {
		if found := p.evaluators[name]; found.defect == "" {
			object.members = append(object.members, member{key: name, value: found.value})
		}
	}
	if len(object.members) == 0 {
		return nil
	}
	return object.appendJSON(nil)
}

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
