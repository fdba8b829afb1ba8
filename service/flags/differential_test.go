// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/diegoholiveira/jsonlogic/v3"
)

// evaluateRule compiles a single rule and evaluates it for a context.
func evaluateRule(t testing.TB, rule, data string) (any, error) {
	t.Helper()
	c := compiler{index: newAttributeIndex()}
	compiled, err := c.compile(tree(t, rule), root("rule"))
	if err != nil {
		return nil, err
	}
	ctx := read(t, data, c.index.attributes(compiled))
	value := ctx.evaluate(compiled, "flag", 1)
	return value, ctx.err
}

// read reads the given attributes of a context.
func read(t testing.TB, context string, attributes *Attributes) *Context {
	t.Helper()
	c := new(Context)
	if err := c.Read(`{"context":`+context+`}`, attributes); err != nil {
		t.Fatalf("reading the context %s: %v", context, err)
	}
	return c
}

// libraryResult evaluates the rule with the library that flagd uses.
func libraryResult(t testing.TB, rule, data string) (any, error) {
	t.Helper()
	var attributes map[string]any
	if err := json.Unmarshal([]byte(data), &attributes); err != nil {
		t.Fatalf("the data %s is not JSON: %v", data, err)
	}
	attributes[flagdKey] = map[string]any{flagdFlagKey: "flag", flagdTimestamp: 1.0}
	var decoded any
	if err := json.Unmarshal([]byte(rule), &decoded); err != nil {
		t.Fatalf("the rule %s is not JSON: %v", rule, err)
	}
	return jsonlogic.ApplyInterface(decoded, attributes)
}

// show formats a result so that values such as NaN can be compared.
func show(value any, err error) string {
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%#v", value)
}

// disagreement compares both evaluations of a rule. difference is empty if they
// agree; failed reports whether the rule cannot be evaluated.
func disagreement(t testing.TB, rule, data string) (difference string, failed bool) {
	t.Helper()
	ours, ourErr := evaluateRule(t, rule, data)
	theirs, theirErr := libraryResult(t, rule, data)
	got, want := show(ours, ourErr), show(theirs, theirErr)
	if got != want {
		difference = fmt.Sprintf("rule %s\ndata %s\n ours   %s (%v)\n theirs %s (%v)", rule, data, got, ourErr, want, theirErr)
	}
	return difference, ourErr != nil
}

// generator generates random rules. It avoids two things: data that the library
// evaluates as rules (objects with one key, including operators in the list of
// an iteration), and variables without a constant name inside iterations, which
// the library evaluates even if they are not reached.
type generator struct {
	random *rand.Rand
	inBody int
}

func (g *generator) pick(options ...string) string { return options[g.random.IntN(len(options))] }

func (g *generator) constant() string {
	return g.pick(`0`, `1`, `-1`, `2.5`, `10`, `"a"`, `"b"`, `"abc"`, `""`, `"1"`, `" 2 "`, `"x1"`, `true`, `false`,
		`null`, `[]`, `[1,2,3]`, `["a","b"]`, `[[1,3],["a"]]`, `"ABC"`, `"日本語"`, `1e21`, `"0x10"`, `"Infinity"`)
}

func (g *generator) name() string {
	return g.pick(`"a"`, `"b"`, `"n"`, `"list"`, `"list.1"`, `"users"`, `"users.0.name"`, `"deep.x.y"`, `"none"`,
		`""`, `"."`, `".n"`, `"name"`, `"age"`, `"current"`, `"accumulator"`, `"list.x"`, `"users.0.tags"`, `1`)
}

func (g *generator) variable(depth int) string {
	switch g.random.IntN(6) {
	case 0:
		return fmt.Sprintf(`{"var":[%s,%s]}`, g.pick(`"a"`, `"none"`, `"n"`, `"name"`), g.constant())
	case 1:
		if g.inBody == 0 {
			return fmt.Sprintf(`{"var":%s}`, g.pick(`null`, `[]`, `true`, `["a",{"var":"n"}]`, `[1]`, `{"cat":["lis","t"]}`))
		}
	case 2:
		if g.inBody == 0 {
			return fmt.Sprintf(`{"var":[%s]}`, g.rule(depth-1))
		}
	}
	return fmt.Sprintf(`{"var":%s}`, g.name())
}

func (g *generator) rules(depth, minimum, maximum int) string {
	list := ""
	for i := range minimum + g.random.IntN(maximum-minimum+1) {
		if i > 0 {
			list += ","
		}
		list += g.rule(depth)
	}
	return "[" + list + "]"
}

func (g *generator) body(depth int) string {
	g.inBody++
	defer func() { g.inBody-- }()
	if g.random.IntN(3) == 0 {
		return g.variable(depth)
	}
	return g.operator(depth)
}

