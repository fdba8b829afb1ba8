// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the generated part of the documentation")

const documentation = "../../docs/flags.md"

// difference is a kind of difference from flagd. Its example is the flag "f".
type difference struct {
	kind string
	// document and context are the example.
	document, context string
	// theirs and ours are the answers.
	theirs, ours string
	// flagd and flagService describe them; right has who is right, and why.
	flagd, flagService, right string
}

// withRule returns a document with a rule.
func withRule(rule string) string {
	return `{"flags":{"f":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":` + rule + `}}}`
}

// numbers is a list of 400 numbers.
var numbers = "[0" + strings.Repeat(",1", 399) + "]"

const on = `{"Reason":"TARGETING_MATCH","Variant":"on","Value":true}`

var differences = []difference{
	{
		kind:     "`\"targeting\": null`",
		document: withRule(`null`), context: `{}`,
		theirs: `{"Reason":"DEFAULT","Variant":"off","Value":false}`, ours: `{"Reason":"STATIC","Variant":"off","Value":false}`,
		flagd: "evaluates the rule `null`: reason `DEFAULT`", flagService: "no targeting: reason `STATIC`",
		right: "flag-service: null is none everywhere else, and clients may cache `STATIC`",
	},
	{
		kind:     "A default variant that does not exist",
		document: `{"flags":{"f":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"},"g":{"state":"ENABLED","variants":{"a":1},"defaultVariant":"b"}}}`,
		context:  `{}`,
		theirs:   `{"Refused":"document"}`, ours: `{"Reason":"STATIC","Variant":"on","Value":true}`,
		flagd: "refuses the document", flagService: "rejects the flag, and serves the others",
		right: "flag-service: one mistake must not hold back all other changes",
	},
	{
		kind:     "A flag without a state, or with an unknown one",
		document: `{"flags":{"f":{"variants":{"on":true},"defaultVariant":"on"}}}`, context: `{}`,
		theirs: `{"Reason":"STATIC","Variant":"on","Value":true}`, ours: `{"Refused":"flag"}`,
		flagd: "serves it as enabled, with a warning", flagService: "rejects the flag",
		right: "flag-service: flagd's schema requires it, and a misspelt `DISABLED` must not enable a flag",
	},
	{
		kind:     "Variants of different types, and variants that are null or a list",
		document: `{"flags":{"f":{"state":"ENABLED","variants":{"on":true,"off":"no"},"defaultVariant":"on"}}}`, context: `{}`,
		theirs: `{"Reason":"STATIC","Variant":"on","Value":true}`, ours: `{"Refused":"flag"}`,
		flagd: "serves it, with a warning", flagService: "rejects the flag",
		right: "flag-service: flagd's schema does not allow it, and clients would see a type mismatch for some users",
	},
	{
		kind:     "A number beyond 2^53-1 as a variant",
		document: `{"flags":{"f":{"state":"ENABLED","variants":{"on":9007199254740993},"defaultVariant":"on"}}}`, context: `{}`,
		theirs: `{"Reason":"STATIC","Variant":"on","Value":9007199254740992}`, ours: `{"Refused":"flag"}`,
		flagd: "serves another number", flagService: "rejects the flag",
		right: "flag-service: most clients cannot represent the number",
	},
	{
		kind:     "A variant without a name",
		document: `{"flags":{"f":{"state":"ENABLED","variants":{"":true},"defaultVariant":"","targeting":{"cat":[""]}}}}`, context: `{}`,
		theirs: `{"Reason":"TARGETING_MATCH","Value":true}`, ours: `{"Refused":"flag"}`,
		flagd: "serves it to rules", flagService: "rejects the flag",
		right: "flag-service: an empty default variant means that there is none",
	},
	{
		kind:     "A duplicate key",
		document: `{"flags":{"f":{"state":"ENABLED","variants":{"on":1,"on":2},"defaultVariant":"on"}}}`, context: `{}`,
		theirs: `{"Reason":"STATIC","Variant":"on","Value":2}`, ours: `{"Refused":"flag"}`,
		flagd: "serves the last one", flagService: "rejects the flag", right: "flag-service: it is unknown which one was meant",
	},
	{
		kind:     "Half of a surrogate pair",
		document: `{"flags":{"f":{"state":"ENABLED","variants":{"on":"\ud83d"},"defaultVariant":"on"}}}`, context: `{}`,
		theirs: `{"Reason":"STATIC","Variant":"on","Value":"` + "\ufffd" + `"}`, ours: `{"Refused":"flag"}`,
		flagd: "serves U+FFFD instead", flagService: "rejects the flag",
		right: "flag-service: it is not text, and never what was meant",
	},
	{
		kind:     "Metadata that is an object or a list",
		document: `{"flags":{"f":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","metadata":{"m":{"k":1}}}}}`, context: `{}`,
		theirs: `{"Reason":"STATIC","Variant":"on","Value":true,"Metadata":{"m":{"k":1}}}`, ours: `{"Refused":"flag"}`,
		flagd: "serves it", flagService: "rejects the flag; in the metadata of the document, leaves the entry out",
		right: "flag-service: neither flagd's schema nor OFREP allows it",
	},
	{
		kind: "A reference in an evaluator",
		document: `{"$evaluators":{"a":{"!":[{"$ref":"a"}]}},"flags":{"f":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
			"targeting":{"if":[{"$ref":"a"},"on"]}}}}`, context: `{}`,
		theirs: `{"Error":"PARSE_ERROR"}`, ours: `{"Refused":"flag"}`,
		flagd: "replaces it or not, by chance; an evaluation may fail", flagService: "rejects the flags that refer to it",
		right: "flag-service: flagd does not support it, and the result must not depend on chance",
	},
	{
		kind: "A context with an object that has one member, like an operator", document: withRule(`{"if":[true,{"var":"x"}]}`),
		context: `{"x":{"cat":["o","n"]}}`,
		theirs:  on, ours: `{"Error":"GENERAL"}`,
		flagd: "evaluates the client's data as a rule in some places", flagService: "never evaluates data",
		right: "flag-service: clients are not trusted",
	},
	{
		kind:     "A rule nested deeper than 32 operators",
		document: withRule(strings.Repeat(`{"if":[true,`, 33) + `"on"` + strings.Repeat(`]}`, 33)), context: `{}`,
		theirs: on, ours: `{"Refused":"flag"}`,
		flagd: "evaluates it", flagService: "rejects the flag, as for all [limits](#limits)",
		right: "flag-service: time and memory of an evaluation must have a limit",
	},
	{
		kind:     "A rule that takes more than 100,000 steps",
		document: withRule(`{"if":[{"all":[` + numbers + `,{"all":[` + numbers + `,{">=":[{"var":""},0]}]}]},"on"]}`), context: `{}`,
		theirs: on, ours: `{"Error":"GENERAL"}`,
		flagd: "evaluates it", flagService: "fails with `GENERAL`", right: "flag-service: as above",
	},
}

