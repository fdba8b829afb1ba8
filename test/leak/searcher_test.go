// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// marked has characters that each encoding writes in its own way.
const marked = `p<&s+/ ?"w\ör%d`

func TestSearcherFindsEachForm(t *testing.T) {
	inJSON, err := json.Marshal(map[string]string{"password": marked})
	if err != nil {
		t.Fatal(err)
	}
	inJSONTwice, err := json.Marshal(map[string]string{"body": string(inJSON)})
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("it is " + marked)
	texts := map[string]string{
		"raw":               "before " + marked + " after",
		"hex":               "key=" + hex.EncodeToString([]byte(marked)) + "00",
		"upper-case hex":    strings.ToUpper(hex.EncodeToString([]byte(marked))),
		"%x":                fmt.Sprintf("%x", marked),
		"%q":                fmt.Sprintf("%q", marked),
		"%v of bytes":       fmt.Sprintf("%v", []byte("x"+marked+"y")),
		"a URL's query":     "https://host/?" + url.Values{"password": {marked}}.Encode(),
		"a URL's path":      "https://host/" + url.PathEscape(marked) + "/x",
		"a URL's user":      (&url.URL{Scheme: "redis", User: url.UserPassword("app", marked), Host: "cache"}).String(),
		"JSON":              string(inJSON),
		"JSON in JSON":      string(inJSONTwice),
		"a structured log":  logged.String(),
		"base64 of the raw": base64.StdEncoding.EncodeToString([]byte(marked)),
		"base64 of a Secret's data": base64.StdEncoding.EncodeToString(
			[]byte(`requirepass ` + marked + "\n")),
	}
	// At each alignment, whatever stands around it, in both alphabets and without padding.
	for i := range 3 {
		around := []byte(strings.Repeat("?", i) + marked + strings.Repeat(">", 2-i))
		texts[fmt.Sprintf("base64 at %d", i)] = base64.StdEncoding.EncodeToString(around)
		texts[fmt.Sprintf("base64 without padding at %d", i)] = base64.RawStdEncoding.EncodeToString(around)
		texts[fmt.Sprintf("base64url at %d", i)] = base64.RawURLEncoding.EncodeToString(around)
	}
	s := NewSearcher()
	if err := s.Add("the password", marked); err != nil {
		t.Fatal(err)
	}
	for where, text := range texts {
		t.Run(where, func(t *testing.T) {
			found := s.Search(where, text)
			if len(found) == 0 {
				t.Errorf("nothing found in %s", text)
			}
			for _, f := range found {
				if f.What != "the password" || f.Where != where || strings.Contains(f.String(), marked) {
					t.Errorf("reported as %q", f)
				}
			}
		})
	}
}

func TestSearcherFindsNothingElse(t *testing.T) {
	s := NewSearcher()
	if err := s.Add("the password", marked); err != nil {
		t.Fatal(err)
	}
	texts := []string{
		"", "short", marked[1:], marked[:len(marked)-1], strings.ToUpper(marked),
		base64.StdEncoding.EncodeToString([]byte(marked[:len(marked)-1] + "!")),
		"password=***", strings.Repeat(marked[:8], 100),
	}
	for _, text := range texts {
		if found := s.Search("a text", text); len(found) > 0 {
			t.Errorf("%q has %v", text, found)
		}
	}
}

func TestSearcherFindsSecretsWithOneBeginning(t *testing.T) {
	s := NewSearcher()
	for _, value := range []string{"common-beginning-one", "common-beginning-two"} {
		if err := s.Add(value[len(value)-3:], value); err != nil {
			t.Fatal(err)
		}
	}
	found := slices.DeleteFunc(s.Search("a text", "common-beginning-two"), func(f Finding) bool { return strings.HasPrefix(f.What, "a piece of ") })
	if len(found) != 1 || found[0].What != "two" || found[0].Form != "raw" {
		t.Errorf("found %v", found)
	}
}

func TestShortSecretsAreRefused(t *testing.T) {
	if err := NewSearcher().Add("the password", "s3cret!"); err == nil {
		t.Error("a value of seven bytes is accepted")
	}
}

// TestSearcherFindsPieces cuts every piece out of a credential, as messages are cut.
func TestSearcherFindsPieces(t *testing.T) {
	credential := Marked("pieces") + "?/%\"<"
	s := NewSearcher()
	if err := s.Add("the password", credential); err != nil {
		t.Fatal(err)
	}
	for begin := range len(credential) - Piece + 1 {
		piece := credential[begin : begin+Piece]
		inJSON, err := json.Marshal(piece)
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{
			"it begins with " + piece + "...", fmt.Sprintf("%x", piece), fmt.Sprintf("%X", piece), fmt.Sprintf("%v", []byte(piece)),
			url.QueryEscape(piece), url.PathEscape(piece), string(inJSON), fmt.Sprintf("%q", piece),
		}
		for i := range 3 {
			texts = append(texts, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("?", i)+piece+">>")),
				base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("?", i)+piece+">>")))
		}
		for _, text := range texts {
			if found := s.Search("a log", text); len(found) == 0 || found[0].What != "a piece of the password" {
				t.Errorf("the piece at %d in %s: found %v", begin, text, found)
			}
		}
		for _, text := range []string{piece[1:], piece[:Piece-1], fmt.Sprintf("%x", piece[1:])} {
			if found := s.Search("a log", text); len(found) > 0 {
				t.Errorf("%q has %v", text, found)
			}
		}
	}
}

func TestCredentialsOfValues(t *testing.T) {
	password := Marked("credentials")
	for value, want := range map[string][]string{
		password:                               {password},
		"short":                                nil,
		"redis://cache.example.com:6379":       nil,
		"redis://:" + password + "@cache:6379": {password},
		"rediss://app:a%3Fquestion@cache":      {"a?question"},
		"maxmemory-policy allkeys-lru\nuser default on >" + password + " ~probe:6f1e-5bd1e4a49c01 -@all\n": {password},
		"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----\n":               nil,
	} {
		if got := credentials(value); !slices.Equal(got, want) {
			t.Errorf("credentials of %q are %q, want %q", value, got, want)
		}
	}
	if Marked("a")[:Piece] == Marked("b")[:Piece] {
		t.Error("marked passwords share a piece")
	}
}
