// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/flags"
)

// hostile are malicious bodies.
var hostile = map[string]string{
	"a million brackets":         `{"context":` + strings.Repeat("[", 1_000_000),
	"a million objects":          strings.Repeat(`{"context":`, 1_000_000),
	"a hundred levels":           `{"context":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 101),
	"a duplicate name":           `{"context":{"email":"a@corp.com","email":"a@x.com"}}`,
	"two contexts":               `{"context":{},"context":{}}`,
	"a number out of range":      `{"context":{"n":1e999}}`,
	"an unpaired surrogate":      `{"context":{"s":"\ud83d"}}`,
	"a NUL":                      "{\"context\":{\"s\":\"\x00\"}}",
	"a byte order mark":          "\ufeff{\"context\":{}}",
	"bytes that are not UTF-8":   "{\"context\":{\"s\":\"\xff\xfe\"}}",
	"a truncated body":           `{"context":{"s":`,
	"not JSON":                   `hello`,
	"a list":                     `[]`,
	"a context that is a string": `{"context":"{}"}`,
}

// TestHostileBodies checks that each body is rejected with the same error for
// every flag, whatever attributes it reads.
func TestHostileBodies(t *testing.T) {
	core, _ := newTestCore(t, document)
	for name, body := range hostile {
		t.Run(name, func(t *testing.T) {
			status, all, tag := core.Bulk(nil, []byte(body), nil, "*")
			if status != 400 || tag != "" || !bytes.HasPrefix(all, []byte(`{"errorCode":"INVALID_CONTEXT","errorDetails":"the `)) {
				t.Errorf("all flags answer %d %s with the tag %q", status, all, tag)
			}
			for _, key := range []string{"static", "targeted", "disabled", "nobody"} {
				status, one := core.Single(nil, key, []byte(body))
				want := fmt.Sprintf(`{"key":%q,`, key) + string(all[1:])
				if status != 400 || string(one) != want {
					t.Errorf("%s answers %d %s, not %s", key, status, one, want)
				}
			}
		})
	}
}

// TestExpensiveRuleFailsAlone evaluates small rules that would otherwise run
// for ages.
func TestExpensiveRuleFailsAlone(t *testing.T) {
	list := `[` + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + `]`
	rule := func(operator, innermost, tail string) string {
		for range 8 {
			innermost = `{"` + operator + `":[` + list + `,` + innermost + tail + `]}`
		}
		return innermost
	}
	flag := func(rule string) string {
		return `{"state":"ENABLED","variants":{"on":1},"targeting":` + rule + `}`
	}
	document := `{"flags":{
		"a-map":    ` + flag(rule("map", `{"var":""}`, "")) + `,
		"b-reduce": ` + flag(rule("reduce", `{"var":"accumulator"}`, ",0")) + `,
		"c-filter": ` + flag(rule("filter", `{"==":[1,1]}`, "")) + `,
		"d-cat":    ` + flag(`{"reduce":[`+list+`,{"cat":[{"var":"accumulator"},{"var":"accumulator"}]},"xxxxxxxx"]}`) + `,
		"e-some":   ` + flag(rule("all", `{"==":[1,1]}`, "")) + `,
		"good":     {"state":"ENABLED","variants":{"on":1},"targeting":{"if":[{"var":"x"},"on"]}}
	}}`
	core, _ := newTestCore(t, document)
	status, answer, _ := core.Bulk(nil, []byte(`{"context":{"x":true}}`), nil, "")
	var all struct {
		Flags []struct{ Key, ErrorCode, Variant string }
	}
	if err := json.Unmarshal(answer, &all); err != nil || status != 200 || len(all.Flags) != 6 {
		t.Fatalf("all flags answer %d %s (%v)", status, answer, err)
	}
	for _, item := range all.Flags[:5] {
		if item.ErrorCode != "GENERAL" {
			t.Errorf("%s answers %+v", item.Key, item)
		}
	}
	if good := all.Flags[5]; good.Variant != "on" {
		t.Errorf("the valid flag answers %+v", good)
	}
}

// TestResponsesAreAppended checks that the content of the buffer is kept.
func TestResponsesAreAppended(t *testing.T) {
	core, _ := newTestCore(t, document)
	empty, _ := newTestCore(t, "")
	for _, body := range []string{`{}`, `{`, `{"context":{"email":"a@corp.com"}}`} {
		for _, c := range []*Core{core, empty} {
			_, want := c.Single(nil, "targeted", []byte(body))
			if _, got := c.Single([]byte("before"), "targeted", []byte(body)); string(got) != "before"+string(want) {
				t.Errorf("one answer for %s is %s, not %s", body, got, want)
			}
			_, want, tag := c.Bulk(nil, []byte(body), []byte(`,"x":1`), "")
			got, again := []byte(nil), ""
			if _, got, again = c.Bulk([]byte("before"), []byte(body), []byte(`,"x":1`), ""); string(got) != "before"+string(want) || tag != again {
				t.Errorf("the answers for %s are %s with %s, not %s with %s", body, got, again, want, tag)
			}
		}
	}
}

