// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// parsed returns the set of a document.
func parsed(t *testing.T, document string) *Set {
	t.Helper()
	set, _, err := Parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestDefinitions(t *testing.T) {
	set := parsed(t, `{"metadata":{"flagSetId":"shop"},"$evaluators":{"staff":{"in":["@", {"var":"email"}]},"bad":{}},
		"flags":{
			"a":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","targeting":{"if":[{"$ref":"staff"},"off"]},"note":"x"},
			"b":{"state":"DISABLED","variants":{"x":{"k":[1]}},"targeting":null,"metadata":{"flagSetId":"other"}},
			"c":{"state":"ENABLED","variants":{"x":1},"defaultVariant":null,"targeting":{},"metadata":{"flagSetId":null}},
			"invalid":{"state":"ENABLED"}}}`)
	want := map[string][3]string{
		"a": {`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","targeting":{"if":[{"$ref":"staff"},"off"]}}`, "shop", "true"},
		"b": {`{"state":"DISABLED","variants":{"x":{"k":[1]}},"defaultVariant":"","metadata":{"flagSetId":"other"}}`, "other", ""},
		"c": {`{"state":"ENABLED","variants":{"x":1},"defaultVariant":"","metadata":{"flagSetId":null}}`, "", ""},
	}
	got := map[string][3]string{}
	for _, flag := range set.Flags() {
		got[flag.Key] = [3]string{string(flag.Definition), flag.FlagSet, string(flag.Default)}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, want := string(set.Evaluators()), `{"staff":{"in":["@",{"var":"email"}]}}`; got != want {
		t.Errorf("the evaluators are %s, not %s", got, want)
	}
}

func TestChangesSince(t *testing.T) {
	const simple = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`
	const ruled = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","targeting":{"if":[{"$ref":"staff"},"off"]}}`
	document := func(head, a, b string) string { return `{` + head + `"flags":{"a":` + a + `,"b":` + b + `}}` }
	staff := func(domain string) string {
		return `"$evaluators":{"staff":{"in":["` + domain + `",{"var":"email"}]}},`
	}
	tests := map[string]struct {
		earlier, later string
		want           Changes
	}{
		"nothing":                     {document("", simple, simple), document("", simple, simple), Changes{}},
		"white space and order":       {document("", simple, simple), "{\n" + document("", simple, simple)[1:], Changes{}},
		"a default variant":           {document("", simple, simple), document("", simple[:len(simple)-4]+`off"}`, simple), Changes{Updated: []string{"a"}}},
		"a flag":                      {document("", simple, simple), `{"flags":{"b":` + simple + `,"c":` + simple + `}}`, Changes{Added: []string{"c"}, Removed: []string{"a"}}},
		"an evaluator":                {document(staff("@x"), ruled, simple), document(staff("@y"), ruled, simple), Changes{Updated: []string{"a"}}},
		"the metadata of a document":  {document("", simple, simple), document(`"metadata":{"team":"x"},`, simple, simple), Changes{Updated: []string{"a", "b"}}},
		"a flag that becomes invalid": {document("", simple, simple), document("", `{}`, simple), Changes{Removed: []string{"a"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, parsed(t, test.later).ChangesSince(parsed(t, test.earlier))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
