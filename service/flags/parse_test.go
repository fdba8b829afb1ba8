// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseReportsEveryProblemWithItsPosition(t *testing.T) {
	document := `{
  "flags": {
    "good": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"},
    "new-checkout": {
      "state": "ENABLED",
      "variants": {"red": 1, "green": 2},
      "defaultVariant": "blue"
    },
    "no-state": {"variants": {"on": true}},
    "misspelt-state": {"state": "enabled", "variants": {"on": true}},
    "no-variants": {"state": "ENABLED"},
    "empty-variants": {"state": "ENABLED", "variants": {}},
    "list-variants": {"state": "ENABLED", "variants": []},
    "mixed": {"state": "ENABLED", "variants": {"a": 1, "b": "x"}},
    "null-variant": {"state": "ENABLED", "variants": {"a": null}},
    "large": {"state": "ENABLED", "variants": {"a": 9007199254740992}},
    "huge": {"state": "ENABLED", "variants": {"a": 1e999}},
    "number-default": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": 5},
    "text-targeting": {"state": "ENABLED", "variants": {"a": 1}, "targeting": "a"},
    "typo": {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"if": [{"start_with": ["x", "y"]}, "a"]}},
    "twice-inside": {"state": "ENABLED", "state": "DISABLED", "variants": {"a": 1}},
    "bad-metadata": {"state": "ENABLED", "variants": {"a": 1}, "metadata": {"list": [1], "object": {}}},
    "ä.dotted": {"state": "DISABLED"},
    "twice": {"state": "ENABLED", "variants": {"a": 1}},
    "twice": {"state": "ENABLED", "variants": {"a": 2}},
    "a-list": [],
    "": {"state": "ENABLED", "variants": {"a": 1}}
  },
  "metadata": {"ok": 1, "owner": {}, "list": [], "after": 2}
}`
	set, problems, err := Parse([]byte(document))
	if err != nil {
		t.Fatalf("parsing the document: %v", err)
	}
	var got []string
	for _, problem := range problems {
		got = append(got, problem.String())
	}
	want := []string{
		`flag "new-checkout": flags.new-checkout.defaultVariant: "blue" is not one of the variants (line 7, column 25)`,
		`flag "no-state": flags.no-state.state: the flag has no state; it must be "ENABLED" or "DISABLED" (line 9, column 17)`,
		`flag "misspelt-state": flags.misspelt-state.state: the state must be "ENABLED" or "DISABLED" (line 10, column 33)`,
		`flag "no-variants": flags.no-variants.variants: the flag has no variants (line 11, column 20)`,
		`flag "empty-variants": flags.empty-variants.variants: the flag has no variants (line 12, column 56)`,
		`flag "list-variants": flags.list-variants.variants: the variants are a list and must be an object (line 13, column 55)`,
		`flag "mixed": flags.mixed.variants.b: all variants must have the same type: this is a string and the first is a number (line 14, column 61)`,
		`flag "null-variant": flags.null-variant.variants.a: a variant must be a boolean, a string, a number or an object, not null (line 15, column 60)`,
		`flag "large": flags.large.variants.a: 9007199254740992 is beyond 2^53-1, the largest integer that clients can read without loss of precision (line 16, column 53)`,
		`flag "huge": flags.huge.variants.a: 1e999 is out of range for a number (line 17, column 52)`,
		`flag "number-default": flags.number-default.defaultVariant: the default variant is a number and must be a string or null (line 18, column 84)`,
		`flag "text-targeting": flags.text-targeting.targeting: the targeting is a string and must be an object (line 19, column 79)`,
		`flag "typo": flags.typo.targeting.if[0].start_with: unknown operator "start_with"; an evaluation that reaches it returns PARSE_ERROR (line 20, column 77)`,
		`flag "twice-inside": flags.twice-inside.state: duplicate key "state" (line 21, column 42)`,
		`flag "bad-metadata": flags.bad-metadata.metadata.list: metadata must be a boolean, a string or a number, not a list (line 22, column 85)`,
		`flag "bad-metadata": flags.bad-metadata.metadata.object: metadata must be a boolean, a string or a number, not an object (line 22, column 100)`,
		`flag "ä.dotted": flags["ä.dotted"].variants: the flag has no variants (line 23, column 17)`,
		`flag "twice": flags.twice: the flag is defined 2 times, so none of the definitions is used (line 24, column 5)`,
		`flag "twice": flags.twice: the flag is defined 2 times, so none of the definitions is used (line 25, column 5)`,
		`flag "a-list": flags.a-list: the flag is a list and must be an object (line 26, column 15)`,
		`flags[""]: the flag's key is empty (line 27, column 5)`,
		`metadata.owner: metadata must be a boolean, a string or a number, not an object (line 29, column 34)`,
		`metadata.list: metadata must be a boolean, a string or a number, not a list (line 29, column 46)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unexpected problems (-want +got):\n%s", diff)
	}
	if metadata := string(set.Metadata()); metadata != `{"after":2,"ok":1}` {
		t.Errorf("the metadata are %s", metadata)
	}
	// The flag with the misspelt operator is served: only an evaluation that
	// reaches it fails.
	if got := set.Len(); got != 2 {
		t.Errorf("%d flags are served, not 2", got)
	}
}

// TestEmptyVariantNameIsRejected matters because an absent, null or empty default
// variant means that there is none, not the variant with the empty name.
func TestEmptyVariantNameIsRejected(t *testing.T) {
	for _, rest := range []string{``, `,"defaultVariant":null`, `,"defaultVariant":""`, `,"targeting":{"if":[true,""]}`} {
		set, problems, err := Parse([]byte(`{"flags":{"f":{"state":"ENABLED","variants":{"":1,"a":2}` + rest + `}}}`))
		if err != nil || set.Len() != 0 || len(problems) != 1 || !strings.Contains(problems[0].Message, "must not be empty") {
			t.Errorf("with %q, %d flags are served and the problems are %v, %v", rest, set.Len(), problems, err)
		}
	}
}

func TestParseRejectsUnusableDocuments(t *testing.T) {
	tests := map[string]struct{ document, want string }{
		"an empty document":            {"", "line 1, column 1: not valid JSON"},
		"cut off":                      {"{\n  \"flags\": {", "line 2, column 12: not valid JSON"},
		"a trailing comma":             {"{\n  \"flags\": {},\n}", "line 3, column 1: not valid JSON"},
		"trailing data":                {"{\"flags\":{}}\n x", "line 2, column 2: not valid JSON"},
		"not UTF-8":                    {"{\"flags\":{},\n\"\xff\":1}", "line 2, column 2: the document is not valid UTF-8"},
		"a byte order mark":            {"\ufeff{\"flags\":{}}", "line 1, column 1: the document begins with a byte order mark (BOM)"},
		"UTF-16":                       {"\xff\xfe{\x00", "line 1, column 1: the document is encoded as UTF-16"},
		"YAML":                         {"flags:\n  a:\n    state: ENABLED\n", "looks like YAML: convert it to JSON"},
		"YAML with a comment":          {"# our flags\n\n---\nflags: {}\n", "looks like YAML"},
		"YAML with a schema":           {"\"$schema\": https://flagd.dev/schema/v0/flags.json\nflags:\n", "looks like YAML"},
		"a list":                       {"[]", "line 1, column 1: the document is a list and must be an object"},
		"no flags":                     {"{\n}", `line 1, column 1: the document has no "flags" object`},
		"flags that are not an object": {"{\"flags\": 5}", `line 1, column 11: "flags" is a number and must be an object`},
		"duplicate flags":              {"{\"flags\":{},\n \"flags\":{}}", `line 2, column 2: duplicate key "flags"`},
		"over the size limit":          {strings.Repeat(" ", MaxSize+1), "is 1048577 bytes long; the limit is 1048576"},
		"extreme nesting":              {strings.Repeat("[", 100_000), "not valid JSON"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			set, _, err := Parse([]byte(test.document))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, not one with %q", err, test.want)
			}
			if set != nil {
				t.Error("a set is returned with the error")
			}
		})
	}
}

func TestSyntaxErrorsOfJSONDoNotMentionYAML(t *testing.T) {
	for _, document := range []string{"", "hello", "{", `{"flags":{"a":`, "{flags: 1}", "[1,]"} {
		if err := CheckSyntax([]byte(document)); err == nil || strings.Contains(err.Error(), "YAML") {
			t.Errorf("the error for %s is %v", document, err)
		}
	}
}

// TestUnpairedSurrogatesAreRefused has text that is not Unicode, which a parser
// would silently replace by another character.
func TestUnpairedSurrogatesAreRefused(t *testing.T) {
	flag := func(value string) string {
		return `{"flags":{"good":{"state":"ENABLED","variants":{"a":"\ud83d\ude00 \\ud83d"}},"bad":` + value + `}}`
	}
	tests := map[string]struct{ document, want string }{
		"a value":          {flag(`{"state":"ENABLED","variants":{"a":"x\ud83d"}}`), "flags.bad.variants.a"},
		"a low surrogate":  {flag(`{"state":"ENABLED","variants":{"a":"\ude00\ud83d"}}`), "flags.bad.variants.a"},
		"two high ones":    {flag(`{"state":"ENABLED","variants":{"a":"\ud83d\ud83d\ude00"}}`), "flags.bad.variants.a"},
		"a nested value":   {flag(`{"state":"ENABLED","variants":{"a":{"b":["\udc00"]}}}`), "flags.bad.variants.a.b[0]"},
		"a nested key":     {flag(`{"state":"ENABLED","variants":{"a":{"\ud83d":1}}}`), `flags.bad.variants.a["`},
		"a rule":           {flag(`{"state":"ENABLED","variants":{"a":1},"targeting":{"in":["\ud83d",{"var":"x"}]}}`), "flags.bad.targeting.in[0]"},
		"metadata":         {flag(`{"state":"ENABLED","variants":{"a":1},"metadata":{"m":"\ud83d"}}`), "flags.bad.metadata.m"},
		"a flag's key":     {`{"flags":{"good":{"state":"ENABLED","variants":{"a":1}},"\ud83d":{"state":"ENABLED","variants":{"a":1}}}}`, `flags["`},
		"set metadata":     {`{"metadata":{"m":"\ud83d"},"flags":{"good":{"state":"ENABLED","variants":{"a":1}}}}`, "metadata.m"},
		"a large number":   {`{"metadata":{"m":1e999},"flags":{"good":{"state":"ENABLED","variants":{"a":1}}}}`, "1e999 is out of range"},
		"an evaluator":     {`{"$evaluators":{"e":{"in":["\ud83d",{"var":"x"}]}},"flags":{"good":{"state":"ENABLED","variants":{"a":1}}}}`, "$evaluators.e"},
		"its name":         {`{"$evaluators":{"\ud83d":{"!":1}},"flags":{"good":{"state":"ENABLED","variants":{"a":1}}}}`, "half of a surrogate pair"},
		"a duplicate name": {`{"metadata":{"m":1,"m":2},"flags":{"good":{"state":"ENABLED","variants":{"a":1}}}}`, `duplicate key "m"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			set, problems, err := Parse([]byte(test.document))
			if err != nil || len(problems) != 1 || !strings.Contains(problems[0].String(), test.want) || problems[0].Served {
				t.Fatalf("the problems are %v, %v; want %s", problems, err, test.want)
			}
			if _, good := set.Flag("good"); !good || set.Len() != 1 {
				t.Errorf("%d flags are served", set.Len())
			}
			if set.Metadata() != nil {
				t.Errorf("the metadata is %s", set.Metadata())
			}
		})
	}
}

func TestNullTargetingIsNone(t *testing.T) {
	flag := parseFlag(t, `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","targeting":null}`)
	if outcome, err := evaluate(t, flag, "{}", 0); outcome.Reason != ReasonStatic || outcome.Variant != "on" {
		t.Errorf("it evaluates to %+v (%v)", outcome, err)
	}
}

func TestParseAcceptsFlagsAsAList(t *testing.T) {
	set, problems, err := Parse([]byte(`{"flags":[{"key":"a","state":"ENABLED","variants":{"x":1}},{"state":"ENABLED"},5]}`))
	if err != nil || set.Len() != 1 || len(problems) != 2 {
		t.Errorf("unexpected result: %v, %v", problems, err)
	}
}

// FuzzParse parses documents. Each flag is served or has a problem with a
// position, its outcomes are JSON, and every evaluation terminates.
func FuzzParse(f *testing.F) {
	f.Add(`{"flags":{"a":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","targeting":{"if":[{"var":"x"},"on",null]}}}}`)
	f.Add(`{"$evaluators":{"e":{"in":[1,[1]]}},"metadata":{"a":1},"flags":[{"key":"a","state":"DISABLED","variants":{"x":{}},"targeting":{"$ref":"e"}}]}`)
	f.Add(`{"flags":{"a":{"state":"ENABLED","variants":{"x":1},"targeting":{"reduce":[{"var":""},{"substr":["abc",-5,-9]},0]}}}}`)
	f.Add(`{"flags":{"a":{"state":"ENABLED","variants":{"x":"\ud83d","y":1.0},"metadata":{"m":null}},"a":{},"":{},"b":{"state":"enabled","variants":{"x":9007199254740993}}}}`)
	f.Add(`{"flags":{"a":{"state":"ENABLED","variants":{"x":1},"targeting":{"fractional":[{"cat":["a",{"var":"targetingKey"}]},["x",{"+":[1,{"var":"n"}]}]]}},
		"b":{"state":"ENABLED","variants":{"true":1},"targeting":{"sem_ver":[{"var":["v","1"]},"^",1.2]}},
		"c":{"state":"ENABLED","variants":{"x":1},"targeting":{"filter":[{"var":"x"},{"missing_some":[1,["x",{"var":"$flagd"}]]}]}}}}`)
	f.Fuzz(func(t *testing.T, document string) {
		set, problems, err := Parse([]byte(document))
		if err != nil {
			var useless *DocumentError
			if set != nil || problems != nil || !errors.As(err, &useless) {
				t.Fatalf("%v or %v is returned with the error %v", set, problems, err)
			}
			return
		}
		known := map[string]bool{"": true}
		for _, problem := range problems {
			if problem.Line < 1 || problem.Column < 1 || problem.Path == "" || problem.Message == "" {
				t.Errorf("the problem has no position: %#v", problem)
			}
			known[problem.Flag] = true
		}
		for _, flag := range set.Flags() {
			known[flag.Key] = true
			outcome, err := evaluate(t, flag, `{"targetingKey":"k","x":[1,"2",null,{"a":true,"b":[]}],"s":"text"}`, 1)
			if (err != nil) != (outcome.ErrorCode != "") {
				t.Errorf("%s evaluates to %+v with %v", flag.Key, outcome, err)
			}
		}
		for _, outcome := range set.Outcomes() {
			for _, text := range []json.RawMessage{outcome.Value, outcome.Metadata} {
				if text != nil && (!json.Valid(text) || string(text) == "null") {
					t.Errorf("%s has an outcome with %s, which is not JSON", outcome.Key, text)
				}
			}
		}
		for _, key := range keysIn(document) {
			if !known[key] && len(problems) <= MaxProblems {
				t.Errorf("the flag %q is neither served nor has a problem", key)
			}
		}
	})
}

// keysIn returns the keys of the flags in a document that has them by key.
func keysIn(document string) []string {
	var members, flags map[string]json.RawMessage
	if json.Unmarshal([]byte(document), &members) != nil || json.Unmarshal(members["flags"], &flags) != nil {
		return nil
	}
	return slices.Collect(maps.Keys(flags))
}

// TestPositionsInLongLines compares lines and columns with a count from the
// start of the document, around the ends of blocks and lines.
func TestPositionsInLongLines(t *testing.T) {
	text := strings.Repeat("aä日😀", 300) + "\n" + strings.Repeat("x", 2*blockSize-1) + "\n\n" + strings.Repeat("ß", blockSize)
	at := newPositions([]byte(text))
	for offset := range len(text) + 1 {
		if offset < len(text) && !utf8.RuneStart(text[offset]) {
			continue
		}
		before := text[:offset]
		wantLine, wantColumn := 1+strings.Count(before, "\n"), 1+utf8.RuneCountInString(before[strings.LastIndex(before, "\n")+1:])
		if line, column := at.lineColumn(offset); line != wantLine || column != wantColumn {
			t.Fatalf("byte %d is at %d:%d, not %d:%d", offset, line, column, wantLine, wantColumn)
		}
	}
}
