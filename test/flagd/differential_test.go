// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// generator generates random documents without the known differences: objects in
// data have no or several members, because the library evaluates others as rules in
// some places, and documents are valid.
type generator struct{ random *rand.Rand }

func (g generator) pick(options ...string) string { return options[g.random.IntN(len(options))] }

func (g generator) list(from, to int, item func() string) string {
	items := make([]string, from+g.random.IntN(to-from+1))
	for i := range items {
		items[i] = item()
	}
	return "[" + strings.Join(items, ",") + "]"
}

func (g generator) constant() string {
	return g.pick(`0`, `1`, `-1`, `2.5`, `50`, `"a"`, `"b"`, `"on"`, `"off"`, `"none"`, `""`, `"1"`, `"x@corp.com"`, `true`, `false`, `null`,
		`["a","b"]`, `[1,2]`, `"1.2.3"`, `"日本"`)
}

func (g generator) name() string {
	return g.pick(`"a"`, `"b"`, `"n"`, `"list"`, `"list.1"`, `"deep.x"`, `"email"`, `"version"`, `"targetingKey"`, `"absent"`, `"$flagd.flagKey"`)
}

func (g generator) variable() string {
	if g.random.IntN(4) == 0 {
		return fmt.Sprintf(`{"var":[%s,%s]}`, g.name(), g.constant())
	}
	return fmt.Sprintf(`{"var":%s}`, g.name())
}

func (g generator) share(depth int) string {
	variant := g.pick(`"on"`, `"off"`, `"a"`, `true`, `null`, g.rule(depth-1))
	return "[" + variant + g.pick(``, `,50`, `,50`, `,1`, `,0`, `,-5`, `,0.5`, `,null`, `,"5"`, `,2147483647`, `,`+g.variable()) + "]"
}

func (g generator) fractional(depth int) string {
	seed := g.pick(``, ``, `{"var":"email"},`, `{"cat":["salt",{"var":"targetingKey"}]},`, `null,`, `"seed",`, `{"var":"absent"},`)
	shares := g.list(0, 4, func() string { return g.share(depth) })
	return `{"fractional":` + strings.Replace(strings.Replace(`[`+seed+shares[1:], `,]`, `]`, 1), `,,`, `,`, 1) + `}`
}

func (g generator) version() string {
	return g.pick(`{"var":"version"}`, `"1.2.3"`, `"v1.2"`, `"V2"`, `"1.2.3-rc.1"`, `"1.x"`, `1.2`, `2`, `"2.0.0.0"`, `null`, `{"var":"n"}`)
}

func (g generator) operator(depth int) string {
	rule := func() string { return g.rule(depth - 1) }
	switch g.random.IntN(12) {
	case 0, 1:
		return `{"if":` + g.list(1, 5, rule) + `}`
	case 2:
		return fmt.Sprintf(`{%q:%s}`, g.pick("and", "or"), g.list(1, 3, rule))
	case 3, 4:
		return g.fractional(depth)
	case 5:
		return fmt.Sprintf(`{"sem_ver":[%s,%s,%s]}`, g.version(), g.pick(`"="`, `"!="`, `"<"`, `"<="`, `">"`, `">="`, `"^"`, `"~"`, `"=="`, `1`), g.version())
	case 6:
		return fmt.Sprintf(`{%q:%s}`, g.pick("starts_with", "ends_with"), g.list(1, 3, func() string { return g.pick(g.variable(), `"x"`, `".com"`, `"a"`, `5`) }))
	case 7:
		return fmt.Sprintf(`{"in":[%s,%s]}`, g.pick(g.variable(), g.constant()), g.pick(`["a","b","on"]`, `[1,2,3]`, `"a@b.com"`, `{"var":"list"}`, `{"var":"email"}`))
	case 8:
		return fmt.Sprintf(`{%q:[%s,%s]}`, g.pick("some", "all", "none"), g.pick(`{"var":"list"}`, `[1,2]`), `{"==":[{"var":""},`+g.pick(`1`, `"a"`)+`]}`)
	default:
		return fmt.Sprintf(`{%q:%s}`, g.pick("==", "!=", "===", "!==", "<", "<=", ">", ">=", "+", "-", "*", "cat", "max", "min"), g.list(2, 2, rule))
	}
}

func (g generator) rule(depth int) string {
	switch {
	case depth <= 0 && g.random.IntN(2) == 0:
		return g.constant()
	case depth <= 0:
		return g.variable()
	case g.random.IntN(8) == 0:
		return fmt.Sprintf(`{"$ref":%s}`, g.pick(`"staff"`, `"share"`, `"unknown"`))
	default:
		return g.operator(depth)
	}
}

