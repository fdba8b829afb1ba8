// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/loadtest"
)

func TestLoadtest(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "FLAGCACHE_REVISION=rev-1")
	p.awaitReady(true)
	file := filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr bytes.Buffer
	args := []string{"loadtest", p.ofrep, "--duration", "300ms", "--rate=200", "--consistent", "--max-error-rate=0", "--p99=10s", "--output=json", "--report-file", file}
	if code := run(t.Context(), args, nil, &stdout, &stderr); code != exitOK {
		t.Errorf("it exits with %d and prints %s%s", code, stdout.String(), stderr.String())
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if stdout.String() != string(written) {
		t.Errorf("the file contains %s, but the output is %s", written, stdout.String())
	}
	var report loadtest.Report
	if err := json.Unmarshal(written, &report); err != nil {
		t.Fatal(err)
	}
	if !report.Passed || report.Requests != 60 || report.Revisions["rev-1"] != 60 {
		t.Errorf("the report is %s", written)
	}
}

func TestLoadtestFailsIfALimitIsExceeded(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags))
	p.awaitReady(true)
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"loadtest", "--duration=100ms", "--p95=1ns"}, []string{"OFREP_ENDPOINT=" + p.ofrep}, &stdout, &stderr)
	if code != exitFailure || !strings.Contains(stdout.String(), "limit EXCEEDED: p95") {
		t.Errorf("it exits with %d and prints %s%s", code, stdout.String(), stderr.String())
	}
}

func TestLoadtestRejectsInvalidArguments(t *testing.T) {
	tests := map[string]struct {
		args    []string
		environ []string
		want    string
	}{
		"no URL":            {want: "no URL: pass one as an argument or in OFREP_ENDPOINT"},
		"two URLs":          {args: []string{"http://a", "--rate=1", "http://b"}, want: `unexpected argument "http://b": only one URL is accepted`},
		"an unknown output": {args: []string{"http://a", "--output=xml"}, want: `the output is "xml"; it must be text or json`},
		"an invalid share":  {args: []string{"http://a", "--max-error-rate=2"}, want: "max-error-rate must be a share from 0 to 1, such as 0.001 for 0.1 %"},
		"invalid headers":   {args: []string{"http://a"}, environ: []string{"OFREP_HEADERS=canary-password"}, want: "OFREP_HEADERS (not shown) must be like"},
		"missing contexts":  {args: []string{"http://a", "--contexts=nowhere.json"}, want: "reading the contexts: open nowhere.json"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"loadtest"}, test.args...), test.environ, &stdout, &stderr)
			if got := stderr.String(); code != exitUsage || !strings.HasPrefix(got, "flag-service loadtest: "+test.want) || strings.Contains(got, "canary") {
				t.Errorf("it exits with %d and prints %s", code, got)
			}
		})
	}
}

func TestLoadtestReadsHeadersFromTheEnvironment(t *testing.T) {
	c, err := parseLoadtest([]string{"http://a", "--mix=1/2/3"}, []string{"OFREP_HEADERS=Authorization=Bearer%20a%3Db, X-API-Key=k"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(http.Header{"Authorization": {"Bearer a=b"}, "X-Api-Key": {"k"}}, c.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if want := (loadtest.Mix{Static: 1, Targeted: 2, Bulk: 3}); c.Mix != want {
		t.Errorf("the mix is %v", c.Mix)
	}
}

func TestProgressLineFitsTheTerminal(t *testing.T) {
	p := loadtest.Progress{Elapsed: 15 * time.Second, Duration: 30 * time.Second, Requests: 1234, Errors: 1}
	if got, want := progressLine(p, 62), "[==========          ]  15 s of 30 s  1234 requests  1 errors"; got != want {
		t.Errorf("the line is %q, want %q", got, want)
	}
	for width := range 200 {
		if got := progressLine(p, width+1); len(got) > width {
			t.Errorf("on a terminal of %d columns the line has %d", width+1, len(got))
		}
	}
}

// hostile is a header that clears the screen and reverses what follows. Others with
// control characters, such as renaming, are an error of the client, which quotes them.
const (
	hostile  = "\u009b2J\u202e"
	renaming = "\x1b]0;pwned\x07"
)

func TestLoadtestEscapesWhatTheServiceSends(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(config.HeaderRevision, hostile+strings.Repeat("x", 1000))
		if r.URL.Path == config.PathEvaluate {
			_, _ = io.WriteString(w, `{"flags":[{"key":"a","reason":"STATIC"}]}`)
			return
		}
		_, _ = io.WriteString(w, `{"key":"a","reason":"STATIC"}`)
	}
	invalid := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(config.HeaderRevision, renaming+strings.Repeat("x", 10_000))
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		args    []string
	}{
		"in the text":   {answer, nil},
		"in the JSON":   {answer, []string{"--output=json"}},
		"in the errors": {invalid, nil},
	} {
		t.Run(name, func(t *testing.T) {
			service := httptest.NewServer(test.handler)
			defer service.Close()
			file := filepath.Join(t.TempDir(), "report.json")
			var stdout, stderr bytes.Buffer
			run(t.Context(), append([]string{"loadtest", service.URL, "--duration=50ms", "--rate=100", "--report-file", file}, test.args...), nil, &stdout, &stderr)
			report, _ := os.ReadFile(file)
			for what, text := range map[string]string{"output": stdout.String(), "error": stderr.String(), "report": string(report)} {
				if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
					t.Errorf("the %s has control characters: %q", what, text)
				}
				if len(text) > 4096 || strings.Count(text, "x") > 1024 {
					t.Errorf("the %s has a text of any length: %q", what, text)
				}
			}
			if stdout.Len()+stderr.Len() == 0 {
				t.Error("nothing was printed")
			}
		})
	}
}