func TestDifferences(t *testing.T) {
	for _, d := range differences {
		t.Run(d.kind, func(t *testing.T) {
			if got := newTheirs(t, d.document).evaluate("f", attributesOf(t, d.context)).String(); got != d.theirs {
				t.Errorf("flagd answers %s, not %s", got, d.theirs)
			}
			if got := newOurs(d.document).evaluate(t, "f", d.context).String(); got != d.ours {
				t.Errorf("the flag service answers %s, not %s", got, d.ours)
			}
		})
	}
}

// TestDifferencesAreDocumented compares the table in the documentation.
func TestDifferencesAreDocumented(t *testing.T) {
	var table strings.Builder
	table.WriteString("| | flagd 0.16.1 | flag-service | right |\n| --- | --- | --- | --- |\n")
	for _, d := range differences {
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", d.kind, d.flagd, d.flagService, d.right)
	}
	data, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- Generated by \"go test . -update\" in test/flagd: differences -->\n", "<!-- End of differences -->\n"
	before, rest, found := strings.Cut(string(data), begin)
	documented, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatal("the documentation has no table of differences")
	}
	if *update {
		if err := os.WriteFile(documentation, []byte(before+begin+table.String()+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if documented != table.String() {
		t.Errorf("the documentation differs; run the test with -update:\n%s", table.String())
	}
}