func (g *generator) subject(depth int) string {
	if g.random.IntN(2) == 0 {
		return g.pick(`{"var":"list"}`, `{"var":"users"}`, `{"var":"users.0.tags"}`, `[1,2,3]`, `["a","","b"]`, `{"var":""}`)
	}
	if subject := g.rule(depth); !strings.HasPrefix(subject, "[") {
		return subject
	}
	return `["x",1]`
}

func (g *generator) iteration(depth int) string {
	op := g.pick("map", "filter", "reduce", "all", "none", "some")
	if op == "reduce" {
		return fmt.Sprintf(`{"reduce":[%s,%s,%s]}`, g.subject(depth), g.body(depth), g.pick(`0`, `1`, `""`, `"x"`, `true`, `false`, `{"var":"n"}`, `{"+":[1,2]}`))
	}
	return fmt.Sprintf(`{%q:[%s,%s]}`, op, g.subject(depth), g.body(depth))
}

func (g *generator) operator(depth int) string {
	switch g.random.IntN(10) {
	case 0, 1:
		return g.iteration(depth - 1)
	case 2:
		return fmt.Sprintf(`{%q:%s}`, g.pick("if", "?:", "and", "or"), g.rules(depth-1, 0, 5))
	case 3:
		return fmt.Sprintf(`{%q:%s}`, g.pick("missing", "cat", "merge", "+", "!", "!!", "max", "min", "abs"), g.rule(depth-1))
	case 4:
		return fmt.Sprintf(`{"missing_some":[%s,["a","none","n"]]}`, g.pick(`1`, `2`, `3`, `"2"`, `null`))
	case 5:
		return fmt.Sprintf(`{%q:%s}`, g.pick("contains_all", "contains_any", "contains_none", "missing"), g.rules(depth-1, 0, 3))
	default:
		op := g.pick("==", "!=", "===", "!==", "<", "<=", ">", ">=", "!", "!!", "+", "-", "*", "/", "%", "min", "max",
			"cat", "substr", "in", "merge", "abs")
		return fmt.Sprintf(`{%q:%s}`, op, g.rules(depth-1, 0, 3))
	}
}

func (g *generator) rule(depth int) string {
	if depth <= 0 || g.random.IntN(5) == 0 {
		if g.random.IntN(2) == 0 {
			return g.constant()
		}
		return g.variable(0)
	}
	if g.random.IntN(8) == 0 {
		return g.rules(depth-1, 0, 3)
	}
	return g.operator(depth)
}

var differentialData = []string{
	`{"a":"a","b":true,"n":5,"list":[1,2,3,"a"],"users":[{"name":"ann","age":30,"tags":["a","b"]},{"name":"bob","age":17,"tags":[]}],"deep":{"x":{"y":"abc","z":1},"w":0},"age":20,"x":1}`,
	`{"a":1,"b":null,"n":"7","list":[],"users":[],"name":"abc","deep":{"x":2,"y":3}}`,
	`{"unrelated":null}`,
	`{"list":["a",["b"],null,4.5],"n":-3,"a":[1,2],"current":9,"accumulator":"s","1":"one","users":{"0":{"name":"x","tags":["t"]},"k":1}}`,
}

// context returns a random context with at least two attributes.
func (g *generator) context() string {
	members := `"unrelated":null,"n":` + g.datum(1)
	for _, name := range []string{`"a"`, `"\u0062"`, `"list"`, `"users"`, `"deep"`, `"name"`, `"age"`, `"current"`, `"accumulator"`, `"1"`} {
		if g.random.IntN(2) == 0 {
			members += g.pick(`,`, ` , `, ",\n\t") + name + g.pick(`:`, ` : `) + g.datum(3)
		}
	}
	return `{` + members + `}`
}

// datum returns a random value. Its objects have at least two keys.
func (g *generator) datum(depth int) string {
	if depth <= 0 || g.random.IntN(2) == 0 {
		return g.pick(`0`, `1`, `-3`, `4.5`, `1e2`, `"a"`, `"abc"`, `"\u0061\"\n"`, `""`, `"7"`, `"日本語"`, `true`, `false`, `null`)
	}
	items := []string{}
	for range 2 + g.random.IntN(3) {
		items = append(items, g.datum(depth-1))
	}
	if g.random.IntN(2) == 0 {
		return `[` + strings.Join(items[g.random.IntN(len(items)+1):], `,`) + `]`
	}
	object := ""
	for i, name := range []string{`"x"`, `"name"`, `"0"`, `"tags"`, `"age"`}[:len(items)] {
		object += `,` + name + `:` + items[i]
	}
	return `{` + object[1:] + `}`
}