func (g generator) flag() string {
	variants := g.pick(`{"on":true,"off":false}`, `{"on":"x","off":"","a":"y"}`, `{"on":1,"off":2.5,"true":3,"1":4}`, `{"on":{"k":[1,null],"v":"x"},"off":{}}`,
		`{"true":true,"false":false}`)
	text := `{"state":` + g.pick(`"ENABLED"`, `"ENABLED"`, `"ENABLED"`, `"DISABLED"`) + `,"variants":` + variants
	first := strings.SplitN(variants, `"`, 3)[1]
	text += g.pick(``, `,"defaultVariant":null`, `,"defaultVariant":""`, `,"defaultVariant":"`+first+`"`, `,"defaultVariant":"`+first+`"`)
	text += g.pick(``, ``, `,"metadata":{}`, `,"metadata":{"team":"shop","n":1.5}`, `,"metadata":{"owner":null,"version":true}`)
	if g.random.IntN(8) > 0 {
		text += `,"targeting":` + g.operator(1+g.random.IntN(3))
	} else {
		text += g.pick(``, `,"targeting":{}`)
	}
	return text + `}`
}

func (g generator) document(flags int) string {
	text := g.pick(`{`, `{"metadata":{"owner":"ann","team":"core"},`, `{"metadata":{},`) +
		`"$evaluators":{"staff":{"ends_with":[{"var":"email"},"@corp.com"]},"share":{"fractional":[["on",30],["off",70]]}},"flags":{`
	for i := range flags {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(`"flag-%d":%s`, i, g.flag())
	}
	return text + `}}`
}

func (g generator) context() string {
	text := `{"unrelated":1`
	for name, values := range map[string][]string{
		"a": {`"a"`, `1`, `true`, `null`, `["a",1]`, `"on"`}, "b": {`"b"`, `0`, `""`}, "n": {`5`, `-1.5`, `"7"`, `1e3`},
		"list": {`["a","b"]`, `[1,2,3]`, `[]`, `"abc"`}, "deep": {`{"x":1,"y":2}`, `{"x":"on","z":null}`},
		"email": {`"x@corp.com"`, `"y@example.com"`, `5`}, "version": {`"1.2.3"`, `"v2.0.0-rc.1"`, `1.2`, `"x"`},
		"targetingKey": {`"user-1"`, `"user-2"`, `"user-3"`, `""`, `7`},
	} {
		if g.random.IntN(4) > 0 {
			text += fmt.Sprintf(`,%q:%s`, name, g.pick(values...))
		}
	}
	return text + `}`
}

// TestAnswersAgreeWithFlagd compares random flags and contexts, from fixed seeds.
func TestAnswersAgreeWithFlagd(t *testing.T) {
	const documents, flagsOfEach, contexts = 150, 20, 12
	compared, failed, matched, reported := 0, 0, 0, 0
	for seed := range documents {
		g := generator{random: rand.New(rand.NewPCG(uint64(seed), 14))}
		document := g.document(flagsOfEach)
		theirs, ours := newTheirs(t, document), newOurs(document)
		if theirs.err != nil || ours.err != nil {
			t.Fatalf("seed %d: %v, %v\n%s", seed, theirs.err, ours.err, document)
		}
		for range contexts {
			attributes := g.context()
			for i := range flagsOfEach {
				key := fmt.Sprintf("flag-%d", i)
				want, got := theirs.evaluate(key, attributesOf(t, attributes)), ours.evaluate(t, key, attributes)
				compared++
				switch {
				case got.Error != "":
					failed++
				case got.Reason == "TARGETING_MATCH":
					matched++
				}
				if got.String() != want.String() {
					if reported++; reported > 10 {
						t.Fatal("further differences are not reported")
					}
					t.Errorf("seed %d, %s with %s\nours   %s\ntheirs %s\n%s", seed, key, attributes, got, want, flagText(document, key))
				}
			}
		}
	}
	t.Logf("%d evaluations agree, %d of them errors and %d matches", compared, failed, matched)
	if failed < compared/50 || matched < compared/20 {
		t.Error("the random flags are too uniform")
	}
}

// flagText returns the part of a document that begins with a flag.
func flagText(document, key string) string {
	_, after, _ := strings.Cut(document, `"`+key+`":`)
	text, _, _ := strings.Cut(after, `"flag-`)
	return text
}
