// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// paths are attributes that rules read: nested ones, ones in lists, and more
// than maxLinearSearch.
var paths = []string{
	"targetingKey", "email", "user.plan", "user.teams.0.name", "user.teams.x", "user", "list.1", "a.b.c",
	"a.b", "n", "ä", "q\"", "z1", "z2", "z3",
}

func attributesAt(paths ...string) (attributes *Attributes, slots []int) {
	p := newAttributeIndex()
	r := &compiledRule{reads: map[int]struct{}{}}
	for _, path := range paths {
		slot := p.slot(splitPath(path))
		slots = append(slots, slot)
		r.reads[slot] = struct{}{}
	}
	return p.attributes(r), slots
}

// TestRead checks bodies at the edge of what is accepted. Whether a body is
// accepted must not depend on the attributes that are read.
func TestRead(t *testing.T) {
	deep := func(levels int) string {
		return `{"context":` + strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels) + `}`
	}
	member := func(value string) string { return `{"context":{"a":` + value + `}}` }
	tests := map[string]struct{ body, want string }{
		"an empty body":                           {``, ""},
		"white space":                             {" \t\r\n", ""},
		"no context":                              {`{}`, ""},
		"a context of null":                       {`{"context":null}`, ""},
		"additional members":                      {`{"more":[1,{}],"context":{"a":1},"z":null}`, ""},
		"names are case-sensitive":                {`{"Context":5,"CONTEXT":[]}`, ""},
		"a list":                                  {`[]`, "the body must be a JSON object with a context"},
		"null":                                    {`null`, "the body must be a JSON object with a context"},
		"a context that is a string":              {`{"context":"me"}`, "the context is not an object"},
		"a context that is a list":                {`{"context":[{"a":1}]}`, "the context is not an object"},
		"a context that is false":                 {`{"context":false}`, "the context is not an object"},
		"truncated":                               {`{"context":{"a":1}`, "not valid JSON"},
		"truncated inside a string":               {`{"context":{"a":"x`, "not valid JSON"},
		"two bodies":                              {`{}{}`, "not valid JSON"},
		"a trailing comma":                        {`{"context":{"a":1,}}`, "not valid JSON"},
		"a name without quotes":                   {`{context:{}}`, "not valid JSON"},
		"mismatched brackets":                     {`{"context":{"a":[1}}`, "not valid JSON"},
		"a comment":                               {`{"context":{}/**/}`, "not valid JSON"},
		"a leading zero":                          {member("01"), "not valid JSON"},
		"a plus sign":                             {member("+1"), "not valid JSON"},
		"a decimal point without digits":          {member("1."), "not valid JSON"},
		"an exponent without digits":              {member("1e+"), "not valid JSON"},
		"NaN":                                     {member("NaN"), "not valid JSON"},
		"all forms of numbers":                    {member("[0,-0,1.5,-1.5e-3,1E5,1e+5,123456789012345678901234567890]"), ""},
		"a number out of range":                   {member("1e999"), "number out of range"},
		"a number with many digits out of range":  {member("1" + strings.Repeat("0", 400)), "number out of range"},
		"a number that underflows":                {member("1e-999"), ""},
		"a byte order mark":                       {"\ufeff{}", "the body must be a JSON object"},
		"a byte that is not UTF-8":                {member("\"\xff\""), "not valid UTF-8"},
		"a surrogate in UTF-8":                    {member("\"\xed\xa0\x80\""), "not valid UTF-8"},
		"a NUL":                                   {member("\"\x00\""), "control character"},
		"a NUL outside a string":                  {"{\x00}", "not valid JSON"},
		"an escaped NUL":                          {member(`"\u0000"`), ""},
		"a line break in a string":                {member("\"\n\""), "control character"},
		"all escape sequences":                    {member(`"\"\\\/\b\f\n\r\t\u00e4\uD83D\uDE00"`), ""},
		"an unknown escape sequence":              {member(`"\x41"`), "unknown escape sequence"},
		"an invalid escape sequence":              {member(`"\u12g4"`), "invalid escape sequence"},
		"a short escape sequence":                 {member(`"\u12"`), "invalid escape sequence"},
		"a high surrogate alone":                  {member(`"\ud83d"`), "unpaired surrogate"},
		"a high surrogate before another":         {member(`"\ud83d\ud83d"`), "unpaired surrogate"},
		"a low surrogate alone":                   {member(`"\ude00"`), "unpaired surrogate"},
		"a duplicate name":                        {`{"context":{"a":1,"b":2,"a":1}}`, "duplicate member name"},
		"a duplicate name, once escaped":          {`{"context":{"a":1,"\u0061":2}}`, "duplicate member name"},
		"two contexts":                            {`{"context":{},"context":{}}`, "duplicate member name"},
		"a duplicate name in a nested object":     {member(`[{"x":{"y":1,"y":2}}]`), "duplicate member name"},
		"a duplicate name outside the context":    {`{"context":{},"x":{"y":1,"y":2}}`, "duplicate member name"},
		"the same name in another object":         {member(`[{"a":1},{"a":{"a":2}}]`), ""},
		"the empty name":                          {`{"context":{"":1}}`, ""},
		"a duplicate empty name":                  {`{"context":{"":1,"":1}}`, "duplicate member name"},
		"at the maximum depth":                    {deep(maxContextNesting), ""},
		"over the maximum depth":                  {deep(maxContextNesting + 1), "nested deeper than 64 levels"},
		"a million levels":                        {`{"context":` + strings.Repeat(`[`, 1_000_000), "nested deeper than 64 levels"},
		"a million levels of objects":             {strings.Repeat(`{"context":`, 1_000_000), "nested deeper than 64 levels"},
		"many names":                              {`{"context":{` + membersUpTo(10_000) + `}}`, ""},
		"many names with a duplicate":             {`{"context":{` + membersUpTo(10_000) + `,"k77":1}}`, "duplicate member name"},
		"many names with a duplicate of the last": {`{"context":{` + membersUpTo(10_000) + `,"k9999":1}}`, "duplicate member name"},
	}
	all, _ := attributesAt(paths...)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, attributes := range []*Attributes{noAttributes, all} {
				err := new(Context).Read(test.body, attributes)
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("the error is %v, not one with %q", err, test.want)
				}
			}
			if want := test.want == ""; isAcceptable(test.body) != want {
				t.Errorf("by encoding/json and the rules of I-JSON it is acceptable: %t", !want)
			}
		})
	}
}

