// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// compiledByName are the operators that the compiler handles by name.
var compiledByName = []string{"var", "if", "?:", "and", "or", "map", "filter", "reduce", "all", "none", "some"}

func TestEveryOperatorHasASignature(t *testing.T) {
	var known []string
	for name := range operators {
		known = append(known, name)
	}
	known = append(known, compiledByName...)
	slices.Sort(known)
	if signed := slices.Sorted(maps.Keys(signatures)); !slices.Equal(known, signed) {
		t.Errorf("the operators are %v\nthose with a signature %v", known, signed)
	}
}

// lintRule returns the problems of a rule in a flag with the variants on and
// off.
func lintRule(t *testing.T, rule string) []Problem {
	t.Helper()
	document := `{"$evaluators":{"good":{"in":["x",{"var":"list"}]},"typo":{"if":[{"var":"x"},"onn"]}},
		"flags":{"f":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","targeting":` + rule + `}}}`
	set, problems, err := Parse([]byte(document))
	if err != nil {
		t.Fatalf("%s: %v", rule, err)
	}
	if _, served := set.Flag("f"); !served {
		t.Errorf("%s: the flag is not served: %v", rule, problems)
	}
	return problems
}

// TestRulesThatCannotWorkAreReported has, for each mistake, a rule and a part
// of the problem. The flag is served nevertheless, as by flagd.
func TestRulesThatCannotWorkAreReported(t *testing.T) {
	tests := []struct{ rule, want string }{
		// Results that name no variant.
		{`{"if":[true,"onn","off"]}`, `targeting.if[1]: "onn" is not one of the variants`},
		{`{"if":[{"var":"x"},"on",{"var":"y"},"on","of"]}`, `targeting.if[4]: "of" is not`},
		{`{"fractional":[["onn",50],["off",50]]}`, `targeting.fractional[0][0]: "onn" is not`},
		{`{"fractional":[{"var":"x"},["on",50],[{"if":[{"var":"y"},"offf"]},50]]}`, `"offf" is not`},
		{`{"var":["tier","gold"]}`, `targeting.var[1]: "gold" is not`},
		{`{"or":[{"var":"x"},"onn"]}`, `"onn" is not`},
		{`{"and":[{"==":[{"var":"x"},1]},"on"]}`, `targeting.and[0]["=="]: the rule may return false, which`},
		{`{"or":[{"==":[{"var":"x"},1]},"on"]}`, `the rule may return true, which`},
		{`{"==":[{"var":"x"},1]}`, `the rule may return true or false, which`},
		{`{"!":{"var":"x"}}`, `the rule may return true or false`},
		{`{"if":[{"var":"x"},true]}`, `"true" is not`},
		{`{"if":[{"var":"x"},1]}`, `"1" is not`},
		{`{"+":[{"var":"x"},1]}`, `the rule returns a number, and no variant is named like one`},
		{`{"if":[{"var":"x"},["on"]]}`, `the rule returns a list, which is not a variant`},
		{`{"map":[{"var":"x"},"on"]}`, `the rule returns a list`},
		{`{"if":[{"var":"x"},{"variant":"on","b":1}]}`, `the rule returns an object`},
		{`{"$ref":"typo"}`, `"onn" is not one of the variants; an evaluation that returns it fails with GENERAL (evaluator "typo")`},
		{`{"if":[{"$ref":"good"},"on",{"$ref":"good"}]}`, `the rule may return true or false`},

		// Fractional.
		{`{"fractional":[["on",0.5],["off",0.5]]}`, `the weight 0.5 is not an integer`},
		{`{"fractional":[["on",0],["off",0]]}`, `all weights are 0`},
		{`{"fractional":[["on","50"],["off",50]]}`, `weight of fractional is a string and must be null or a number`},
		{`{"fractional":[["on",-1],["off",50]]}`, `the weight -1 is negative`},
		{`{"fractional":[["on",4294967296],["off",50]]}`, `the weight 4294967296 is more than 2147483647`},
		{`{"fractional":[["on",2147483647],["off",1]]}`, `the sum of the weights is more than 2147483647`},
		{`{"fractional":["on","off"]}`, `a share must be a list`},
		{`{"fractional":["seed",["on",50],["off",50]]}`, `the seed is constant`},
		{`{"fractional":[{"var":"x"}]}`, `there are no shares`},
		{`{"fractional":[["on",50,1],["off",50]]}`, `a share must be a list of a variant and a weight`},
		{`{"fractional":[[],["off",50]]}`, `a share must be a list of a variant and a weight`},
		{`{"fractional":[[["on"],50],["off",50]]}`, `variant of fractional is a list`},
		{`{"fractional":"on"}`, `fractional needs a list of arguments, not a string`},
		{`{"fractional":[]}`, `fractional needs at least one argument, not 0`},

		// sem_ver, starts_with and ends_with.
		{`{"if":[{"sem_ver":[{"var":"v"},"=>","1.0.0"]},"on"]}`, `"=>" is not one of = != < <= > >= ^ ~`},
		{`{"if":[{"sem_ver":[{"var":"v"},">","1.x"]},"on"]}`, `"1.x" is not a semantic version`},
		{`{"if":[{"sem_ver":[">",{"var":"v"},"1.0.0"]},"on"]}`, `">" is not a semantic version`},
		{`{"if":[{"sem_ver":[{"var":"v"},"1.0.0",">"]},"on"]}`, `"1.0.0" is not one of`},
		{`{"if":[{"sem_ver":[{"var":"v"},"1.0.0"]},"on"]}`, `sem_ver needs 3 arguments, not 2`},
		{`{"if":[{"sem_ver":[{"var":"v"},">",{"==":[{"var":"x"},1]}]},"on"]}`, `argument 3 of sem_ver is a boolean and must be a number or a string`},
		{`{"if":[{"starts_with":[{"var":"x"}]},"on"]}`, `starts_with needs 2 arguments, not 1`},
		{`{"if":[{"starts_with":{"var":"x"}},"on"]}`, ``},
		{`{"if":[{"starts_with":"x"},"on"]}`, `starts_with needs a list of arguments, not a string`},
		{`{"if":[{"ends_with":[{"var":"x"},5]},"on"]}`, `argument 2 of ends_with is a number and must be a string`},
		{`{"if":[{"ends_with":[{"var":"x"},["a","b"]]},"on"]}`, `argument 2 of ends_with is a list`},

		// Objects with several operators, and unknown ones.
		{`{"if":[{"var":"x"},"on"],"==":[1,1]}`, `targeting: an object with 2 members is data and is not evaluated: each operator, such as "if"`},
		{`{"if":[{"and":[{"var":"x"}],"or":[{"var":"y"}]},"on"]}`, `targeting.if[0]: an object with 2 members`},
		{`{"if":[{"$ref":"good","x":1},"on"]}`, `an object with 2 members`},
		{`{"if":[{"iff":[1]},"on"]}`, `unknown operator "iff"`},
		{`{"if":[{"$ref":"none"},"on"]}`, `there is no evaluator "none"; an evaluation that reaches it returns PARSE_ERROR`},

		// The other operators.
		{`{"if":{"var":"x"}}`, `if needs a list of arguments, not an object`},
		{`{"and":"on"}`, `and needs a list of arguments, not a string`},
		{`{"if":[]}`, `if needs at least one argument, not 0`},
		{`{"if":[{"==":[{"var":"x"},["a"]]},"on"]}`, `argument 2 of == is a list and must be null, a boolean, a number or a string`},
		{`{"if":[{"==":[{"var":"x"}]},"on"]}`, `== needs 2 arguments, not 1`},
		{`{"if":[{"===":5},"on"]}`, `=== needs a list of arguments, not a number`},
		{`{"if":[{"<":[1,{"var":"x"},5,6]},"on"]}`, `< needs 2 to 3 arguments, not 4`},
		{`{"if":[{"!":[{"var":"x"},{"var":"y"}]},"on"]}`, `! needs one argument, not 2`},
		{`{"if":[{"in":["x",{"y":1,"z":2}]},"on"]}`, `argument 2 of in is an object and must be a string or a list`},
		{`{"if":[{"in":[5,"abc"]},"on"]}`, `argument 1 of in is a number and must be a string`},
		{`{"if":[{">":[{"+":[{"var":"x"},null]},1]},"on"]}`, `argument 2 of + is null and must be a number or a string`},
		{`{"if":[{">":[{"+":[{"var":"x"},"abc"]},1]},"on"]}`, `"abc" is not a number, and counts as 0`},
		{`{"if":[{">":[{"*":[{"!":1},2]},1]},"on"]}`, `argument 1 of * is a boolean`},
		{`{"if":[{"%":[{"var":"x"}]},"on"]}`, `% needs 2 arguments`},
		{`{"if":[{"cat":[{"var":"x"},true]},"on"]}`, `argument 2 of cat is a boolean`},
		{`{"if":[{"cat":5},"on"]}`, `argument of cat is a number and must be a string`},
		{`{"if":[{"merge":null},"on"]}`, `argument of merge is null and must be`},
		{`{"if":[{"substr":[{"var":"x"},"a"]},"on"]}`, `argument 2 of substr is a string and must be a number`},
		{`{"if":[{"some":["abc",{"var":""}]},"on"]}`, `argument 1 of some is a string and must be a list`},
		{`{"if":[{"some":[{"var":"x"},true]},"on"]}`, `the body of the iteration is a boolean and must be an operator`},
		{`{"if":[{"reduce":[{"var":"x"},{"+":[{"var":"current"},1]},null]},"on"]}`, `argument 3 of reduce is null`},
		{`{"if":[{"reduce":[{"var":"x"},{"+":[{"var":"current"},1]}]},"on"]}`, `reduce needs 3 arguments, not 2`},
		{`{"if":[{"missing":[1]},"on"]}`, `argument 1 of missing is a number and must be a string`},
		{`{"if":[{"missing_some":[1,["a",2]]},"on"]}`, `name of missing_some is a number and must be a string`},
		{`{"if":[{"contains_any":[{"var":"x"},"a"]},"on"]}`, `argument 2 of contains_any is a string and must be a list`},
		{`{"if":[{"var":true},"on"]}`, `argument of var is a boolean and must be null, a number or a string`},
		{`{"if":[{"var":["a","b","c"]},"on"]}`, `var needs 0 to 2 arguments, not 3`},
		{`{"if":[{"var":"$flagd.key"},"on"]}`, `$flagd has only flagKey and timestamp`},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			text := ""
			for _, p := range lintRule(t, test.rule) {
				if p.Path == "$evaluators.typo.if[1]" {
					t.Errorf("a result is reported in the evaluator: %v", p)
				}
				if !p.Served {
					t.Errorf("the problem %v does not say that the flag is served", p)
				}
				text += p.Description() + "\n"
			}
			if !strings.Contains(text, test.want) || test.want == "" && text != "" {
				t.Errorf("the problems are %q; want %q", text, test.want)
			}
		})
	}
}

