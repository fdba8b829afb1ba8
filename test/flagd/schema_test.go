// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"fmt"
	"strings"
	"testing"

	schemas "github.com/open-feature/flagd-schemas/json"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/flagcache/flagcache/service/flags"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	for name, text := range map[string]string{"flagd": schemas.FlagdSchema, "flags": schemas.FlagSchema, "targeting": schemas.TargetingSchema} {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource("https://flagd.dev/schema/v0/"+name+".json", document); err != nil {
			t.Fatal(err)
		}
	}
	compiled, err := compiler.Compile("https://flagd.dev/schema/v0/targeting.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// operators are the operators in flagd's schema.
var operators = []string{
	"var", "missing", "missing_some", "if", "==", "===", "!=", "!==", ">", ">=", "<", "<=", "%", "/", "*", "+", "-", "map", "filter", "all", "none", "some",
	"in", "substr", "reduce", "!", "!!", "or", "and", "max", "min", "merge", "cat", "starts_with", "ends_with", "sem_ver", "fractional",
}

// stricter are the rules that the checks report although flagd's schema accepts
// them, by a part of the problem: the operators do not work.
var stricter = []string{
	"counts as 0", "is null and must be a number or a string", "is a boolean and must be", "is a list and must be", "is a string and must be a list",
	"is a number and must be", "is a string and must be a number", "is null and must be", "is an object and must be", "the body of the iteration is",
	"needs one argument, not", "var needs 0 to 2 arguments",
}

// looser are the operators for which some rules work that flagd's schema does not
// accept: see docs/flags.md.
var looser = map[string]bool{
	">": true, ">=": true, "/": true, "*": true, "+": true, "cat": true, "merge": true, "missing": true, "missing_some": true, "sem_ver": true, "fractional": true,
}

// TestSignaturesAgreeWithTheSchema has each operator with up to four arguments of
// each type. The flag has variants for all results, so that only the arguments
// count.
func TestSignaturesAgreeWithTheSchema(t *testing.T) {
	compiled := schema(t)
	values := []string{`"1.2.3"`, `1`, `true`, `null`, `["a"]`, `{"var":"x"}`, `">"`, `["on",50]`}
	agreed, strict, loose := 0, map[string]bool{}, map[string]bool{}
	for _, name := range operators {
		for _, arguments := range argumentLists(values) {
			rule := fmt.Sprintf(`{"if":[{%q:%s},"on"]}`, name, arguments)
			decoded, err := jsonschema.UnmarshalJSON(strings.NewReader(rule))
			if err != nil {
				t.Fatal(err)
			}
			problems := problemsOf(t, rule)
			accepted := compiled.Validate(decoded) == nil
			switch {
			case accepted == (problems == ""):
				agreed++
			case accepted:
				strict[name] = true
				if !containsAny(problems, stricter) {
					t.Errorf("flagd's schema accepts %s, which is reported: %s", rule, problems)
				}
			default:
				loose[name] = true
				// Arguments may be computed by an operator in place of the list.
				if computed := strings.HasPrefix(arguments, "{"); !looser[name] && !computed {
					t.Errorf("flagd's schema does not accept %s, which is not reported", rule)
				}
			}
		}
	}
	for name := range looser {
		if !loose[name] {
			t.Errorf("the checks of %s are nowhere looser than the schema", name)
		}
	}
	t.Logf("%d rules agree; stricter are the checks of %d operators, looser those of %d", agreed, len(strict), len(loose))
}

// argumentLists returns a single argument of each type, and lists of up to four.
func argumentLists(values []string) []string {
	lists := append([]string{`[]`}, values...)
	for _, a := range values {
		lists = append(lists, `[`+a+`]`)
		for _, b := range values {
			lists = append(lists, `[`+a+`,`+b+`]`)
			for _, c := range values {
				lists = append(lists, `[`+a+`,`+b+`,`+c+`]`)
			}
		}
	}
	return append(lists, `[{"var":"x"},{"var":"x"},{"var":"x"},{"var":"x"}]`)
}

func problemsOf(t *testing.T, rule string) string {
	t.Helper()
	_, problems, err := flags.Parse([]byte(withRule(rule)))
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, p := range problems {
		text += p.Description() + "; "
	}
	return text
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
