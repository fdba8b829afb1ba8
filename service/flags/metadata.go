// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"sort"
)

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
// left out; the flags are served without them.
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
