// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parseFlag parses a document with one flag, "flag".
func parseFlag(t testing.TB, definition string) *Flag {
	t.Helper()
	set, problems, err := Parse([]byte(`{"flags":{"flag":` + definition + `}}`))
	if err != nil {
		t.Fatalf("parsing %s: %v", definition, err)
	}
	flag, ok := set.Flag("flag")
	if !ok {
		t.Fatalf("the flag %s was rejected: %v", definition, problems)
	}
	return flag
}

// targeted returns a flag with the variants on, off, "1" and "true"; the
// default is off.
func targeted(rule string) string {
	return `{"state":"ENABLED","variants":{"on":"ON","off":"OFF","1":"ONE","true":"YES"},"defaultVariant":"off","targeting":` + rule + `}`
}

// evaluate evaluates a flag for a context; an empty string is an empty context.
func evaluate(t testing.TB, flag *Flag, context string, now int64) (*Outcome, error) {
	t.Helper()
	if context == "" {
		context = "{}"
	}
	return flag.Evaluate(read(t, context, flag.Attributes()), now)
}

// answer holds the fields of an outcome that tests compare.
type answer struct {
	Reason  Reason
	Variant string
	Value   string
	Code    ErrorCode
}

func answerOf(o *Outcome) answer { return answer{o.Reason, o.Variant, string(o.Value), o.ErrorCode} }

