// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"fmt"
	"strings"
	"testing"
)

// TestEveryReferenceGraph tries all graphs of references among four evaluators,
// self-references included. Rules may use the evaluators without references;
// the others are reported and rejected.
func TestEveryReferenceGraph(t *testing.T) {
	const nodes = 4
	var references [nodes]*node
	for i := range references {
		references[i] = tree(t, fmt.Sprintf(`{"$ref":"e%d"}`, i))
	}
	var evaluators [1 << nodes]*node
	for edges := range evaluators {
		text := `{"and":[true`
		for to := range nodes {
			if edges>>to&1 == 1 {
				text += fmt.Sprintf(`,{"$ref":"e%d"}`, to)
			}
		}
		evaluators[edges] = tree(t, text+`]}`)
	}
	for graph := range 1 << (nodes * nodes) {
		document := &node{kind: kindObject}
		p := &parser{positions: newPositions(nil)}
		for i := range nodes {
			edges := graph >> (i * nodes) & (1<<nodes - 1)
			document.members = append(document.members, member{key: fmt.Sprintf("e%d", i), value: evaluators[edges]})
		}
		p.readEvaluators(document)
		invalid := 0
		for i, m := range document.members {
			resolved, err := p.resolve(references[i])
			if refers := m.value != evaluators[0]; (err != nil) != refers || !refers && resolved != m.value {
				t.Fatalf("in graph %d the reference to %s resolves to %v with %v", graph, m.key, resolved, err)
			}
			if err != nil {
				invalid++
			}
		}
		if len(p.problems) != invalid {
			t.Fatalf("in graph %d there are %d invalid evaluators and the problems %v", graph, invalid, p.problems)
		}
	}
}

func tree(t testing.TB, text string) *node {
	t.Helper()
	n, err := readTree([]byte(text), newPositions([]byte(text)))
	if err != nil {
		t.Fatalf("parsing %s: %v", text, err)
	}
	return n
}

// TestLongReferenceChain parses 10,000 evaluators, each of which refers to the
// next.
func TestLongReferenceChain(t *testing.T) {
	const length = 10_000
	var document strings.Builder
	document.WriteString(`{"$evaluators":{"last":{"==":[1,1]}`)
	for i := range length {
		fmt.Fprintf(&document, `,"e%d":{"!":[{"$ref":"e%d"}]}`, i, i+1)
	}
	document.WriteString(`},"flags":{
		"first":{"state":"ENABLED","variants":{"true":1},"targeting":{"$ref":"e0"}},
		"good":{"state":"ENABLED","variants":{"true":1,"false":2},"targeting":{"$ref":"last"}}}}`)
	set, problems, err := Parse([]byte(document.String()))
	if err != nil || set.Len() != 1 || len(problems) != MaxProblems+1 {
		t.Fatalf("%d problems and the error %v", len(problems), err)
	}
	if last := problems[MaxProblems].String(); !strings.Contains(last, fmt.Sprintf("%d more problems", length+1-MaxProblems)) {
		t.Errorf("the last problem is %s", last)
	}
	good, _ := set.Flag("good")
	if outcome, err := evaluate(t, good, "", 0); outcome.Reason != ReasonTargetingMatch {
		t.Errorf("the other flag evaluates to %+v (%v)", outcome, err)
	}
}
