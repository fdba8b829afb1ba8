// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// maxAllocationRatio limits the bytes that are allocated for each byte of a
// document.
const maxAllocationRatio = 250

// allocated returns the bytes that a function allocates.
func allocated(do func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// repeated joins numbered parts with commas.
func repeated(times int, format string) string {
	parts := make([]string, times)
	for i := range parts {
		parts[i] = strings.ReplaceAll(format, "#", fmt.Sprint(i))
	}
	return strings.Join(parts, ",")
}

// nested nests a rule in a number of iterations that look variables up in two
// frames more each.
func nested(depth int, rule string) string {
	for range depth {
		rule = `{"some":[[1],` + rule + `]}`
	}
	return rule
}

const (
	plainFlag  = `"f#":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`
	sharedRule = `"f#":{"state":"ENABLED","variants":{"on":true},"targeting":{"$ref":"e"}}`
)

// TestProductsAreBounded has documents whose parts multiply. Each must be refused
// with the place, the size and the limit, or be accepted, and in both cases
// cost memory in proportion to its size.
func TestProductsAreBounded(t *testing.T) {
	metadata := func(bytes int) string { return `"metadata":{"m":"` + strings.Repeat("m", bytes) + `"}` }
	evaluator := func(rule string) string { return `"$evaluators":{"e":` + rule + `}` }
	long := strings.Repeat("k", 400_000)
	tests := map[string]struct {
		document string
		// want are parts of the error; empty if the document is accepted.
		want []string
	}{
		"100 KB of metadata and 1,000 flags": {
			`{` + metadata(100_000) + `,"flags":{` + repeated(1000, plainFlag) + `}}`,
			[]string{"line 1, column 13", "100008000 of them metadata", "the 100008 bytes are part of each of the 1000 flags", "the limit is 8388608"},
		},
		"250 KB of metadata and 401 flags": {
			`{` + metadata(250_000) + `,"flags":{` + repeated(401, plainFlag) + `}}`,
			[]string{"the 250008 bytes are part of each of the 401 flags", "the limit is 8388608"},
		},
		"metadata of the document and of flags": {
			`{` + metadata(100_000) + `,"flags":{` + repeated(70, strings.TrimSuffix(plainFlag, "}")+`,"metadata":{"own":#}}`) + `}}`, nil,
		},
		"many entries of metadata": {
			`{"metadata":{` + repeated(10_000, `"m#":#`) + `},"flags":{` + repeated(1000, strings.TrimSuffix(plainFlag, "}")+`,"metadata":{"m1":"own"}}`) + `}}`,
			[]string{"are part of each of the 1000 flags"},
		},
		"a long key and many variants": {
			`{"flags":{"` + long + `":{"state":"ENABLED","variants":{` + repeated(5_000, `"v#":1`) + `},"targeting":{"var":"x"}}}}`,
			[]string{"line 1, column 11", "flags.kkk", "with 5000 variants", "the limit is 33554432"},
		},
		"a large evaluator and many references": {
			`{` + evaluator(`{"or":[`+repeated(1900, `{"var":"a"}`)+`]}`) + `,"flags":{` + repeated(5000, sharedRule) + `}}`,
			[]string{"line 1, column 21", "the rules would have 9505000 nodes", "$evaluators.e", "refer 5000 times", "the limit is 600000"},
		},
		"a variable with many parts and many references": {
			`{` + evaluator(`{"map":[[1],{"var":"`+strings.Repeat("a.", 100_000)+`"}]}`) + `,"flags":{` + repeated(4000, sharedRule) + `}}`,
			[]string{"$evaluators.e", "the limit is 600000"},
		},
		"missing with many parts and many references": {
			`{` + evaluator(`{"missing":["`+strings.Repeat("a.", 100_000)+`"]}`) + `,"flags":{` + repeated(4000, sharedRule) + `}}`,
			[]string{"$evaluators.e", "the limit is 600000"},
		},
		"variables in nested iterations": {
			`{"flags":{` + repeated(1500, `"f#":{"state":"ENABLED","variants":{"on":true},"targeting":`+nested(25, `{"or":[`+repeated(20, `{"var":"a"}`)+`]}`)+`}`) + `}}`,
			[]string{"the rules would have", "the limit is 600000"},
		},
		"a variable with a long name and many references": {
			`{` + evaluator(`{"var":"`+long+`"}`) + `,"flags":{` + repeated(1000, `"f#":{"state":"ENABLED","variants":{"on":true},"targeting":{"or":[`+
				strings.TrimSuffix(strings.Repeat(`{"$ref":"e"},`, 38), ",")+`]}}`) + `}}`,
			[]string{"$evaluators.e", "the limit is 600000"},
		},
		"missing with a long name and many references": {
			`{` + evaluator(`{"missing":["`+long+`"]}`) + `,"flags":{` + repeated(5000, sharedRule) + `}}`,
			[]string{"$evaluators.e", "the limit is 600000"},
		},
		"an unknown operator with a long name and many references": {
			`{` + evaluator(`{"`+long+`":1}`) + `,"flags":{` + repeated(5000, sharedRule) + `}}`,
			[]string{"$evaluators.e", "the limit is 600000"},
		},
		"a long result and many references": {
			`{` + evaluator(`{"if":[{"var":"x"},"`+long+`"]}`) + `,"flags":{` + repeated(5000, sharedRule) + `}}`, nil,
		},
		"many results in one evaluator and many references": {
			`{` + evaluator(`{"if":[`+repeated(900, `{"var":"x"},"v#"`)+`]}`) + `,"flags":{"f":{"state":"ENABLED","variants":{"on":true},"targeting":{"or":[{"$ref":"e"}]}}}}`, nil,
		},
		"null entries of metadata and many flags": {
			`{"metadata":{` + repeated(20_000, `"m#":null`) + `},"flags":{` + repeated(5000, strings.TrimSuffix(plainFlag, "}")+`,"metadata":{"own":#}}`) + `}}`, nil,
		},
		"many problems in a flag with a long key": {
			`{"flags":{"` + long + `":{"state":"ENABLED","variants":{"a":{` + repeated(20_000, `"k":1`) + `}},"targeting":{"or":[` + repeated(1900, `{"x":1}`) + `]}}}}`, nil,
		},
		"a long list in a flag with a long key": {
			`{"flags":{"` + long + `":{"state":"ENABLED","variants":{"a":{"list":[` + repeated(50_000, `1`) + `]}},"defaultVariant":"a"}}}`, nil,
		},
		"many attributes": {
			`{"flags":{` + repeated(7000, `"f#":{"state":"ENABLED","variants":{"true":1},"targeting":{"or":[{"var":"a#"},{"var":"b#"},{"var":"c#"}]}}`) + `}}`, nil,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var err error
			used := allocated(func() { _, _, err = Parse([]byte(test.document)) })
			if ratio := used / len(test.document); ratio > maxAllocationRatio {
				t.Errorf("%d bytes are allocated for each byte of the document", ratio)
			}
			if err == nil != (test.want == nil) {
				t.Fatalf("the error is %v; want %q", err, test.want)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error is %v, without %q", err, want)
				}
			}
			var unusable *DocumentError
			if checked := CheckBudget([]byte(test.document)); checked != nil && !errors.As(checked, &unusable) || fmt.Sprint(checked) != fmt.Sprint(err) {
				t.Errorf("the check returns %v, and parsing %v", checked, err)
			}
		})
	}
}