// TestTagsIdentifyResponses compares tags of equal responses, and of responses that
// differ in the context, in one flag, in the metadata or in the extra members.
func TestTagsIdentifyResponses(t *testing.T) {
	member, stranger := `{"context":{"email":"a@corp.com"}}`, `{"context":{"email":"a@x.com"}}`
	type input struct{ document, body, extra string }
	inputs := []input{
		{document, member, ""},
		{document, stranger, ""},
		{document, `{"context":{"email":"b@corp.com","more":1}}`, ""},
		{document, `{}`, ""},
		{document, member, `,"eventStreams":[]`},
		{strings.Replace(document, `"tier": 1`, `"tier": 2`, 1), member, ""},
		{strings.Replace(document, `"team": "shop"`, `"team": "ship"`, 1), member, ""},
		{strings.Replace(document, `"metadata": {"team": "shop"},`, ``, 1), member, ""},
		{strings.Replace(document, `"in": 1`, `"in": 3`, 1), stranger, ""},
		{strings.Replace(document, `"in": 1`, `"in": 3`, 1), member, ""},
	}
	answers := map[string]string{}
	for _, in := range inputs {
		core, _ := newTestCore(t, in.document)
		_, answer, tag := core.Bulk(nil, []byte(in.body), []byte(in.extra), "")
		if other, known := answers[tag]; known && other != string(answer) {
			t.Errorf("%s and %s have the same tag", answer, other)
		}
		answers[tag] = string(answer)
	}
	different := map[string]bool{}
	for _, answer := range answers {
		different[answer] = true
	}
	// Three of the inputs have the same response as another.
	if len(answers) != len(inputs)-3 || len(different) != len(answers) {
		t.Errorf("there are %d tags for %d answers to %d inputs", len(answers), len(different), len(inputs))
	}
}

// TestTimeIsOnlyReadForRulesThatNeedIt checks that the clock is only read for rules
// that read the time.
func TestTimeIsOnlyReadForRulesThatNeedIt(t *testing.T) {
	rule := func(targeting string) string {
		return `{"state":"ENABLED","variants":{"true":1,"false":0},"targeting":` + targeting + `}`
	}
	reads := 0
	core := NewCore(NewMetrics(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)), func() time.Time {
		reads++
		return time.Unix(1_700_000_000, 0)
	})
	core.Serve(parse(t, `{"flags":{
		"by-name":     `+rule(`{"==":[{"var":"$flagd.timestamp"},1700000000]}`)+`,
		"computed":    `+rule(`{"==":[{"var":{"cat":["$flagd.","timestamp"]}},1700000000]}`)+`,
		"other":       `+rule(`{"==":[{"var":"$flagd.flagKey"},"other"]}`)+`,
		"z-attribute": `+rule(`{"!":{"var":"timestamp"}}`)+`}}`))
	for key, times := range map[string]int{"by-name": 1, "computed": 1, "other": 0, "z-attribute": 0} {
		reads = 0
		if _, answer := core.Single(nil, key, nil); !bytes.Contains(answer, []byte(`"variant":"true"`)) || reads != times {
			t.Errorf("%s answers %s after reading the time %d times", key, answer, reads)
		}
	}
	reads = 0
	if _, all, _ := core.Bulk(nil, nil, nil, ""); bytes.Count(all, []byte(`"variant":"true"`)) != 4 || reads != 1 {
		t.Errorf("all flags answer %s after reading the time %d times", all, reads)
	}
}

