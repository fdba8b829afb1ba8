// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
)

const (
	// MaxSize is the maximum size of a flag document in bytes: 1 MiB, which is also
	// the limit of a ConfigMap.
	MaxSize = 1 << 20
	// maxNumber is the largest integer that every client can read without loss of
	// precision, 2^53-1.
	maxNumber = 1<<53 - 1
)

// States of a flag.
const (
	stateEnabled  = "ENABLED"
	stateDisabled = "DISABLED"
)

// Parse reads a document in flagd's format.
//
// The error is a *DocumentError: the document as a whole is unusable (it is not
// JSON, has no "flags", or exceeds MaxSize). Problems concern single flags: a
// flag that cannot be served is left out of the set, and the others are served.
// Problems are in document order.
func Parse(data []byte) (*Set, []Problem, error) {
	p, definitions, err := readDocument(data)
	if err != nil {
		return nil, nil, err
	}
	p.lintEvaluators()
	set := newSet(p.flags(definitions), p.index, p.sharedMetadata)
	set.rejected, set.evaluators = p.rejected, p.encodedEvaluators()
	return set, p.sortedProblems(), nil
}

// TooLarge returns the error for a document of more than MaxSize bytes.
func TooLarge(size int64) *DocumentError {
	return &DocumentError{Line: 1, Column: 1, Message: fmt.Sprintf("the document is %d bytes long; the limit is %d", size, MaxSize)}
}

// readDocument reads a document up to the flags.
func readDocument(data []byte) (*parser, []definition, error) {
	if len(data) > MaxSize {
		return nil, nil, TooLarge(int64(len(data)))
	}
	p := &parser{positions: newPositions(data), index: newAttributeIndex()}
	root, err := readTree(data, p.positions)
	if err != nil {
		return nil, nil, err
	}
	definitions, err := p.definitions(root)
	if err != nil {
		return nil, nil, err
	}
	p.readEvaluators(root.member("$evaluators"))
	p.readMetadata(root.member("metadata"))
	return p, definitions, p.checkBudget(definitions, root.member("metadata"))
}

// MaxProblems is the maximum number of problems that are listed.
const MaxProblems = 1000

// sortedProblems returns the problems in document order. The last one has the
// number of those that are not listed.
func (p *parser) sortedProblems() []Problem {
	sort.SliceStable(p.problems, func(i, j int) bool { return p.problems[i].before(p.problems[j]) })
	problems := slices.Compact(p.problems)
	if p.unlisted > 0 {
		problems = append(problems, Problem{
			Path: "flags", Line: 1, Column: 1, Message: fmt.Sprintf("there are %d more problems, which are not listed", p.unlisted),
		})
	}
	return problems
}

// Validate returns the problems of a document as messages, like Parse, and keeps nothing of
// it: each flag is dropped once it is checked. It ends with the context, with its error.
func Validate(ctx context.Context, data []byte) ([]string, error) {
	p, definitions, err := readDocument(data)
	if err != nil {
		return nil, err
	}
	p.lintEvaluators()
	if err := p.eachFlag(definitions, func(*Flag) error { return ctx.Err() }); err != nil {
		return nil, fmt.Errorf("validating %d flags: %w", len(definitions), err)
	}
	problems := p.sortedProblems()
	messages := make([]string, len(problems))
	for i, p := range problems {
		messages[i] = p.String()
	}
	return messages, nil
}

// before orders problems by their position in the document.
func (p Problem) before(other Problem) bool {
	if p.Line != other.Line {
		return p.Line < other.Line
	}
	return p.Column < other.Column
}

// parser holds the state shared by all flags of a document.
type parser struct {
	positions  positions
	evaluators map[string]evaluator
	metadata   metadata
	// sharedMetadata is the document's metadata as compact JSON.
	sharedMetadata json.RawMessage
	// index numbers the attributes that the rules of all flags read.
	index    *attributeIndex
	problems []Problem
	// unlisted is the number of problems beyond MaxProblems.
	unlisted int
	// rejected are the keys of the invalid flags.
	rejected map[string]struct{}
}

// report adds a problem; flag is empty for the parts that flags share.
func (p *parser) report(flag string, path *place, offset int, format string, values ...any) {
	if len(p.problems) == MaxProblems {
		p.unlisted++
		return
	}
	line, column := p.positions.lineColumn(offset)
	p.problems = append(p.problems, Problem{
		Flag: flag, Path: path.String(), Line: line, Column: column, Message: fmt.Sprintf(format, values...),
	})
}

// adviser returns a function that adds problems of a flag which is served
// nevertheless.
func (p *parser) adviser(flag string) func(n *node, at *place, format string, values ...any) {
	return func(n *node, at *place, format string, values ...any) {
		before := len(p.problems)
		p.report(flag, at, n.offset, format, values...)
		for i := range p.problems[before:] {
			p.problems[before+i].Served = true
		}
	}
}

