// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"maps"
	"slices"
)

// Limits on what a document becomes. Some of its parts multiply: the metadata
// of the document is part of each flag's responses, a key of each of its flag's,
// and a shared evaluator of each rule that refers to it. Only products reach these
// limits; a document of MaxSize without any stays below them.
const (
	// MaxBulkSize is the maximum size of a response with all flags, in bytes.
	MaxBulkSize = 8 << 20
	// MaxResponsesSize is the maximum size of all possible responses of all flags
	// without their metadata, in bytes.
	MaxResponsesSize = 32 << 20
	// MaxTotalNodes is the maximum number of nodes in all rules with the references
	// replaced.
	MaxTotalNodes = 600_000
)

// responseOverhead is an upper bound of what a response has besides the key,
// the variant, its value and the metadata.
const responseOverhead = 144

// part is one of the parts of a document whose sizes are added up.
type part struct {
	path   *place
	offset int
	size   int
	// count is how many flags or references contain the part.
	count int
}

// larger returns the larger of two parts.
func (p part) larger(other part) part {
	if other.size > p.size {
		return other
	}
	return p
}

// budget adds up what the flags of a document become. It only counts: nothing
// has been merged, encoded or compiled yet.
type budget struct {
	parser *parser
	// metadata is the size of the document's metadata.
	metadata int

	bulk, responses, nodes int
	// The largest flag by each of these, and the uses of each evaluator.
	largestBulk, largestResponses, largestRule part
	evaluators                                 map[string]part
	flags                                      int
	// sizes are the nodes of each evaluator.
	sizes map[sizeKey]int
	// buffer is reused for encoding.
	buffer []byte
}

// sizeKey identifies an evaluator inside a number of iterations.
type sizeKey struct {
	name  string
	outer int
}

// CheckBudget returns an error for a document that Parse would not accept as a
// whole, without looking at the flags. The error is a *DocumentError.
func CheckBudget(data []byte) error {
	_, _, err := readDocument(data)
	return err
}

// checkBudget returns an error for a document that would become too large.
func (p *parser) checkBudget(definitions []definition, shared *node) error {
	b := &budget{parser: p, evaluators: map[string]part{}, sizes: map[sizeKey]int{}}
	p.sharedMetadata = p.metadata.encode()
	b.metadata = len(p.sharedMetadata)
	for _, d := range definitions {
		if d.value.kind == kindObject {
			b.add(d)
		}
	}
	switch {
	case b.bulk > MaxBulkSize:
		return b.bulkError(shared)
	case b.responses > MaxResponsesSize:
		return p.positions.errorAt(b.largestResponses.offset,
			"the possible responses of all flags would have %d bytes, %d of them those of %s with %d variants; the limit is %d",
			b.responses, b.largestResponses.size, b.largestResponses.path, b.largestResponses.count, MaxResponsesSize)
	case b.nodes > MaxTotalNodes:
		return b.nodesError()
	default:
		return nil
	}
}

func (b *budget) bulkError(shared *node) error {
	at := b.parser.positions
	if repeated := b.metadata * b.flags; shared != nil && repeated > b.largestBulk.size {
		return at.errorAt(shared.offset,
			"a response with all flags would have up to %d bytes, %d of them metadata: the %d bytes are part of each of the %d flags; the limit is %d",
			b.bulk, repeated, b.metadata, b.flags, MaxBulkSize)
	}
	return at.errorAt(b.largestBulk.offset, "a response with all flags would have up to %d bytes, %d of them %s; the limit is %d",
		b.bulk, b.largestBulk.size, b.largestBulk.path, MaxBulkSize)
}

func (b *budget) nodesError() error {
	largest := b.largestRule
	for _, name := range slices.Sorted(maps.Keys(b.evaluators)) {
		largest = largest.larger(b.evaluators[name])
	}
	at := b.parser.positions
	if largest.count > 0 {
		return at.errorAt(largest.offset, "the rules would have %d nodes, %d of them those of %s, to which they refer %d times; the limit is %d",
			b.nodes, largest.size, largest.path, largest.count, MaxTotalNodes)
	}
	return at.errorAt(largest.offset, "the rules would have %d nodes, %d of them in %s; the limit is %d",
		b.nodes, largest.size, largest.path, MaxTotalNodes)
}

// add adds a flag.
func (b *budget) add(d definition) {
	b.flags++
	key := b.textSize(d.key)
	outcomes, values, largest := 0, 0, 0
	if variants := d.value.member("variants"); variants != nil {
		for _, m := range variants.members {
			size := b.textSize(m.key) + b.size(m.value)
			outcomes, values, largest = outcomes+1, values+size, max(largest, size)
		}
	}
	variants := outcomes
	rule := d.value.member("targeting")
	if rule == nil || len(rule.members) == 0 {
		outcomes, values = 1, largest
	} else {
		// The default, and the errors.
		outcomes, values = outcomes+4, values+largest
	}
	bulk := responseOverhead + key + largest + b.metadata + b.size(d.value.member("metadata"))
	b.bulk += bulk
	b.largestBulk = b.largestBulk.larger(part{path: d.path, offset: d.offset, size: bulk})
	responses := outcomes*(responseOverhead+key) + values
	b.responses += responses
	b.largestResponses = b.largestResponses.larger(part{path: d.path, offset: d.offset, size: responses, count: variants})
	if rule != nil {
		nodes := min(b.rule(rule), MaxNodes)
		b.nodes += nodes
		b.largestRule = b.largestRule.larger(part{path: d.path, offset: d.offset, size: nodes})
	}
}

