// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package printable

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTextIsEscapedAndBounded(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		limit int
		want  string
	}{
		"plain":                        {"Größe 3 → 5", 100, "Größe 3 → 5"},
		"a window title":               {"\x1b]0;pwned\x07", 100, `\x1b]0;pwned\a`},
		"lines":                        {"a\nb\r\n\tc", 100, "a b   c"},
		"C1 control characters":        {"\u009b2J", 100, `\u009b2J`},
		"a change of direction":        {"a\u202eb", 100, `a\u202eb`},
		"an invalid byte":              {"a\xffb", 100, `a\xffb`},
		"the replacement character":    {"a\ufffdb", 100, "a\ufffdb"},
		"a NUL":                        {"a\x00b", 100, `a\x00b`},
		"as long as allowed":           {strings.Repeat("x", 20), 20, strings.Repeat("x", 20)},
		"one byte longer than allowed": {strings.Repeat("x", 21), 20, strings.Repeat("x", 11) + "… (cut)"},
		"a rune at the limit":          {strings.Repeat("é", 11), 20, strings.Repeat("é", 5) + "… (cut)"},
		"an escape at the limit":       {"xxxxxxxxx" + "\x1b\x1b\x1b\x1b", 20, "xxxxxxxxx" + "… (cut)"},
		"the quotes of a message":      {`"a" \b`, 100, `"a" \b`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Text(c.text, c.limit); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzTextIsPrintable(f *testing.F) {
	f.Add("\x1b]0;x\x07")
	f.Add(strings.Repeat("\u202e", 300))
	f.Fuzz(func(t *testing.T, text string) {
		got := Text(text, MaxMessage)
		if len(got) > MaxMessage || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("Text(%q) = %q, which is not printable or has more than %d bytes", text, got, MaxMessage)
		}
		if again := Text(got, MaxMessage); again != got {
			t.Errorf("Text is not idempotent: %q becomes %q", got, again)
		}
	})
}

func TestWriterKeepsLinesAndTabs(t *testing.T) {
	var out strings.Builder
	const text = "a\tb\n\x1b[2Jc\rd\n"
	if n, err := (Writer{To: &out}).Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
	if got := out.String(); got != "a\tb\n\\x1b[2Jc d\n" {
		t.Errorf("got %q", got)
	}
}