// TestResponsesAreConsistentWhileFlagsChange sends requests while two sets of flags that read
// different attributes replace each other. Every response must be entirely from
// one set.
func TestResponsesAreConsistentWhileFlagsChange(t *testing.T) {
	sets := []*flags.Set{parse(t, document), parse(t, fuzzed)}
	body := []byte(`{"context":{"targetingKey":"u","email":"a@corp.com","user":{"plan":"gold"},"n":18,"version":"1.3.0"}}`)
	want := map[string]string{}
	for _, set := range sets {
		core, _ := newTestCore(t, "")
		core.Serve(set)
		_, all, tag := core.Bulk(nil, body, nil, "")
		_, one := core.Single(nil, "static", body)
		want[tag] = string(all)
		want[string(one)] = "one"
	}
	core, _ := newTestCore(t, "")
	core.Serve(sets[0])
	var asking sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		asking.Go(func() {
			for range 2_000 {
				if _, all, tag := core.Bulk(nil, body, nil, ""); want[tag] != string(all) {
					t.Errorf("all flags answer %s with the tag %s", all, tag)
					return
				}
				if _, one := core.Single(nil, "static", body); want[string(one)] != "one" {
					t.Errorf("one flag answers %s", one)
					return
				}
			}
		})
	}
	go func() {
		asking.Wait()
		close(done)
	}()
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
			core.Serve(sets[i%len(sets)])
		}
	}
}

// fuzzed has a flag for each kind of outcome.
const fuzzed = `{
  "metadata": {"team": "shop"},
  "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@corp.com"]}},
  "flags": {
    "all":        {"state": "ENABLED", "variants": {"2": 1, "true": 2}, "targeting": {"merge": [{"var": ""}]}},
    "bucket":     {"state": "ENABLED", "variants": {"a": "A", "b": "B"}, "defaultVariant": "a", "targeting": {"fractional": [["a", 50], ["b", 50]]}},
    "computed":   {"state": "ENABLED", "variants": {"a": "A"}, "targeting": {"var": [{"var": "name"}, "a"]}},
    "disabled":   {"state": "DISABLED", "variants": {"on": true}, "defaultVariant": "on"},
    "each":       {"state": "ENABLED", "variants": {"true": {"x": null}, "false": {}}, "targeting": {"some": [{"var": "list"}, {"==": [{"var": "id"}, 1]}]}},
    "empty":      {"state": "ENABLED", "variants": {"on": true}, "targeting": {}},
    "general":    {"state": "ENABLED", "variants": {"on": 1}, "targeting": {"var": "choice"}},
    "missing":    {"state": "ENABLED", "variants": {"on": 1.5}, "targeting": {"if": [{"missing": ["email", "user.plan"]}, "on"]}},
    "number":     {"state": "ENABLED", "variants": {"on": 1}, "targeting": {"if": [{">": [{"+": [{"var": "n"}, 1]}, 18]}, "on"]}},
    "path":       {"state": "ENABLED", "variants": {"gold": 1, "silver": 2}, "defaultVariant": "silver", "targeting": {"var": "user.plan"}},
    "staff":      {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "targeting": {"if": [{"$ref": "staff"}, "on"]}},
    "static":     {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"},
    "version":    {"state": "ENABLED", "variants": {"on": true}, "targeting": {"if": [{"sem_ver": [{"var": "version"}, ">=", "1.2.0"]}, "on"]}}
  }
}`

// FuzzBody sends bodies to every flag and to the bulk endpoint: the responses
// are valid, the bulk response consists of the single ones, and its tag is
// answered with 304.
func FuzzBody(f *testing.F) {
	f.Add(`{"context":{"targetingKey":"u","email":"a@corp.com"}}`)
	f.Add(`{"context":{"user":{"plan":"gold"},"list":[{"id":1},2,[]],"n":18,"version":"v1.3"}}`)
	f.Add(`{"context":{"choice":[1,2],"name":"choice","n":null,"version":2}}`)
	f.Add(`{"context":{"choice":"o\u006e","email":"@corp.com","list":["a",{"id":"1"}]}}`)
	f.Add(`{"context":{"a":[1,{"b":null}]},"context":1}`)
	for _, body := range hostile {
		f.Add(body[:min(len(body), 1000)])
	}
	core, _ := newTestCore(f, fuzzed)
	f.Fuzz(func(t *testing.T, body string) {
		status, all, tag := core.Bulk(nil, []byte(body), nil, "")
		if status == 400 {
			expectRejected(t, core, body, all)
			return
		}
		if status != 200 || tag == "" {
			t.Fatalf("all flags answer %d with the tag %s", status, tag)
		}
		want := `{"flags":[`
		for i, flag := range core.view.Load().set.Flags() {
			status, one := core.Single(nil, flag.Key, []byte(body))
			expectValid(t, flag.Key, status, one)
			if i > 0 {
				want += ","
			}
			want += string(one)
		}
		if want += `],"metadata":{"team":"shop"}}`; string(all) != want {
			t.Errorf("all flags answer %s, but the single flags %s", all, want)
		}
		if status, answer, again := core.Bulk(nil, []byte(body), nil, tag); status != 304 || len(answer) > 0 || again != tag {
			t.Errorf("with the tag %s they answer %d %s with the tag %s", tag, status, answer, again)
		}
	})
}

