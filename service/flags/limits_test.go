// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRuleLimits(t *testing.T) {
	nested := func(depth int) string {
		return strings.Repeat(`{"!":[`, depth) + "true" + strings.Repeat("]}", depth)
	}
	wide := func(parts int) string {
		return `{"or":[` + strings.TrimSuffix(strings.Repeat(`{"var":"a"},`, parts), ",") + `]}`
	}
	tests := map[string]struct {
		rule string
		want string
	}{
		"at the maximum depth":             {nested(MaxDepth), ""},
		"over the maximum depth":           {nested(MaxDepth + 1), "nested deeper than 32 operators"},
		"at the maximum number of nodes":   {wide(MaxNodes - 1), ""},
		"over the maximum number of nodes": {wide(MaxNodes), "more than 2000 nodes"},
		"a constant list of any size":      {`{"in":["x",[` + strings.Repeat(`"y",`, 10_000) + `"x"]]}`, ""},
		"over the maximum depth of a document": {
			nested(500), "nested deeper than 128 levels",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			document := `{"flags":{"good":{"state":"ENABLED","variants":{"a":1}},"flag":` + targeted(test.rule) + `}}`
			set, problems, err := Parse([]byte(document))
			if err != nil {
				t.Fatalf("parsing the document: %v", err)
			}
			_, served := set.Flag("flag")
			if served != (test.want == "") || !strings.Contains(fmt.Sprint(problems), test.want) {
				t.Errorf("served %t with the problems %v; want %q", served, problems, test.want)
			}
			if _, good := set.Flag("good"); !good {
				t.Error("the other flag was rejected too")
			}
		})
	}
}

// TestEvaluationLimits evaluates small rules that would otherwise run for ages
// or exhaust the memory. A step is at most 64 bytes of text, and a text is copied and
// converted a few times.
func TestEvaluationLimits(t *testing.T) {
	list := `[` + strings.TrimSuffix(strings.Repeat(`1,`, 100), ",") + `]`
	nestedReduce := `{"var":"accumulator"}`
	for range 8 {
		nestedReduce = `{"reduce":[` + list + `,` + nestedReduce + `,0]}`
	}
	doubling := `{"reduce":[` + list + `,{"cat":[{"var":"accumulator"},{"var":"accumulator"}]},"xxxxxxxx"]}`
	longText := strings.Repeat("9", 100_000)
	tests := map[string]struct{ rule, context string }{
		"nested reduces":   {nestedReduce, `{}`},
		"a growing string": {doubling, `{}`},
		"a long string compared often": {
			`{"map":[` + `[` + strings.TrimSuffix(strings.Repeat(list+",", 10), ",") + `]` + `,{"map":[{"var":""},{"<":[{"var":["none","` + longText + `"]},1]}]}]}`, `{}`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			flag := parseFlag(t, targeted(test.rule))
			var outcome *Outcome
			var err error
			used := allocated(func() { outcome, err = evaluate(t, flag, test.context, 0) })
			if want := (answer{ReasonError, "", "", CodeGeneral}); answerOf(outcome) != want || err == nil {
				t.Errorf("the outcome is %+v (%v), not %+v", answerOf(outcome), err, want)
			}
			if limit := MaxSteps * bytesPerNode * 4; used > limit {
				t.Errorf("the evaluation allocates %d bytes, more than %d", used, limit)
			}
		})
	}
}

// TestValidationEndsWithItsContext: it checks one flag at a time, which is bounded.
func TestValidationEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	document := `{"flags":{` + strings.TrimSuffix(strings.Repeat(`"f":{},`, 100), ",") + `}}`
	if _, err := Validate(ctx, []byte(document)); err != nil {
		t.Fatalf("before its end: %v", err)
	}
	cancel()
	if _, err := Validate(ctx, []byte(`{"flags":{"f":{},"g":{}}}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}