func TestEvaluation(t *testing.T) {
	tests := map[string]struct {
		flag    string
		context string
		want    answer
	}{
		"a flag without targeting is static": {
			flag: `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`,
			want: answer{ReasonStatic, "on", "true", ""},
		},
		"empty targeting is no targeting": {
			flag: `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","targeting":{ }}`,
			want: answer{ReasonStatic, "on", "true", ""},
		},
		"a disabled flag has no value and evaluates no targeting": {
			flag: `{"state":"DISABLED","variants":{"on":true},"defaultVariant":"on","targeting":{"no such":[]}}`,
			want: answer{ReasonDisabled, "", "", ""},
		},
		"without a default variant there is no value": {
			flag: `{"state":"ENABLED","variants":{"on":true}}`,
			want: answer{ReasonDefault, "", "", ""},
		},
		"a null default variant is no default variant": {
			flag: `{"state":"ENABLED","variants":{"on":true},"defaultVariant":null}`,
			want: answer{ReasonDefault, "", "", ""},
		},
		"an empty default variant is no default variant": {
			flag: `{"state":"ENABLED","variants":{"on":true},"defaultVariant":""}`,
			want: answer{ReasonDefault, "", "", ""},
		},
		"a rule that returns null selects the default variant": {
			flag: targeted(`{"if":[{"var":"beta"},"on",null]}`),
			want: answer{ReasonDefault, "off", `"OFF"`, ""},
		},
		"a rule that returns null without a default variant has no value": {
			flag: `{"state":"ENABLED","variants":{"on":true},"targeting":{"if":[false,"on"]}}`,
			want: answer{ReasonDefault, "", "", ""},
		},
		"a rule's string names the variant": {
			flag: targeted(`{"if":[{"var":"beta"},"on","off"]}`), context: `{"beta":true}`,
			want: answer{ReasonTargetingMatch, "on", `"ON"`, ""},
		},
		"a rule that selects the default variant is still a match": {
			flag: targeted(`{"if":[{"var":"beta"},"on","off"]}`),
			want: answer{ReasonTargetingMatch, "off", `"OFF"`, ""},
		},
		"true names the variant called true": {
			flag: targeted(`{"==":[1,1]}`),
			want: answer{ReasonTargetingMatch, "true", `"YES"`, ""},
		},
		"a number names the variant with its string form": {
			flag: targeted(`{"+":[0,1]}`),
			want: answer{ReasonTargetingMatch, "1", `"ONE"`, ""},
		},
		"something that is not a variant is a general error": {
			flag: targeted(`{"cat":["no","thing"]}`),
			want: answer{ReasonError, "", "", CodeGeneral},
		},
		"a list is not a variant": {
			flag: targeted(`{"merge":[1,2]}`),
			want: answer{ReasonError, "", "", CodeGeneral},
		},
		"the string null is not null": {
			flag: targeted(`{"cat":["null",""]}`),
			want: answer{ReasonError, "", "", CodeGeneral},
		},
		"a failing rule is a parse error": {
			flag: targeted(`{"+":[null,1]}`),
			want: answer{ReasonError, "", "", CodeParse},
		},
		"a result that JSON cannot represent is a parse error": {
			flag: targeted(`{"/":[1,0]}`),
			want: answer{ReasonError, "", "", CodeParse},
		},
		"an unknown operator is a parse error where it is reached": {
			flag: targeted(`{"if":[{"var":"beta"},{"spelt_wrong":[1]},"off"]}`), context: `{"beta":true}`,
			want: answer{ReasonError, "", "", CodeParse},
		},
		"an unknown operator that is not reached has no effect": {
			flag: targeted(`{"if":[{"var":"beta"},{"spelt_wrong":[1]},"off"]}`),
			want: answer{ReasonTargetingMatch, "off", `"OFF"`, ""},
		},
		"an unresolved reference is a parse error": {
			flag: targeted(`{"if":[{"$ref":"nobody"},"on","off"]}`),
			want: answer{ReasonError, "", "", CodeParse},
		},
		"operators are case-sensitive": {
			flag: targeted(`{"IF":[true,"on"]}`),
			want: answer{ReasonError, "", "", CodeParse},
		},
		"$flagd.flagKey is the flag's key": {
			flag: targeted(`{"if":[{"==":[{"var":"$flagd.flagKey"},"flag"]},"on"]}`),
			want: answer{ReasonTargetingMatch, "on", `"ON"`, ""},
		},
		"$flagd.timestamp is in Unix seconds": {
			flag: targeted(`{"if":[{"==":[{"var":"$flagd.timestamp"},1700000000]},"on"]}`),
			want: answer{ReasonTargetingMatch, "on", `"ON"`, ""},
		},
		"$flagd as a whole has both": {
			flag: targeted(`{"if":[{"missing":["$flagd.flagKey","$flagd.timestamp"]},"off",{"var":["$flagd.none","on"]}]}`),
			want: answer{ReasonTargetingMatch, "on", `"ON"`, ""},
		},
		"a client's $flagd is ignored": {
			flag:    targeted(`{"if":[{"==":[{"var":"$flagd.flagKey"},"mine"]},"on","off"]}`),
			context: `{"$flagd":{"flagKey":"mine","timestamp":0}}`,
			want:    answer{ReasonTargetingMatch, "off", `"OFF"`, ""},
		},
		"data is never evaluated as a rule": {
			flag:    targeted(`{"if":[true,{"var":"x"}]}`),
			context: `{"x":{"cat":["o","n"]}}`,
			want:    answer{ReasonError, "", "", CodeGeneral},
		},
		"the targeting key is an attribute like others": {
			flag: targeted(`{"if":[{"in":[{"var":"targetingKey"},["a","b"]]},"on"]}`), context: `{"targetingKey":"b"}`,
			want: answer{ReasonTargetingMatch, "on", `"ON"`, ""},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			outcome, err := evaluate(t, parseFlag(t, test.flag), test.context, 1_700_000_000)
			if diff := cmp.Diff(test.want, answerOf(outcome)); diff != "" {
				t.Errorf("unexpected outcome (-want +got):\n%s\nerror: %v", diff, err)
			}
			if (err != nil) != (outcome.ErrorCode != "") {
				t.Errorf("the error is %v for the code %q", err, outcome.ErrorCode)
			}
		})
	}
}

