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
	const invalidFlags = "{\"flags\":{\n  \"a\": {\"state\":\"ENABLED\",\"variants\":{\"x\":1},\"defaultVariant\":\"y\"}}}"
	const problem = "2:63: flag \"a\": flags.a.defaultVariant: \"y\" is not one of the variants\n"
	tests := map[string]struct {
		files []string
		code  int
		want  string
	}{
		"a valid file":                    {[]string{validFlags}, exitOK, "FILE0: 1 flags, no problems\n"},
		"an invalid flag":                 {[]string{invalidFlags}, exitFailure, "FILE0:" + problem},
		"an invalid file and a valid one": {[]string{invalidFlags, validFlags}, exitFailure, "FILE0:" + problem + "FILE1: 1 flags, no problems\n"},
		"invalid evaluators":              {[]string{"{\"flags\":{},\n\"$evaluators\":[]}"}, exitFailure, "FILE0:2:15: $evaluators: the evaluators are a list and must be an object\n"},
		"a misspelt operator":             {[]string{`{"flags":{"a":{"state":"ENABLED","variants":{"x":1},"targeting":{"iff":[]}}}}`}, exitFailure, "FILE0:1:65: flag \"a\": flags.a.targeting.iff: unknown operator \"iff\"; an evaluation that reaches it returns PARSE_ERROR\n"},
		"control characters": {[]string{`{"flags":{"\u001b]0;a\u0007\u009b":{"state":5}}}`}, exitFailure, "FILE0:1:36: flag \"\\x1b]0;a\\a\\u009b\": flags[\"\\x1b]0;a\\a\\u009b\"].variants: the flag has no variants\n" +
			"FILE0:1:45: flag \"\\x1b]0;a\\a\\u009b\": flags[\"\\x1b]0;a\\a\\u009b\"].state: the state must be \"ENABLED\" or \"DISABLED\"\n"},
		"not JSON":                   {[]string{"{\n\"flags\""}, exitFailure, "FILE0:2:7: not valid JSON: unexpected end of JSON input\n"},
		"an empty file":              {[]string{""}, exitFailure, "FILE0:1:1: not valid JSON: unexpected end of JSON input\n"},
		"products over a limit":      {[]string{`{"metadata":{"m":"` + strings.Repeat("m", 1_000_000) + `"},"flags":{"a":{},"b":{},"c":{},"d":{},"e":{},"f":{},"g":{},"h":{},"i":{}}}`}, exitFailure, "FILE0:1:13: a response with all flags would have up to 9001395 bytes, 9000072 of them metadata: the 1000008 bytes are part of each of the 9 flags; the limit is 8388608\n"},
		"a file over the size limit": {[]string{strings.Repeat(" ", flags.MaxSize+9)}, exitFailure, "FILE0:1:1: the document is 1048585 bytes long; the limit is 1048576\n"},
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
				t.Errorf("it exits with %d and prints %s%s", code, got, stderr.String())
			}
		})
	}
}

func TestLintReadsStandardInput(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := lint([]string{"-"}, strings.NewReader(`{"flags":5}`), &stdout, &stderr); code != exitFailure {
		t.Errorf("it exits with %d", code)
	}
	if want := "<stdin>:1:10: \"flags\" is a number and must be an object\n"; stdout.String() != want {
		t.Errorf("it prints %s, not %s", stdout.String(), want)
	}
}

func TestLintContinuesAfterAMissingFile(t *testing.T) {
	good := saved(t, validFlags)
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"lint", good + ".not", good}, nil, &stdout, &stderr)
	if code != exitFailure || !strings.Contains(stderr.String(), "no such file") || !strings.Contains(stdout.String(), "no problems") {
		t.Errorf("it exits with %d and prints %s%s", code, stdout.String(), stderr.String())
	}
}

// saved returns the path of a file with the given content.
func saved(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flags.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