func membersUpTo(count int) string {
	var members strings.Builder
	for i := range count {
		fmt.Fprintf(&members, `,"k%d":%d`, i, i)
	}
	return members.String()[1:]
}

// TestReadDiscardsThePreviousContext reads several bodies into the same
// context.
func TestReadDiscardsThePreviousContext(t *testing.T) {
	attributes, slots := attributesAt("a", "b.c")
	c := new(Context)
	for _, test := range []struct {
		body string
		a, b any
	}{
		{`{"context":{"a":"x","b":{"c":true}}}`, "x", true},
		{`{"context":{"b":[]}}`, nil, nil},
		{`{"context":{"a":[1],"b":{"c":"\u00e4"}}}`, []any{1.0}, "ä"},
		{`{"context":{"a":2,"b":{"c":1}`, nil, nil},
		{``, nil, nil},
	} {
		_ = c.Read(test.body, attributes)
		if a, b := c.attribute(slots[0]), c.attribute(slots[1]); !reflect.DeepEqual(a, test.a) || !reflect.DeepEqual(b, test.b) {
			t.Errorf("%s has %v and %v", test.body, a, b)
		}
	}
}

// isAcceptable reports whether Read must accept a body, by encoding/json and
// the additional rules in Read's comment.
func isAcceptable(body string) bool {
	if strings.Trim(body, " \t\r\n") == "" {
		return true
	}
	var request map[string]any
	if !utf8.ValidString(body) || json.Unmarshal([]byte(body), &request) != nil || request == nil {
		return false
	}
	if hasLoneSurrogate(body) || !isStrict(body) {
		return false
	}
	_, isObject := request["context"].(map[string]any)
	return isObject || request["context"] == nil
}