// TestEvaluationAgreesWithLibrary compares random rules, from a fixed seed, with
// jsonlogic/v3 3.9.1, the library inside flagd.
func TestEvaluationAgreesWithLibrary(t *testing.T) {
	const count = 50_000
	g := generator{random: rand.New(rand.NewPCG(20, 26))}
	failures := 0
	for range count {
		rule := g.operator(1 + g.random.IntN(4))
		data := g.context()
		if g.random.IntN(2) == 0 {
			data = differentialData[g.random.IntN(len(differentialData))]
		}
		difference, failed := disagreement(t, rule, data)
		if difference != "" {
			t.Error(difference)
		}
		if failed {
			failures++
		}
	}
	if failures > count/2 {
		t.Errorf("%d of %d rules fail to evaluate, too many for the comparison to be meaningful", failures, count)
	}
}

// TestUnusualRulesAgreeWithLibrary compares rules that the generator rarely
// produces.
func TestUnusualRulesAgreeWithLibrary(t *testing.T) {
	rules := []string{
		`{"set":[{"var":"deep"},"w",{"var":"n"}]}`, `{"set":[{"var":"deep"},"w"]}`, `{"set":[{"var":"n"},"w",1]}`,
		`{"map":[]}`, `{"map":[[1]]}`, `{"filter":[]}`, `{"filter":[[1]]}`, `{"reduce":[]}`, `{"reduce":[[1],{"var":""}]}`,
		`{"all":[]}`, `{"none":[]}`, `{"some":[]}`, `{"all":[[1]]}`, `{"none":[[]]}`, `{"some":[[]]}`,
		`{"map":5}`, `{"and":5}`, `{"or":"a"}`, `{"if":true}`, `{"and":[]}`, `{"or":[]}`, `{"if":[]}`,
		`{"+":[]}`, `{"*":[]}`, `{"/":[]}`, `{"-":[]}`, `{"%":[]}`, `{"%":[1]}`, `{"min":[]}`, `{"max":[]}`, `{"abs":[]}`,
		`{"cat":[]}`, `{"substr":["abc"]}`, `{"substr":["日本語",-2]}`, `{"substr":["日本語",1,-1]}`, `{"substr":["abc",5]}`,
		`{"in":[]}`, `{"in":["a"]}`, `{"in":[5,"5"]}`, `{"in":[2,[[1,3]]]}`, `{"in":[[1],[[1]]]}`, `{"in":[null,[null]]}`,
		`{"==":[null,0]}`, `{"==":["","0"]}`, `{"==":[[],0]}`, `{"===":[1,"1"]}`, `{"<":["10",9]}`, `{"<":[1,2,3]}`, `{"<=":["a","b","a"]}`,
		`{"missing_some":[1]}`, `{"missing_some":[1,"a"]}`, `{"missing_some":[9,["a","none"]]}`, `{"missing":[["a","none"]]}`,
		`{"missing":{"merge":["a",{"if":[true,["none"],[]]}]}}`,
		`{"contains_all":[["a","b"],["a"]]}`, `{"contains_any":[[1,"1"],["1"]]}`, `{"contains_none":[[1],[1.0]]}`,
		`{"var":"list.NaN"}`, `{"var":"list.-0.5"}`, `{"var":"list.-1"}`, `{"var":"list.Infinity"}`, `{"var":"list.1e0"}`, `{"var":"list.99"}`,
		`{"substr":["abc",0,1e300]}`, `{"substr":["abc",1e300]}`, `{"substr":["abc",-1e300]}`, `{"substr":["abc",1,-1e300]}`, `{"substr":["abc",1,"NaN"]}`,
		`{"missing_some":["NaN",["none"]]}`, `{"missing_some":[1e300,["a"]]}`,
		`{"merge":[]}`, `{"merge":5}`, `{"merge":[1,[2,[3]]]}`, `{"!":[]}`, `{"!!":[[]]}`,
	}
	for _, rule := range rules {
		for _, data := range differentialData {
			if difference, _ := disagreement(t, rule, data); difference != "" {
				t.Error(difference)
			}
		}
	}
}

// FuzzEvaluationAgreesWithLibrary compares random rules with seeds from the
// fuzzer.
func FuzzEvaluationAgreesWithLibrary(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(3), uint8(0))
	f.Add(uint64(9), uint64(9), uint8(5), uint8(3))
	f.Add(uint64(7), uint64(1), uint8(4), uint8(200))
	f.Fuzz(func(t *testing.T, high, low uint64, depth, choice uint8) {
		g := generator{random: rand.New(rand.NewPCG(high, low))}
		rule, data := g.operator(1+int(depth%6)), ""
		if int(choice) < len(differentialData) {
			data = differentialData[choice]
		} else {
			data = g.context()
		}
		if difference, _ := disagreement(t, rule, data); difference != "" {
			t.Error(difference)
		}
	})
}