// TestRulesThatWorkAreAccepted has rules as people write them.
func TestRulesThatWorkAreAccepted(t *testing.T) {
	rules := []string{
		`{"if":[{"==":[{"var":"x"},"a"]},"on","off"]}`, `{"if":[true,"on","off"]}`, `{"if":[{"var":"x"},"on",null]}`,
		`{"if":[{"var":"x"},"on"]}`, `{"?:":[{"var":"x"},"on","off"]}`, `{"var":"variant"}`, `{"var":["variant","off"]}`,
		`{"and":[{"var":"x"},"on"]}`, `{"or":[null,"on"]}`,
		`{"fractional":[["on",50],["off",50]]}`, `{"fractional":[["on"],["off"]]}`, `{"fractional":[{"var":"email"},["on",1],["off",0]]}`,
		`{"fractional":[{"cat":["salt",{"var":"targetingKey"}]},["on",1],["off",{"var":"w"}]]}`,
		`{"fractional":[null,["on",1],[null,2]]}`, `{"fractional":[["on",null],["off",3]]}`,
		`{"fractional":[[{"if":[{"var":"x"},"on","off"]},5],["off",5]]}`, `{"fractional":{"var":"shares"}}`,
		`{"if":[{"sem_ver":[{"var":"v"},"^","v1.2"]},"on"]}`, `{"if":[{"sem_ver":["V1","~",{"var":"v"}]},"on"]}`, `{"if":[{"sem_ver":[1.2,{"var":"op"},2]},"on"]}`,
		`{"if":[{"starts_with":[{"var":"x"},"a"]},"on"]}`, `{"if":[{"ends_with":[{"cat":[{"var":"x"},"y"]},{"var":"z"}]},"on"]}`,
		`{"if":[{"in":[{"var":"x"},["a","b",1]]},"on"]}`, `{"if":[{"in":["@corp.com",{"var":"email"}]},"on"]}`, `{"if":[{"in":[{"var":"x"},"abc"]},"on"]}`,
		`{"if":[{"<":[1,{"var":"x"},5]},"on"]}`, `{"if":[{">":[3,{"var":"x"},1]},"on"]}`, `{"if":[{"==":[{"var":"x"},null]},"on"]}`,
		`{"if":[{"!":{"var":"x"}},"on"]}`, `{"if":[{"!!":[{"var":"x"}]},"on"]}`, `{"if":[{"max":{"var":"list"}},"on"]}`,
		`{"if":[{">":[{"+":["5",{"var":"x"}]},3]},"on"]}`, `{"if":[{"-":[{"var":"x"}]},"on"]}`, `{"if":[{"+":"5"},"on"]}`,
		`{"if":[{"missing":["a","b"]},"off","on"]}`, `{"if":[{"missing":"a"},"off","on"]}`, `{"if":[{"missing_some":[1,["a","b"]]},"on"]}`,
		`{"if":[{"some":[{"var":"list"},{"==":[{"var":""},1]}]},"on"]}`, `{"if":[{"all":[[1,2],{">":[{"var":""},0]}]},"on"]}`,
		`{"if":[{"reduce":[{"var":"list"},{"+":[{"var":"current"},{"var":"accumulator"}]},0]},"on"]}`,
		`{"if":[{"filter":[[{"if":1,"or":2},{"if":3}],{"var":"if"}]},"on"]}`,
		`{"if":[{"in":[{"a":1,"b":2},{"var":"x"}]},"on"]}`, `{"if":[{"merge":[1,[2]]},"on"]}`, `{"if":[{"var":""},"on"]}`, `{"if":[{"var":[]},"on"]}`,
		`{"if":[{"<":[{"var":"$flagd.timestamp"},1700000000]},"on"]}`, `{"if":[{"==":[{"var":"$flagd.flagKey"},"f"]},"on"]}`,
		`{"if":[{"$ref":"good"},"on"]}`, `{}`, `null`,
	}
	for _, rule := range rules {
		if problems := lintRule(t, rule); len(problems) > 0 {
			t.Errorf("%s has the problems %v", rule, problems)
		}
	}
}