// textSize returns the size of text in JSON.
func (b *budget) textSize(text string) int {
	b.buffer = appendString(b.buffer[:0], text)
	return len(b.buffer)
}

// size returns the size of a node as compact JSON.
func (b *budget) size(n *node) int {
	if n == nil {
		return 0
	}
	b.buffer = n.appendJSON(b.buffer[:0])
	return len(b.buffer)
}

// rule returns the nodes of a flag's rule, up to MaxNodes, and records the
// evaluators that it refers to.
func (b *budget) rule(n *node) int {
	used := map[string]int{}
	s := ruleSize{limit: MaxNodes, evaluator: func(name string, outer int) int {
		used[name]++
		return b.evaluator(name, outer)
	}}
	total := s.value(n, 0)
	for name, times := range used {
		shared, known := b.parser.evaluators[name]
		if !known {
			continue
		}
		size := times * b.evaluator(name, 0)
		others := b.evaluators[name]
		b.evaluators[name] = part{
			path: shared.path, offset: shared.value.offset,
			size: others.size + min(size, MaxNodes), count: others.count + times,
		}
	}
	return total
}

// evaluator returns the nodes of an evaluator, 1 for an unknown one.
func (b *budget) evaluator(name string, outer int) int {
	key := sizeKey{name, outer}
	size, known := b.sizes[key]
	if known {
		return size
	}
	size = 1
	if found, ok := b.parser.evaluators[name]; ok && found.defect == "" {
		s := ruleSize{limit: MaxNodes, evaluator: func(string, int) int { return 1 }}
		size = s.value(found.value, outer)
	}
	b.sizes[key] = size
	return size
}

// ruleSize counts the nodes of a rule like the compiler, or a few more.
type ruleSize struct {
	limit int
	// evaluator returns the nodes of an evaluator inside a number of iterations.
	evaluator func(name string, outer int) int
	total     int
}

func (s *ruleSize) value(n *node, outer int) int {
	s.count(n, outer)
	return s.total
}

func (s *ruleSize) count(n *node, outer int) {
	s.total++
	if s.total > s.limit || n.constant() {
		return
	}
	if n.kind == kindArray {
		s.items(n, outer)
		return
	}
	if name, is := reference(n); is {
		s.total += s.evaluator(name, outer) - 1
		return
	}
	m := n.members[0]
	s.total += nameSize(m.key)
	switch m.key {
	case "var":
		s.variable(m.value, outer)
		return
	case "missing":
		for _, name := range namesOf(m.value) {
			s.total += lookupSize(name.text, 0) - 1
		}
	case "filter", "none", "all":
		outer++
	case "some":
		outer += 2
	}
	if m.value.kind == kindArray {
		s.items(m.value, outer)
		return
	}
	s.count(m.value, outer)
}

// variable counts a variable, whose computed name or default is compiled for each
// of the places in which it is looked up, and again for a substitution.
func (s *ruleSize) variable(args *node, outer int) {
	name, fallback, fixed := constantName(args)
	s.total += lookupSize(name, outer) - 1
	if fixed {
		args = fallback
	}
	if args != nil {
		before := s.total
		s.count(args, 0)
		s.total += (s.total - before) * 2 * outer
	}
}

func (s *ruleSize) items(n *node, outer int) {
	for _, item := range n.items {
		if s.count(item, outer); s.total > s.limit {
			return
		}
	}
}

// lookupSize returns the nodes for a variable: the parts and the length of its name,
// for each of the places in which it is looked up.
func lookupSize(name string, outer int) int {
	parts := 0
	for i := range len(name) {
		if name[i] != '.' && (i == 0 || name[i-1] == '.') {
			parts++
		}
	}
	return max(1, parts+nameSize(name)) * (outer + 1)
}

// pathSize returns the nodes for the parts of a name.
func pathSize(parts []string) int {
	size := len(parts)
	for _, part := range parts {
		size += nameSize(part)
	}
	return size
}

// bytesPerNode is the length of a name that counts like a node.
const bytesPerNode = 64

// nameSize returns the nodes for the length of a name, which is read again for each
// reference to the evaluator that it is in.
func nameSize(name string) int { return len(name) / bytesPerNode }

// encodedMetadata returns the metadata of the document overridden by a flag's.
// Flags without metadata of their own share the document's.
func (p *parser) encodedMetadata(own metadata) json.RawMessage {
	if len(own) == 0 {
		return p.sharedMetadata
	}
	return p.metadata.overriddenBy(own).encode()
}