func TestFlagdOperators(t *testing.T) {
	const data = `{"targetingKey":"key","version":"1.2.3","email":"ann@corp.com","n":1.2}`
	tests := map[string]struct {
		rule string
		want any
	}{
		"sem_ver equal":                         {`{"sem_ver":[{"var":"version"},"=","1.2.3"]}`, true},
		"sem_ver not equal":                     {`{"sem_ver":["1.2.3","!=","1.2.4"]}`, true},
		"sem_ver less":                          {`{"sem_ver":["1.2.3","<","1.10.0"]}`, true},
		"sem_ver less or equal":                 {`{"sem_ver":["1.2.3","<=","1.2.3"]}`, true},
		"sem_ver greater":                       {`{"sem_ver":["2.0.0",">","1.10.0"]}`, true},
		"sem_ver greater or equal":              {`{"sem_ver":["1.2.2",">=","1.2.3"]}`, false},
		"sem_ver ^ is the same major":           {`{"sem_ver":["1.9.9","^","1.2.3"]}`, true},
		"sem_ver ~ is the same minor":           {`{"sem_ver":["1.2.9","~","1.2.3"]}`, true},
		"sem_ver ~ with another minor":          {`{"sem_ver":["1.3.0","~","1.2.3"]}`, false},
		"sem_ver takes a prefix v or V":         {`{"sem_ver":["v1.2.3","=","V1.2.3"]}`, true},
		"sem_ver completes short versions":      {`{"sem_ver":["1","=","1.0.0"]}`, true},
		"sem_ver takes numbers":                 {`{"sem_ver":[{"var":"n"},"=","1.2.0"]}`, true},
		"sem_ver ignores build metadata":        {`{"sem_ver":["1.0.0+a","=","1.0.0+b"]}`, true},
		"sem_ver orders pre-releases before":    {`{"sem_ver":["1.0.0-rc.1","<","1.0.0"]}`, true},
		"sem_ver of four parts is null":         {`{"sem_ver":["2.0.0.0","=","2.0.0"]}`, nil},
		"sem_ver of null is null":               {`{"sem_ver":[{"var":"none"},"=","2.0.0"]}`, nil},
		"sem_ver with another operator is null": {`{"sem_ver":["1.0.0","==","1.0.0"]}`, nil},
		"sem_ver with four arguments is null":   {`{"sem_ver":["1.0.0","=","1.0.0","x"]}`, nil},
		"sem_ver without a list is null":        {`{"sem_ver":"1.0.0"}`, nil},

		"starts_with":                              {`{"starts_with":[{"var":"email"},"ann@"]}`, true},
		"starts_with is case-sensitive":            {`{"starts_with":[{"var":"email"},"Ann@"]}`, false},
		"ends_with":                                {`{"ends_with":[{"var":"email"},"corp.com"]}`, true},
		"ends_with of a number is null":            {`{"ends_with":[{"var":"n"},"2"]}`, nil},
		"ends_with of a missing attribute is null": {`{"ends_with":[{"var":"none"},"2"]}`, nil},
		"ends_with of three strings is null":       {`{"ends_with":["a","a","a"]}`, nil},
		"ends_with without a list is null":         {`{"ends_with":"a"}`, nil},

		"fractional without shares is null":            {`{"fractional":[]}`, nil},
		"fractional with a seed only is null":          {`{"fractional":["seed"]}`, nil},
		"fractional without a list is null":            {`{"fractional":"seed"}`, nil},
		"fractional with one share":                    {`{"fractional":[["on",1]]}`, "on"},
		"fractional weights default to 1":              {`{"fractional":[["on"]]}`, "on"},
		"fractional with a weight of null is 1":        {`{"fractional":[["on",null]]}`, "on"},
		"fractional with a weight of 0 only is null":   {`{"fractional":[["on",0]]}`, nil},
		"fractional counts negative weights as 0":      {`{"fractional":[["on",-5],["off",1]]}`, "off"},
		"fractional with a fraction as weight is null": {`{"fractional":[["on",1.5]]}`, nil},
		"fractional with a string as weight is null":   {`{"fractional":[["on","1"]]}`, nil},
		"fractional beyond 2^31-1 is null":             {`{"fractional":[["on",2147483648]]}`, nil},
		"fractional with a sum beyond 2^31-1 is null":  {`{"fractional":[["on",2147483647],["off",1]]}`, nil},
		"fractional may have a number as variant":      {`{"fractional":[[7,1]]}`, 7.0},
		"fractional may have null as variant":          {`{"fractional":[[null,1]]}`, nil},
		"fractional with a list as variant is null":    {`{"fractional":[[["on"],1]]}`, nil},
		"fractional with an empty share is null":       {`{"fractional":[[]]}`, nil},
		"fractional with a number as seed is null":     {`{"fractional":[5,["on",1]]}`, nil},
		"fractional skips a seed of null":              {`{"fractional":[{"var":"none"},["on",1]]}`, "on"},
		"fractional with nested rules":                 {`{"fractional":["s",[{"if":[true,"on","off"]},{"+":[1,1]}]]}`, "on"},
		"fractional in a body has no targeting key":    {`{"map":[[1],{"fractional":[["on",1]]}]}`, []any{nil}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := evaluateRule(t, test.rule, data)
			if err != nil {
				t.Fatalf("these operators must not fail, but: %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("unexpected value (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReservedAttributesCannotBeInjected evaluates contexts with attributes whose names
// could be misinterpreted.
func TestReservedAttributesCannotBeInjected(t *testing.T) {
	many := `{"email":"a@corp.com",` + membersUpTo(10_000) + `}`
	tests := map[string]struct {
		rule, context string
		want          any
	}{
		"__proto__ is an ordinary name":           {`{"var":"__proto__.admin"}`, `{"__proto__":{"admin":true}}`, true},
		"__proto__ adds no attributes":            {`{"var":"admin"}`, `{"__proto__":{"admin":true}}`, nil},
		"constructor is an ordinary name":         {`{"var":"constructor"}`, `{}`, nil},
		"a dotted name is not a path":             {`{"var":"user.admin"}`, `{"user.admin":true}`, nil},
		"a path is not a dotted name":             {`{"var":"user.admin"}`, `{"user.admin":false,"user":{"admin":true}}`, true},
		"names are case-sensitive":                {`{"var":"Email"}`, `{"email":"x","EMAIL":"y"}`, nil},
		"the time cannot be set":                  {`{"var":"$flagd.timestamp"}`, `{"$flagd":{"timestamp":99}}`, 1.0},
		"nothing can be added to $flagd":          {`{"var":"$flagd.x"}`, `{"$flagd":{"x":99}}`, nil},
		"$flagd with a leading dot":               {`{"var":".$flagd.flagKey"}`, `{"$flagd":{"flagKey":"other"}}`, "flag"},
		"$flagd by a computed name":               {`{"var":{"cat":["$flagd",".flagKey"]}}`, `{"$flagd":{"flagKey":"other"}}`, "flag"},
		"$flagd in missing":                       {`{"missing":["$flagd.timestamp","$flagd.x"]}`, `{"$flagd":{"x":1}}`, []any{"$flagd.x"}},
		"a dotted $flagd is not a path":           {`{"var":"$flagd.flagKey"}`, `{"$flagd.flagKey":"other"}`, "flag"},
		"an escaped name is the same name":        {`{"var":"email"}`, `{"\u0065mail":"x"}`, "x"},
		"a context inside the context is ignored": {`{"var":"email"}`, `{"context":{"email":"x"}}`, nil},
		"ten thousand attributes":                 {`{"var":"email"}`, many, "a@corp.com"},
		"the last of ten thousand":                {`{"var":"k9999"}`, many, 9999.0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := evaluateRule(t, test.rule, test.context)
			if err != nil {
				t.Fatalf("the rule fails: %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("unexpected value (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSpecializedOperatorsAgreeWithGeneralOnes compares the specialized form of an operator for an
// attribute and a constant with its general form, for values of every type.
func TestSpecializedOperatorsAgreeWithGeneralOnes(t *testing.T) {
	operators := []string{"==", "===", "!=", "!==", "<", "<=", ">", ">=", "in", "starts_with", "ends_with"}
	constants := []string{`"a"`, `""`, `"10"`, `"abc"`, `10`, `0`, `-1.5`}
	values := []string{`"a"`, `""`, `"10"`, `" 10 "`, `"xabc"`, `"abcx"`, `"a\u0062c"`, `10`, `0`, `1e1`, `-1.5`, `true`, `false`, `null`, `[]`, `["a"]`, `[10]`, `{}`, `{"x":1,"y":2}`}
	for _, operator := range operators {
		for _, constant := range constants {
			for _, value := range values {
				for _, arguments := range []string{`%s,` + constant, constant + `,%s`, `%s,[` + constant + `]`} {
					form := `{"` + operator + `":[` + arguments + `]}`
					context := `{"x":` + value + `}`
					direct, directErr := evaluateRule(t, fmt.Sprintf(form, `{"var":"x"}`), context)
					general, generalErr := evaluateRule(t, fmt.Sprintf(form, `{"or":[{"var":"x"}]}`), context)
					if got, want := show(direct, directErr), show(general, generalErr); got != want {
						t.Errorf("%s for %s is %s, and in general %s", form, value, got, want)
					}
				}
			}
		}
	}
}

func TestReferences(t *testing.T) {
	set, problems, err := Parse([]byte(`{
		"$evaluators": {
			"staff": {"ends_with": [{"var": "email"}, "@corp.com"]},
			"empty": {},
			"self": {"!": [{"$ref": "self"}]},
			"ping": {"!": [{"$ref": "pong"}]},
			"pong": {"!": [{"$ref": "ping"}]}
		},
		"flags": {
			"good": {"state":"ENABLED","variants":{"on":1,"off":0},"defaultVariant":"off","targeting":{"if":[{ "$ref" : "staff" },"on"]}},
			"whole": {"state":"ENABLED","variants":{"true":1,"false":0},"defaultVariant":"false","targeting":{"$ref":"staff"}},
			"uses-empty": {"state":"ENABLED","variants":{"on":1},"targeting":{"if":[{"$ref":"empty"},"on"]}},
			"uses-self": {"state":"ENABLED","variants":{"on":1},"targeting":{"if":[{"$ref":"self"},"on"]}},
			"uses-ping": {"state":"ENABLED","variants":{"on":1},"targeting":{"if":[{"$ref":"ping"},"on"]}}
		}
	}`))
	if err != nil {
		t.Fatalf("parsing the document: %v", err)
	}
	for _, key := range []string{"good", "whole"} {
		flag, ok := set.Flag(key)
		if !ok {
			t.Fatalf("%s was rejected: %v", key, problems)
		}
		outcome, _ := evaluate(t, flag, `{"email":"a@corp.com"}`, 0)
		if outcome.Reason != ReasonTargetingMatch || string(outcome.Value) != "1" {
			t.Errorf("%s evaluates to %+v", key, outcome)
		}
	}
	if set.Len() != 2 {
		t.Errorf("%d flags are served; want 2, those with valid evaluators", set.Len())
	}
	text := fmt.Sprint(problems)
	for _, want := range []string{
		`$evaluators.empty: the evaluator is empty (line 4, column 4)`,
		`$evaluators.self: the evaluator refers to another with $ref`,
		`flag "uses-self": flags.uses-self.targeting: the evaluator "self" refers to another`,
		`flag "uses-ping"`, `flag "uses-empty"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no problem contains %s:\n%s", want, text)
		}
	}
}

// TestReferencesDoNotMultiply parses documents in which many rules refer to an evaluator
// with a large constant. The time for both must be about that for many references to a
// small one and for one reference to the large one, all in the same run: if they
// multiplied, it would be hundreds of times as much.
func TestReferencesDoNotMultiply(t *testing.T) {
	const references = 4_000
	document := func(evaluator string, references int) []byte {
		return []byte(`{"$evaluators":{"e":` + evaluator + `},"flags":{` +
			repeated(references, `"f#":{"state":"ENABLED","variants":{"a":1},"targeting":{"and":[{"$ref":"e"},{"$ref":"e"}]}}`) + `}}`)
	}
	object := func(n int) string { return `{` + repeated(n, `"key#":#`) + `}` }
	// Each returns an evaluator with a constant of about n items.
	tests := map[string]func(n int) string{
		"a list to search in": func(n int) string { return `{"in":["x",[` + repeated(n, `"y#"`) + `]]}` },
		"a list of names":     func(n int) string { return `{"missing_some":[1,[` + repeated(n, `"y#"`) + `]]}` },
		"a name with dots":    func(n int) string { return `{"missing_some":[1,["` + strings.Repeat(".", 10*n) + `x"]]}` },
		"a long result":       func(n int) string { return `{"if":[{"var":"x"},"` + strings.Repeat("long value", n) + `"]}` },
		"a result that is an object": func(n int) string {
			return `{"if":[{"var":"x"},` + object(n) + `]}`
		},
		"a result that is a list": func(n int) string { return `{"if":[{"var":"x"},[` + repeated(n, `"y#"`) + `]]}` },
		"long shares":             func(n int) string { return `{"fractional":[["a",1],["` + strings.Repeat("long value", n) + `",1]]}` },
		"a long text to compare":  func(n int) string { return `{"==":[{"var":"x"},"` + strings.Repeat("long value", n) + `"]}` },
		"a long version":          func(n int) string { return `{"sem_ver":[{"var":"x"},"=","` + strings.Repeat("long value", n) + `"]}` },
	}
	for name, evaluator := range tests {
		t.Run(name, func(t *testing.T) {
			const large, small = 40_000, 2
			expectProportional(t, evaluator(large),
				document(evaluator(large), references), document(evaluator(large), 1), document(evaluator(small), references))
		})
	}
}

// maxTimeRatio limits the time for a document in relation to its parts. It leaves room for
// the noise of a busy machine.
const maxTimeRatio = 10

// expectProportional compares the time for parsing a document with that for documents that
// have the same parts, but not together.
func expectProportional(t *testing.T, what string, document []byte, parts ...[]byte) {
	t.Helper()
	measure := func(document []byte) time.Duration {
		best := time.Duration(math.MaxInt64)
		for range 3 {
			start := time.Now()
			if _, _, err := Parse(document); err != nil {
				t.Fatalf("%.100s: %v", what, err)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	var baseline time.Duration
	for _, part := range parts {
		baseline += measure(part)
	}
	if took := measure(document); took > maxTimeRatio*baseline {
		t.Errorf("%.100s: parsing takes %s, and its parts %s", what, took, baseline)
	}
}

// TestVariantsAndResultsDoNotMultiply has a flag with many variants and a rule with many
// results.
func TestVariantsAndResultsDoNotMultiply(t *testing.T) {
	document := func(variants, results int) []byte {
		return []byte(`{"flags":{"f":{"state":"ENABLED","variants":{` + repeated(variants, `"v#":1`) +
			`},"targeting":{"or":[` + repeated(results, `{"+":[#,1]}`) + `]}}}}`)
	}
	expectProportional(t, "variants and results", document(50_000, 600), document(50_000, 1), document(1, 600))
}

func TestMetadata(t *testing.T) {
	set, problems, err := Parse([]byte(`{
		"metadata": {"team":"shop","tier":1,"unset":null},
		"flags": {
			"own": {"state":"ENABLED","variants":{"a":1},"metadata":{"tier":2,"z":true,"team":null}},
			"none": {"state":"ENABLED","variants":{"a":1}}
		}}`))
	if err != nil || len(problems) > 0 {
		t.Fatalf("unexpected problems: %v %v", problems, err)
	}
	got := map[string]string{"": string(set.Metadata())}
	for _, flag := range set.Flags() {
		outcome, _ := flag.Evaluate(new(Context), 0)
		got[flag.Key] = string(outcome.Metadata)
	}
	want := map[string]string{
		"":     `{"team":"shop","tier":1}`,
		"own":  `{"tier":2,"z":true}`,
		"none": `{"team":"shop","tier":1}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unexpected metadata (-want +got):\n%s", diff)
	}
}

func TestValuesAreCompactJSON(t *testing.T) {
	tests := map[string]string{
		`true`: `true`, `1.0`: `1`, `-0.5`: `-0.5`, `1e3`: `1000`, `"a<b"`: `"a<b"`, `"\u00e4"`: `"ä"`,
		`{ "a" : [ 1.0, null, { } ] }`: `{"a":[1,null,{}]}`,
		`{"id":9007199254740993}`:      `{"id":9007199254740993}`,
	}
	for in, want := range tests {
		outcome, _ := parseFlag(t, `{"state":"ENABLED","variants":{"v":`+in+`},"defaultVariant":"v"}`).Evaluate(new(Context), 0)
		if string(outcome.Value) != want || !json.Valid(outcome.Value) {
			t.Errorf("%s is served as %s, not %s", in, outcome.Value, want)
		}
	}
}

func TestOutcomesAreNumbered(t *testing.T) {
	set, _, err := Parse([]byte(`{"flags":[
		{"key":"b","state":"ENABLED","variants":{"x":1,"y":2},"defaultVariant":"x"},
		{"key":"a","state":"DISABLED","variants":{"x":1}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for id, outcome := range set.Outcomes() {
		if outcome.ID != id {
			t.Errorf("the outcome at %d has the ID %d", id, outcome.ID)
		}
	}
	if keys := []string{set.Flags()[0].Key, set.Flags()[1].Key}; !cmp.Equal(keys, []string{"a", "b"}) {
		t.Errorf("the flags are not sorted: %v", keys)
	}
	if _, known := set.Flag("c"); known {
		t.Error("a flag c exists")
	}
}