// TestSizeAloneIsAccepted has documents of the maximum size in which nothing
// multiplies.
func TestSizeAloneIsAccepted(t *testing.T) {
	fill := func(before, format, after string) string {
		part := len(strings.ReplaceAll(format, "#", "00000")) + 1
		return before + repeated((MaxSize-len(before)-len(after))/part, format) + after
	}
	tests := map[string]string{
		"flags":             fill(`{"flags":{`, `"f#":{"state":"ENABLED","variants":{"a":1}}`, `}}`),
		"flags with a rule": fill(`{"flags":{`, `"f#":{"state":"ENABLED","variants":{"true":1,"false":2},"targeting":{"!":1}}`, `}}`),
		"variants":          fill(`{"flags":{"f":{"state":"ENABLED","targeting":{"var":"x"},"variants":{`, `"v#":1`, `}}}}`),
		"metadata":          fill(`{"flags":{"f":{"state":"ENABLED","targeting":{"var":"x"},"variants":{"a":1}}},"metadata":{`, `"m#":1`, `}}`),
		"rules": fill(`{"flags":{`,
			`"f#":{"state":"ENABLED","variants":{"1":1},"targeting":{"or":[`+strings.Repeat("1,", 1900)+`{"var":"x"}]}}`, `}}`),
		"a value": `{"flags":{"f":{"state":"ENABLED","defaultVariant":"a","variants":{"a":"` + strings.Repeat("\u2028", MaxSize/4) + `"}}}}`,
	}
	for name, document := range tests {
		t.Run(name, func(t *testing.T) {
			set, problems, err := Parse([]byte(document))
			if err != nil || len(problems) > 0 {
				t.Fatalf("%d bytes are refused: %v %.300v", len(document), err, problems)
			}
			if set.Len() == 0 {
				t.Error("there are no flags")
			}
		})
	}
}

