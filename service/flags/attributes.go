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

// Attributes are the places in a context that rules read. They are found out
// when the rules are compiled, so that nothing else of a request is decoded.
type Attributes struct {
	// request is what is wanted of a request's body.
	request *wanted
	// slots is how many places the whole set of flags reads.
	slots int
	time  bool
}

// NeedTime says whether an evaluation looks at the time.
func (a *Attributes) NeedTime() bool { return a.time }

// noAttributes are what a flag without a rule reads.
var noAttributes = newPlaces().attributes()

// Slots with a meaning of their own.
const (
	// noSlot marks a place on the way to others.
	noSlot = -1
	// contextSlot marks the context itself.
	contextSlot = -2
	// targetingKeySlot is the targeting key's in every set of flags.
	targetingKeySlot = 0
)

// places numbers the places that the rules of one document read.
type places struct {
	slots map[string]int
	paths [][]string
}

func newPlaces() *places {
	p := &places{slots: map[string]int{}}
	p.slot([]string{targetingKey})
	return p
}

// slot returns the number of the place that a path leads to. The parts of a path
// have no dots.
func (p *places) slot(path []string) int {
	name := strings.Join(path, ".")
	slot, known := p.slots[name]
	if !known {
		slot = len(p.paths)
		p.slots[name] = slot
		p.paths = append(p.paths, path)
	}
	return slot
}

// attributes are what some rules read.
func (p *places) attributes(rules ...*compiledRule) *Attributes {
	slots, time := map[int]struct{}{}, false
	for _, rule := range rules {
		maps.Copy(slots, rule.reads)
		time = time || rule.readsTime
	}
	context := &wanted{name: "context", slot: contextSlot}
	for _, slot := range slices.Sorted(maps.Keys(slots)) {
		context.add(p.paths[slot], slot)
	}
	request := &wanted{slot: noSlot}
	request.adopt(context)
	return &Attributes{request: request, slots: len(p.paths), time: time}
}

// wanted is a place in a request, and the places under it.
type wanted struct {
	name     string
	slot     int
	children []*wanted
	// byName finds a child among many.
	byName map[string]*wanted
}

// manyNames is how many names it takes for a look-up in a map to be faster than
// one comparison after the other.
const manyNames = 8

func (w *wanted) add(path []string, slot int) {
	for _, name := range path {
		child := w.child(name)
		if child == nil {
			child = &wanted{name: name, slot: noSlot}
			w.adopt(child)
		}
		w = child
	}
	w.slot = slot
}

func (w *wanted) adopt(child *wanted) {
	w.children = append(w.children, child)
	if len(w.children) <= manyNames {
		return
	}
	w.byName = make(map[string]*wanted, len(w.children))
	for _, c := range w.children {
		w.byName[c.name] = c
	}
}

// child returns the place of that name, nil where it is not wanted.
func (w *wanted) child(name string) *wanted {
	if w.byName != nil {
		return w.byName[name]
	}
	for _, c := range w.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// attribute is a value in a context, decoded as far as anybody has asked.
type attribute struct {
	// kind is kindNull where there is no value.
	kind kind
	// text is a string's value, and the JSON of everything else.
	text string
	// number is a number's value.
	number float64
	// value is the value as rules have it, nil until the first one asks.
	value any
}

func (a *attribute) box() any {
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

// decodeScanned decodes JSON that the scanner has found fit.
func decodeScanned(text string) any {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return nil
	}
	return value
}

// step follows one part of a path into a value, nil where it leads nowhere. In a
// list the part is an index, and one that is no number is 0.
func step(data any, part string) any {
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