var (
	escapes   = regexp.MustCompile(`\\(?:u([0-9A-Fa-f]{4})|.)`)
	pairs     = regexp.MustCompile(`<d[89ab]..><d[c-f]..>`)
	surrogate = regexp.MustCompile(`<d[89a-f]..>`)
)

func hasLoneSurrogate(body string) bool {
	plain := strings.NewReplacer("<", "x", ">", "x").Replace(body)
	marked := escapes.ReplaceAllStringFunc(plain, func(escape string) string {
		if escape[1] != 'u' {
			return ""
		}
		return "<" + strings.ToLower(escape[2:]) + ">"
	})
	return surrogate.MatchString(pairs.ReplaceAllString(marked, ""))
}

// isStrict reports whether no object has duplicate names and nothing is nested
// too deeply.
func isStrict(body string) bool {
	decoder := json.NewDecoder(strings.NewReader(body))
	var walk func(depth int) bool
	walk = func(depth int) bool {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		open, isOpen := token.(json.Delim)
		if !isOpen {
			return true
		}
		if depth > maxContextNesting {
			return false
		}
		names := map[string]bool{}
		for decoder.More() {
			if open == '{' {
				name, err := decoder.Token()
				if err != nil || names[name.(string)] {
					return false
				}
				names[name.(string)] = true
			}
			if !walk(depth + 1) {
				return false
			}
		}
		_, err = decoder.Token()
		return err == nil
	}
	return walk(0)
}

// FuzzRead compares the scanner with encoding/json: it accepts the same bodies,
// except where it is stricter, and reads the same values.
func FuzzRead(f *testing.F) {
	f.Add(`{"context":{"targetingKey":"u-1","email":"a@corp.com","user":{"plan":"gold","teams":[{"name":"x"}]}}}`)
	f.Add(`{"context":{"a":{"b":{"c":-1.5e3}},"list":[1,[2,null]],"n":1e999,"\u00e4":"\ud83d\ude00","z1":"\ud83d"}}`)
	f.Add(`{"x":[{"y":1,"y":2}],"context":{"user":[{"plan":1}],"a":"\u0000\"","q\"":true,"z3":""}} `)
	f.Add("\ufeff{}")
	f.Add("{\"context\":\n\t{ \"n\" : 0.1e-7 , \"list\":{\"1\":false} }\r}")
	attributes, slots := attributesAt(paths...)
	f.Fuzz(func(t *testing.T, body string) {
		c := new(Context)
		err := c.Read(body, attributes)
		if want := isAcceptable(body); (err == nil) != want {
			t.Fatalf("reading %q: %v, but it is acceptable: %t", body, err, want)
		}
		if (new(Context).Read(body, noAttributes) == nil) != (err == nil) {
			t.Errorf("whether %q is accepted depends on the attributes", body)
		}
		if err != nil {
			return
		}
		var request struct{ Context map[string]any }
		decodeExactly(t, body, &request.Context)
		for i, path := range paths {
			want := any(request.Context)
			for _, part := range splitPath(path) {
				want = descend(want, part)
			}
			if got := c.attribute(slots[i]); !reflect.DeepEqual(got, want) {
				t.Errorf("%s is %#v in %q, not %#v", path, got, body, want)
			}
		}
		delete(request.Context, flagdKey)
		if got := c.wholeContext(false); len(got)+len(request.Context) > 0 && !reflect.DeepEqual(got, request.Context) {
			t.Errorf("%q is %#v, not %#v", body, got, request.Context)
		}
	})
}

// decodeExactly decodes the member "context", case-sensitively.
func decodeExactly(t *testing.T, body string, to *map[string]any) {
	t.Helper()
	var members map[string]json.RawMessage
	if len(bytes.TrimSpace([]byte(body))) == 0 {
		return
	}
	if err := json.Unmarshal([]byte(body), &members); err != nil {
		t.Fatalf("decoding %q: %v", body, err)
	}
	if context, ok := members["context"]; ok {
		if err := json.Unmarshal(context, to); err != nil {
			t.Fatalf("decoding the context in %q: %v", body, err)
		}
	}
}