// definition is a flag as written in the document.
type definition struct {
	key    string
	path   *place
	offset int
	value  *node
	// unpaired means that the key has half of a surrogate pair.
	unpaired bool
}

// definitions returns the flags: an object by key or, as flagd accepts too, a
// list of objects with a "key".
func (p *parser) definitions(root *node) ([]definition, error) {
	if root.kind != kindObject {
		return nil, p.positions.errorAt(root.offset, "the document is %s and must be an object", root.kind)
	}
	if twice, found := root.duplicate(); found {
		return nil, p.positions.errorAt(twice.offset, "duplicate key %s", quote(twice.key))
	}
	flags := root.member("flags")
	if flags == nil {
		return nil, p.positions.errorAt(root.offset, "the document has no \"flags\" object")
	}
	switch flags.kind {
	case kindObject:
		return definitionsByKey(flags), nil
	case kindArray:
		return p.definitionsInList(flags), nil
	default:
		return nil, p.positions.errorAt(flags.offset, "\"flags\" is %s and must be an object", flags.kind)
	}
}

func definitionsByKey(flags *node) []definition {
	list := make([]definition, 0, len(flags.members))
	for _, m := range flags.members {
		list = append(list, definition{key: m.key, path: root("flags").member(m.key), offset: m.offset, value: m.value, unpaired: m.unpaired})
	}
	return list
}

func (p *parser) definitionsInList(flags *node) []definition {
	list := make([]definition, 0, len(flags.items))
	for i, item := range flags.items {
		path := root("flags").item(i)
		key := item.member("key")
		if key == nil || key.kind != kindString {
			p.report("", path, item.offset, "a flag in a list must be an object with a \"key\" that is a string")
			continue
		}
		list = append(list, definition{key: key.text, path: path, offset: item.offset, value: item})
	}
	return list
}

// flags compiles the valid definitions.
func (p *parser) flags(definitions []definition) []*Flag {
	flags := make([]*Flag, 0, len(definitions))
	_ = p.eachFlag(definitions, func(flag *Flag) error {
		if flag != nil {
			flags = append(flags, flag)
		}
		return nil
	})
	return flags
}

// eachFlag compiles the definitions one after the other until use returns an error. An
// invalid one is nil.
func (p *parser) eachFlag(definitions []definition, use func(*Flag) error) error {
	count := make(map[string]int, len(definitions))
	for _, d := range definitions {
		count[d.key]++
	}
	p.rejected = map[string]struct{}{}
	for _, d := range definitions {
		if count[d.key] > 1 {
			p.report(d.key, d.path, d.offset, "the flag is defined %d times, so none of the definitions is used", count[d.key])
			p.rejected[d.key] = struct{}{}
			continue
		}
		flag := p.flag(d)
		if flag == nil {
			p.rejected[d.key] = struct{}{}
		}
		if err := use(flag); err != nil {
			return err
		}
	}
	return nil
}

// flag compiles one definition. If it is invalid, flag reports all its problems
// and returns nil.
func (p *parser) flag(d definition) *Flag {
	r := &flagReader{parser: p, definition: d}
	return r.read()
}

// flagReader reads one definition and records whether it was rejected.
type flagReader struct {
	parser *parser
	definition
	rejected bool
}

// reject reports a problem that makes the flag invalid.
func (r *flagReader) reject(path *place, offset int, format string, values ...any) {
	r.rejected = true
	r.parser.report(r.key, path, offset, format, values...)
}

func (r *flagReader) read() *Flag {
	switch {
	case r.key == "":
		r.reject(r.path, r.offset, "the flag's key is empty")
	case r.unpaired:
		r.reject(r.path, r.offset, unpairedMessage)
	case r.value.kind != kindObject:
		r.reject(r.path, r.value.offset, "the flag is %s and must be an object", r.value.kind)
	default:
		for _, flaw := range r.value.flaws(r.path) {
			r.reject(flaw.path, flaw.offset, "%s", flaw.message)
		}
	}
	if r.rejected {
		return nil
	}
	return r.compile()
}