// TestBudgetCountsEnough compares the nodes that are counted in advance with
// those that the compiler counts.
func TestBudgetCountsEnough(t *testing.T) {
	rules := []string{
		`{"if":[{"==":[{"var":"a.b.c"},"x"]},"on","off"]}`,
		`{"fractional":[["on",1],["off",2],["x"]]}`,
		`{"fractional":[{"var":"seed"},["on",{"var":"n"}],["off",2]]}`,
		`{"missing":["a.b","c"]}`, `{"missing":"a.b.c.d"}`,
		`{"in":[{"var":"a.b"},["x","y"]]}`, `{"in":["x",{"var":"a.b"}]}`,
		`{"starts_with":[{"var":"a.b.c"},"x"]}`, `{"<":[1,{"var":"a.b.c"}]}`,
		`{"var":["a.b",{"var":"c.d"}]}`, `{"var":{"var":"a.b.c"}}`,
		nested(3, `{"var":"a.b"}`), nested(2, `{"filter":[{"var":"list"},{"none":[{"var":"x.y"},{"var":["a.b.c",{"var":"q.r"}]}]}]}`),
		`{"all":[{"var":"a"},{"map":[{"var":"b.c"},{"reduce":[{"var":"d.e"},{"+":[{"var":"current.x"},{"var":"accumulator"}]},0]}]}]}`,
		`{"unknown":[1,2,{"var":"a"}]}`, `{"` + strings.Repeat("unknown", 100) + `":[1,{"var":"a"}]}`,
		`{"var":"` + strings.Repeat("long", 1000) + `"}`, `{"==":[{"var":"` + strings.Repeat("long.", 300) + `"},1]}`, `{"missing":["` + strings.Repeat("x", 999) + `"]}`,
		nested(3, `{"var":"`+strings.Repeat("long", 50)+`.b"}`),
		`[1,{"var":"a.b"},[2,{"!":1}]]`, `{"merge":[1,[2,3],{"var":""}]}`,
	}
	for _, rule := range rules {
		size := ruleSize{limit: MaxNodes}
		counted := size.value(tree(t, rule), 0)
		c := compiler{index: newAttributeIndex()}
		if _, err := c.compile(tree(t, rule), root("rule")); err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		if counted < c.nodes || counted > 2*c.nodes+4 {
			t.Errorf("%s: %d nodes are counted in advance, and %d by the compiler", rule, counted, c.nodes)
		}
	}
}
