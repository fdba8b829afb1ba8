// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/service/flags"
)

func TestLint(t *testing.T) {
	const brokenFlags = "{\"flags\":{\n  \"a\": {\"state\":\"ENABLED\",\"variants\":{\"x\":1},\"defaultVariant\":\"y\"}}}"
	const aboutIt = "2:63: flag \"a\": flags.a.defaultVariant: \"y\" is not one of the variants\n"
	tests := map[string]struct {
		files []string
		code  int
		want  string
	}{
		"a good file":                  {[]string{goodFlags}, exitOK, "FILE0: 1 flags, no problems\n"},
		"a broken flag":                {[]string{brokenFlags}, exitFailure, "FILE0:" + aboutIt},
		"a broken file before a good":  {[]string{brokenFlags, goodFlags}, exitFailure, "FILE0:" + aboutIt + "FILE1: 1 flags, no problems\n"},
		"what flags share":             {[]string{"{\"flags\":{},\n\"$evaluators\":[]}"}, exitFailure, "FILE0:2:15: $evaluators: the evaluators are a list and must be an object\n"},
		"an operator that is misspelt": {[]string{`{"flags":{"a":{"state":"ENABLED","variants":{"x":1},"targeting":{"iff":[]}}}}`}, exitFailure, "FILE0:1:65: flag \"a\": flags.a.targeting.iff: unknown operator \"iff\"; an evaluation that reaches it answers PARSE_ERROR\n"},
		"not JSON":                     {[]string{"{\n\"flags\""}, exitFailure, "FILE0:2:7: not valid JSON: unexpected end of JSON input\n"},
		"an empty file":                {[]string{""}, exitFailure, "FILE0:1:1: not valid JSON: unexpected end of JSON input\n"},
		"a file that is too large":     {[]string{strings.Repeat(" ", flags.MaxSize+9)}, exitFailure, "FILE0:1:1: the document has 1048577 bytes; the limit is 1048576\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			args, names := []string{"lint"}, []string{}
			for i, content := range test.files {
				path := saved(t, content)
				args, names = append(args, path), append(names, path, "FILE"+string(rune('0'+i)))
			}
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), args, nil, &stdout, &stderr)
			if got := strings.NewReplacer(names...).Replace(stdout.String()); code != test.code || got != test.want {
				t.Errorf("it exits with %d and says %s%s", code, got, stderr.String())
			}
		})
	}
}

func TestLintOfStandardInput(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := lint([]string{"-"}, strings.NewReader(`{"flags":5}`), &stdout, &stderr); code != exitFailure {
		t.Errorf("it exits with %d", code)
	}
	if want := "<stdin>:1:10: \"flags\" is a number and must be an object\n"; stdout.String() != want {
		t.Errorf("it says %s and not %s", stdout.String(), want)
	}
}

func TestLintGoesOnWithoutAFile(t *testing.T) {
	good := saved(t, goodFlags)
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"lint", good + ".not", good}, nil, &stdout, &stderr)
	if code != exitFailure || !strings.Contains(stderr.String(), "no such file") || !strings.Contains(stdout.String(), "no problems") {
		t.Errorf("it exits with %d and says %s%s", code, stdout.String(), stderr.String())
	}
}

// saved returns the path of a file with the content.
func saved(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flags.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
