// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Attributes are the paths in a context that rules read. They are determined
// when the rules are compiled, so that nothing else of a request is decoded.
type Attributes struct {
	// request selects values in a request's body.
	request *pathNode
	// slots is the number of paths that the whole set of flags reads.
	slots int
	time  bool
}

// NeedTime reports whether an evaluation reads the time.
func (a *Attributes) NeedTime() bool { return a.time }

// noAttributes are the attributes of a flag without a rule.
var noAttributes = newAttributeIndex().attributes()

// Special slots.
const (
	// noSlot marks a path that is only a prefix of selected ones.
	noSlot = -1
	// contextSlot is the whole context.
	contextSlot = -2
	// targetingKeySlot is the slot of the targeting key in every set of flags.
	targetingKeySlot = 0
)

// attributeIndex assigns slots to the paths that the rules of a document read.
type attributeIndex struct {
	slots map[string]int
	paths [][]string
}

func newAttributeIndex() *attributeIndex {
	p := &attributeIndex{slots: map[string]int{}}
	p.slot([]string{targetingKey})
	return p
}

// slot returns the slot of a path, whose parts contain no dots.
func (p *attributeIndex) slot(path []string) int {
	name := strings.Join(path, ".")
	slot, known := p.slots[name]
	if !known {
		slot = len(p.paths)
		p.slots[name] = slot
		p.paths = append(p.paths, path)
	}
	return slot
}

// attributes returns the attributes that the given rules read.
func (p *attributeIndex) attributes(rules ...*compiledRule) *Attributes {
	slots, time := map[int]struct{}{}, false
	for _, rule := range rules {
		maps.Copy(slots, rule.reads)
		time = time || rule.readsTime
	}
	context := &pathNode{name: "context", slot: contextSlot}
	for _, slot := range slices.Sorted(maps.Keys(slots)) {
		context.add(p.paths[slot], slot)
	}
	request := &pathNode{slot: noSlot}
	request.addChild(context)
	return &Attributes{request: request, slots: len(p.paths), time: time}
}

// pathNode is a node in the tree of selected paths.
type pathNode struct {
	name     string
	slot     int
	children []*pathNode
	// byName indexes the children if there are many.
	byName map[string]*pathNode
}

// maxLinearSearch is the number of names up to which comparing one after the
// other is faster than a map.
const maxLinearSearch = 8

func (n *pathNode) add(path []string, slot int) {
	for _, name := range path {
		child := n.child(name)
		if child == nil {
			child = &pathNode{name: name, slot: noSlot}
			n.addChild(child)
		}
		n = child
	}
	n.slot = slot
}

func (n *pathNode) addChild(child *pathNode) {
	n.children = append(n.children, child)
	switch {
	case n.byName != nil:
		n.byName[child.name] = child
	case len(n.children) > maxLinearSearch:
		n.byName = make(map[string]*pathNode, len(n.children))
		for _, c := range n.children {
			n.byName[c.name] = c
		}
	}
}

// child returns the child of that name, nil if nothing at or below it is
// selected.
func (n *pathNode) child(name string) *pathNode {
	if n.byName != nil {
		return n.byName[name]
	}
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// attribute is a value in a context, decoded on demand.
type attribute struct {
	// kind is kindNull if there is no value.
	kind kind
	// text is the value of a string, and the JSON text of everything else.
	text string
	// number is the value of a number.
	number float64
	// value is the decoded value, nil until it is first read.
	value any
}

func (a *attribute) decode() any {
	switch a.kind {
	case kindString:
		return a.text
	case kindNumber:
		return a.number
	case kindBool:
		return a.text == "true"
	case kindNull:
		return nil
	default:
		return decodeScanned(a.text)
	}
}

// decodeScanned decodes JSON that the scanner has validated.
func decodeScanned(text string) any {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return nil
	}
	return value
}

// descend follows one part of a path into a value; it returns nil if there is
// nothing. In a list the part is an index; one that is not a number is 0.
func descend(data any, part string) any {
	switch container := data.(type) {
	case map[string]any:
		return container[part]
	case []any:
		number, _ := strconv.ParseFloat(part, 64)
		if index := integer(number); index >= 0 && index < len(container) {
			return container[index]
		}
	}
	return nil
}
