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

// paths are attributes that a test's rules read: also one inside another, one
// through lists, and more than are compared one after the other.
var paths = []string{
	"targetingKey", "email", "user.plan", "user.teams.0.name", "user.teams.x", "user", "list.1", "a.b.c",
	"a.b", "n", "ä", "q\"", "z1", "z2", "z3",
}

func attributesAt(paths ...string) (attributes *Attributes, slots []int) {
	p := newPlaces()
	r := &compiledRule{reads: map[int]struct{}{}}
	for _, path := range paths {
		slot := p.slot(splitPath(path))
		slots = append(slots, slot)
		r.reads[slot] = struct{}{}
	}
	return p.attributes(r), slots
}

// TestRead holds what a body comes to, for bodies on the edge of what is taken.
// It is refused or taken for every flag alike, so no flag's attributes matter.
func TestRead(t *testing.T) {
	deep := func(levels int) string {
		return `{"context":` + strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels) + `}`
	}
	member := func(value string) string { return `{"context":{"a":` + value + `}}` }
	tests := map[string]struct{ body, want string }{
		"nothing":                             {``, ""},
		"white space":                         {" \t\r\n", ""},
		"no context":                          {`{}`, ""},
		"a context of null":                   {`{"context":null}`, ""},
		"more than a context":                 {`{"more":[1,{}],"context":{"a":1},"z":null}`, ""},
		"names in another case mean nothing":  {`{"Context":5,"CONTEXT":[]}`, ""},
		"a list":                              {`[]`, "the body must be a JSON object with a context"},
		"null":                                {`null`, "the body must be a JSON object with a context"},
		"a context that is a text":            {`{"context":"me"}`, "the context is not an object"},
		"a context that is a list":            {`{"context":[{"a":1}]}`, "the context is not an object"},
		"a context that is false":             {`{"context":false}`, "the context is not an object"},
		"cut off":                             {`{"context":{"a":1}`, "not valid JSON"},
		"cut off inside a text":               {`{"context":{"a":"x`, "not valid JSON"},
		"two bodies":                          {`{}{}`, "not valid JSON"},
		"a comma too many":                    {`{"context":{"a":1,}}`, "not valid JSON"},
		"a name without quotes":               {`{context:{}}`, "not valid JSON"},
		"a list's end in place of an objects": {`{"context":{"a":[1}}`, "not valid JSON"},
		"a comment":                           {`{"context":{}/**/}`, "not valid JSON"},
		"a zero before digits":                {member("01"), "not valid JSON"},
		"a plus sign":                         {member("+1"), "not valid JSON"},
		"a dot without digits":                {member("1."), "not valid JSON"},
		"an exponent without digits":          {member("1e+"), "not valid JSON"},
		"NaN":                                 {member("NaN"), "not valid JSON"},
		"all forms of numbers":                {member("[0,-0,1.5,-1.5e-3,1E5,1e+5,123456789012345678901234567890]"), ""},
		"a number that is too large":          {member("1e999"), "a number that is too large"},
		"one of many digits":                  {member("1" + strings.Repeat("0", 400)), "a number that is too large"},
		"a number next to zero":               {member("1e-999"), ""},
		"a byte order mark":                   {"\ufeff{}", "the body must be a JSON object"},
		"a byte that is not UTF-8":            {member("\"\xff\""), "not UTF-8"},
		"half of a surrogate in UTF-8":        {member("\"\xed\xa0\x80\""), "not UTF-8"},
		"a NUL":                               {member("\"\x00\""), "a control character"},
		"a NUL between":                       {"{\x00}", "not valid JSON"},
		"a NUL that is escaped":               {member(`"\u0000"`), ""},
		"a line break in a text":              {member("\"\n\""), "a control character"},
		"all escape sequences":                {member(`"\"\\\/\b\f\n\r\t\u00e4\uD83D\uDE00"`), ""},
		"an unknown escape sequence":          {member(`"\x41"`), "an unknown escape sequence"},
		"a broken one":                        {member(`"\u12g4"`), "a broken escape sequence"},
		"a short one":                         {member(`"\u12"`), "a broken escape sequence"},
		"a high surrogate alone":              {member(`"\ud83d"`), "half of a surrogate pair"},
		"a high surrogate before another":     {member(`"\ud83d\ud83d"`), "half of a surrogate pair"},
		"a low surrogate alone":               {member(`"\ude00"`), "half of a surrogate pair"},
		"a name twice":                        {`{"context":{"a":1,"b":2,"a":1}}`, "a name that the object already has"},
		"a name twice, once escaped":          {`{"context":{"a":1,"\u0061":2}}`, "a name that the object already has"},
		"two contexts":                        {`{"context":{},"context":{}}`, "a name that the object already has"},
		"a name twice further down":           {member(`[{"x":{"y":1,"y":2}}]`), "a name that the object already has"},
		"a name twice beside the context":     {`{"context":{},"x":{"y":1,"y":2}}`, "a name that the object already has"},
		"a name again in another object":      {member(`[{"a":1},{"a":{"a":2}}]`), ""},
		"the empty name":                      {`{"context":{"":1}}`, ""},
		"the empty name twice":                {`{"context":{"":1,"":1}}`, "a name that the object already has"},
		"as deep as may be":                   {deep(maxContextNesting), ""},
		"one level deeper":                    {deep(maxContextNesting + 1), "nested deeper than 64 levels"},
		"a million levels":                    {`{"context":` + strings.Repeat(`[`, 1_000_000), "nested deeper than 64 levels"},
		"a million levels of objects":         {strings.Repeat(`{"context":`, 1_000_000), "nested deeper than 64 levels"},
		"many names":                          {`{"context":{` + membersUpTo(10_000) + `}}`, ""},
		"many names, one of them twice":       {`{"context":{` + membersUpTo(10_000) + `,"k77":1}}`, "a name that the object already has"},
		"the last of many twice":              {`{"context":{` + membersUpTo(10_000) + `,"k9999":1}}`, "a name that the object already has"},
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
			if want := test.want == ""; acceptable(test.body) != want {
				t.Errorf("encoding/json and the rules of I-JSON say %t", !want)
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

// TestReadForgets reads bodies one after the other into one context.
func TestReadForgets(t *testing.T) {
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

// acceptable says whether Read must take a body, as encoding/json and the rules
// that the comment on Read has beyond it say.
func acceptable(body string) bool {
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

// isStrict says that no object has a name twice and nothing is nested too deep.
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

// FuzzRead holds the scanner against encoding/json: it takes the same bodies, but
// for what it is stricter about, and finds the same values in them.
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
		if want := acceptable(body); (err == nil) != want {
			t.Fatalf("%q is taken: %v, and it is acceptable: %t", body, err, want)
		}
		if (new(Context).Read(body, noAttributes) == nil) != (err == nil) {
			t.Errorf("whether %q is taken depends on what is read of it", body)
		}
		if err != nil {
			return
		}
		var request struct{ Context map[string]any }
		decodeExactly(t, body, &request.Context)
		for i, path := range paths {
			want := any(request.Context)
			for _, part := range splitPath(path) {
				want = step(want, part)
			}
			if got := c.attribute(slots[i]); !reflect.DeepEqual(got, want) {
				t.Errorf("%s is %#v in %q, not %#v", path, got, body, want)
			}
		}
		delete(request.Context, flagdKey)
		if got := c.everything(false); len(got)+len(request.Context) > 0 && !reflect.DeepEqual(got, request.Context) {
			t.Errorf("%q is %#v, not %#v", body, got, request.Context)
		}
	})
}

// decodeExactly decodes the member "context", in this very spelling.
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