func (r *flagReader) compile() *Flag {
	enabled := r.state()
	variants := r.variants()
	fallback := r.defaultVariant(variants)
	meta := r.metadata()
	rule := r.targeting(variants)
	if r.rejected {
		return nil
	}
	flag := &Flag{
		Key: r.key, FlagSet: r.parser.flagSet(meta), Default: variants[fallback], Definition: r.encoded(),
		attributes: noAttributes, metadata: r.parser.encodedMetadata(meta),
	}
	switch {
	case !enabled:
		flag.static = flag.add(Outcome{Reason: ReasonDisabled})
	case rule == nil && fallback == "":
		flag.static = flag.add(Outcome{Reason: ReasonDefault})
	case rule == nil:
		flag.static = flag.add(Outcome{Reason: ReasonStatic, Variant: fallback, Value: variants[fallback]})
	default:
		flag.rule, flag.attributes = rule, r.parser.index.attributes(rule)
		flag.addResults(variants, fallback)
	}
	return flag
}

func (r *flagReader) state() (enabled bool) {
	state, path := r.value.member("state"), r.path.member("state")
	switch {
	case state == nil:
		r.reject(path, r.value.offset, "the flag has no state; it must be %q or %q", stateEnabled, stateDisabled)
	case state.kind != kindString || state.text != stateEnabled && state.text != stateDisabled:
		r.reject(path, state.offset, "the state must be %q or %q", stateEnabled, stateDisabled)
	}
	return state != nil && state.text == stateEnabled
}

// variants returns each variant's value as compact JSON.
func (r *flagReader) variants() map[string]json.RawMessage {
	variants, path := r.value.member("variants"), r.path.member("variants")
	switch {
	case variants == nil:
		r.reject(path, r.value.offset, "the flag has no variants")
		return nil
	case variants.kind != kindObject:
		r.reject(path, variants.offset, "the variants are %s and must be an object", variants.kind)
		return nil
	case len(variants.members) == 0:
		r.reject(path, variants.offset, "the flag has no variants")
		return nil
	}
	values := make(map[string]json.RawMessage, len(variants.members))
	first := variants.members[0].value
	for _, m := range variants.members {
		r.checkVariant(m, first, path.member(m.key))
		values[m.key] = m.value.appendJSON(nil)
	}
	return values
}

// checkVariant validates a variant against the schema: a boolean, a string, a
// number or an object, of the same type as the flag's other variants. An empty
// name is that of no default variant.
func (r *flagReader) checkVariant(m member, first *node, path *place) {
	if m.key == "" {
		r.reject(path, m.offset, "the name of a variant must not be empty")
	}
	switch {
	case m.value.kind == kindNull || m.value.kind == kindArray:
		r.reject(path, m.value.offset, "a variant must be a boolean, a string, a number or an object, not %s", m.value.kind)
	case m.value.kind != first.kind:
		r.reject(path, m.value.offset, "all variants must have the same type: this is %s and the first is %s", m.value.kind, first.kind)
	case m.value.kind == kindNumber:
		value, ok := m.value.number()
		if !ok || value > maxNumber || value < -maxNumber {
			r.reject(path, m.value.offset, "%s is beyond 2^53-1, the largest integer that clients can read without loss of precision", shorten(m.value.text))
		}
	}
}

// defaultVariant returns the name of the default variant, empty if there is
// none: flagd treats absent, null and empty alike.
func (r *flagReader) defaultVariant(variants map[string]json.RawMessage) string {
	name, path := r.value.member("defaultVariant"), r.path.member("defaultVariant")
	if name == nil || name.kind == kindNull {
		return ""
	}
	if name.kind != kindString {
		r.reject(path, name.offset, "the default variant is %s and must be a string or null", name.kind)
		return ""
	}
	if _, known := variants[name.text]; !known && name.text != "" {
		r.reject(path, name.offset, "%s is not one of the variants", quote(name.text))
	}
	return name.text
}

// metadata returns the flag's own metadata.
func (r *flagReader) metadata() metadata {
	own, defects := readMetadata(r.value.member("metadata"), r.path.member("metadata"))
	for _, d := range defects {
		r.reject(d.path, d.offset, "%s", d.message)
	}
	return own
}

// targeting compiles the rule. It returns nil if there is none: it is absent,
// null or exactly {}.
func (r *flagReader) targeting(variants map[string]json.RawMessage) *compiledRule {
	targeting, path := r.value.member("targeting"), r.path.member("targeting")
	if targeting == nil || targeting.kind == kindNull {
		return nil
	}
	if targeting.kind != kindObject {
		r.reject(path, targeting.offset, "the targeting is %s and must be an object", targeting.kind)
		return nil
	}
	if len(targeting.members) == 0 {
		return nil
	}
	resolved, err := r.parser.resolve(targeting)
	if err != nil {
		r.reject(path, targeting.offset, "%s", err)
		return nil
	}
	compiler := compiler{index: r.parser.index}
	rule, err := compiler.compile(resolved, path)
	var bound *limitError
	if errors.As(err, &bound) {
		r.reject(bound.path, bound.offset, "%s", bound.message)
		return nil
	}
	r.lint(targeting, path, variants)
	return rule
}

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
