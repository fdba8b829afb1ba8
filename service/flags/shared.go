// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"fmt"
	"maps"
	"sort"
)

// evaluator is a shared part of rules, referenced by {"$ref":"name"}.
type evaluator struct {
	path  *place
	value *node
	// defect is why flags that refer to it cannot be served; empty if they can.
	defect string
}

// readEvaluators reads $evaluators. A reference inside an evaluator is
// rejected: whether flagd resolves it depends on its map order, and cycles
// would never end.
func (p *parser) readEvaluators(n *node) {
	if n == nil || n.kind == kindNull {
		return
	}
	if n.kind != kindObject {
		p.report("", root("$evaluators"), n.offset, "the evaluators are %s and must be an object", n.kind)
		return
	}
	p.evaluators = make(map[string]evaluator, len(n.members))
	for _, m := range n.members {
		_, twice := p.evaluators[m.key]
		path := root("$evaluators").member(m.key)
		broken := evaluatorDefect(m, path, twice)
		if broken != "" {
			p.report("", path, m.offset, "the evaluator %s", broken)
		}
		p.evaluators[m.key] = evaluator{path: path, value: m.value, defect: broken}
	}
}

func evaluatorDefect(m member, path *place, twice bool) string {
	n := m.value
	switch {
	case m.unpaired:
		return "has a name with half of a surrogate pair"
	case twice:
		return "is defined more than once"
	case n.kind != kindObject:
		return "is " + n.kind.String() + " and must be an object"
	case len(n.members) == 0:
		return "is empty"
	case containsReference(n):
		return "refers to another with $ref, which only flags may do"
	}
	if flaws := n.flaws(path); len(flaws) > 0 {
		return "is invalid at " + flaws[0].path.String() + ": " + flaws[0].message
	}
	return ""
}

// reference returns the name in an object that is exactly {"$ref":"name"}.
func reference(n *node) (name string, ok bool) {
	if n.kind != kindObject || len(n.members) != 1 || n.members[0].key != "$ref" {
		return "", false
	}
	return n.members[0].value.text, n.members[0].value.kind == kindString
}

func containsReference(n *node) bool {
	if _, is := reference(n); is {
		return true
	}
	for _, m := range n.members {
		if containsReference(m.value) {
			return true
		}
	}
	for _, item := range n.items {
		if containsReference(item) {
			return true
		}
	}
	return false
}

// resolve returns a rule with its references replaced. A reference to an
// unknown evaluator is kept: an evaluation that reaches it returns PARSE_ERROR.
// Unchanged subtrees are shared.
func (p *parser) resolve(n *node) (*node, error) {
	if name, is := reference(n); is {
		found, known := p.evaluators[name]
		switch {
		case !known:
			return n, nil
		case found.defect != "":
			return nil, fmt.Errorf("the evaluator %s %s", quote(name), found.defect)
		default:
			return found.value, nil
		}
	}
	if !containsReference(n) {
		return n, nil
	}
	resolved := *n
	resolved.members = append([]member(nil), n.members...)
	resolved.items = append([]*node(nil), n.items...)
	for i := range resolved.members {
		value, err := p.resolve(resolved.members[i].value)
		if err != nil {
			return nil, err
		}
		resolved.members[i].value = value
	}
	for i := range resolved.items {
		item, err := p.resolve(resolved.items[i])
		if err != nil {
			return nil, err
		}
		resolved.items[i] = item
	}
	return &resolved, nil
}

// metadata is the metadata of a document or a flag: booleans, strings and
// numbers by name.
type metadata map[string]*node

// metadataError is a defect of metadata with its position.
type metadataError struct {
	path    *place
	offset  int
	message string
}

// readMetadata reads a metadata object. It returns the valid entries, also null
// ones, and all defects.
func readMetadata(n *node, path *place) (values metadata, defects []metadataError) {
	if n == nil || n.kind == kindNull {
		return nil, nil
	}
	if n.kind != kindObject {
		return nil, []metadataError{{path, n.offset, "the metadata is " + n.kind.String() + " and must be an object"}}
	}
	values = make(metadata, len(n.members))
	for _, m := range n.members {
		switch m.value.kind {
		case kindArray, kindObject:
			defects = append(defects, metadataError{
				path.member(m.key), m.value.offset,
				"metadata must be a boolean, a string or a number, not " + m.value.kind.String(),
			})
		default:
			values[m.key] = m.value
		}
	}
	return values, defects
}

// readMetadata reads the document's metadata. Invalid entries are reported and
// left out; the flags are served without them. Null entries are left out, too: there is
// nothing that they could remove, and they would be copied for each flag.
func (p *parser) readMetadata(n *node) {
	place := root("metadata")
	values, defects := readMetadata(n, place)
	for _, d := range defects {
		p.report("", d.path, d.offset, "%s", d.message)
	}
	if n != nil {
		for _, f := range n.flaws(place) {
			p.report("", f.path, f.offset, "%s", f.message)
			if f.path.parent == place {
				delete(values, f.path.key)
			}
		}
	}
	maps.DeleteFunc(values, func(_ string, value *node) bool { return value.kind == kindNull })
	p.metadata = values
}

// overriddenBy returns the metadata overridden by other metadata. As in flagd, null
// removes an entry.
func (m metadata) overriddenBy(over metadata) metadata {
	merged := make(metadata, len(m)+len(over))
	for name, value := range m {
		merged[name] = value
	}
	for name, value := range over {
		merged[name] = value
	}
	return merged
}

// encode returns the metadata as a JSON object sorted by name, nil if there is
// none.
func (m metadata) encode() json.RawMessage {
	names := make([]string, 0, len(m))
	for name, value := range m {
		if value.kind != kindNull {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	sort.Strings(names)
	object := node{kind: kindObject}
	for _, name := range names {
		object.members = append(object.members, member{key: name, value: m[name]})
	}
	return object.appendJSON(nil)
}