// expectRejected checks that a body that the bulk endpoint rejects is rejected
// for each flag.
func expectRejected(t *testing.T, core *Core, body string, answer []byte) {
	t.Helper()
	var failure struct{ Key, ErrorCode, ErrorDetails string }
	if err := json.Unmarshal(answer, &failure); err != nil || failure.Key != "" || failure.ErrorCode != "INVALID_CONTEXT" || failure.ErrorDetails == "" {
		t.Errorf("all flags answer %s (%v)", answer, err)
	}
	for _, flag := range core.view.Load().set.Flags() {
		status, one := core.Single(nil, flag.Key, []byte(body))
		if want := fmt.Sprintf(`{"key":%q,%s`, flag.Key, answer[1:]); status != 400 || string(one) != want {
			t.Errorf("%s answers %d %s, not %s", flag.Key, status, one, want)
		}
	}
}

// expectValid checks the required and the forbidden members of a response.
func expectValid(t *testing.T, key string, status int, answer []byte) {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(answer, &fields); err != nil {
		t.Fatalf("%s answers %s: %v", key, answer, err)
	}
	if string(fields["key"]) != `"`+key+`"` || fields["metadata"] == nil {
		t.Errorf("%s answers %s", key, answer)
	}
	codes, reasons := []string{`"PARSE_ERROR"`, `"GENERAL"`}, []string{`"STATIC"`, `"TARGETING_MATCH"`, `"DEFAULT"`, `"DISABLED"`}
	_, hasValue := fields["value"]
	_, hasVariant := fields["variant"]
	switch {
	case status == 400 && slices.Contains(codes, string(fields["errorCode"])) && fields["errorDetails"] != nil && fields["reason"] == nil && !hasValue && !hasVariant:
	case status == 200 && slices.Contains(reasons, string(fields["reason"])) && fields["errorCode"] == nil && hasValue == hasVariant && string(fields["value"]) != "null":
	default:
		t.Errorf("%s answers %d %s", key, status, answer)
	}
}

// TestMetadataIsShared serves flags whose metadata is much larger than the rest.
func TestMetadataIsShared(t *testing.T) {
	const flagCount = 80
	var b strings.Builder
	fmt.Fprintf(&b, `{"metadata":{"m":%q},"flags":{`, strings.Repeat("m", 100_000))
	for i := range flagCount {
		fmt.Fprintf(&b, `"f%d":{"state":"ENABLED","variants":{"a":1,"b":2,"c":3},"targeting":{"var":"x"}},`, i)
	}
	b.WriteString(`"own":{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a","metadata":{"o":true}}}}`)
	set, _, err := flags.Parse([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	core := NewCore(NewMetrics(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)), time.Now)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	core.Serve(set)
	runtime.ReadMemStats(&after)
	if ratio := (after.TotalAlloc - before.TotalAlloc) / uint64(b.Len()); ratio > 10 {
		t.Errorf("%d bytes are allocated for each byte of the document", ratio)
	}
	_, one := core.Single(nil, "f1", []byte(`{"context":{"x":"b"}}`))
	if want := `{"key":"f1","reason":"TARGETING_MATCH","variant":"b","value":2,"metadata":{"m":"mmm`; !strings.HasPrefix(string(one), want) || !json.Valid(one) {
		t.Errorf("the answer is %.200s", one)
	}
	_, own := core.Single(nil, "own", nil)
	if want := `{"key":"own","reason":"STATIC","variant":"a","value":1,"metadata":{"m":"mmm`; !strings.HasPrefix(string(own), want) || !strings.HasSuffix(string(own), `mmm","o":true}}`) {
		t.Errorf("the answer is %.200s", own)
	}
	if _, failed := core.Single(nil, "f1", []byte(`{"context":{"x":"none"}}`)); !strings.Contains(string(failed), `variant","metadata":{"m":"mmm`) || !json.Valid(failed) {
		t.Errorf("the error is %.200s", failed)
	}
}

// The entity tag depends on metadata, although it is not part of the encoded
// responses.
func TestMetadataChangesTheTag(t *testing.T) {
	tagWith := func(metadata string) string {
		core, _ := newTestCore(t, `{"flags":{"a":{"state":"ENABLED","variants":{"x":1},"defaultVariant":"x","metadata":`+metadata+`}}}`)
		_, _, tag := core.Bulk(nil, nil, nil, "")
		return tag
	}
	if tagWith(`{"m":1}`) == tagWith(`{"m":2}`) {
		t.Error("the tag does not identify the metadata")
	}
}
