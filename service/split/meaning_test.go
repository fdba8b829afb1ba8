// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/service/ofrep"
)

func gzipped(text string) string {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	_, _ = writer.Write([]byte(text))
	_ = writer.Close()
	return out.String()
}

const (
	answerStatic = `{"key":"static","reason":"STATIC","variant":"on","value":true}`
	answerAll    = `{"flags":[{"key":"by key","reason":"DEFAULT"},{"key":"static","reason":"STATIC"},{"key":"with/slash and %","errorCode":"PARSE_ERROR"}]}`
)

// TestResponsesAreCheckedForTheirMeaning has a candidate send responses that are
// valid HTTP and do not answer the request. The client gets the stable pod's.
func TestResponsesAreCheckedForTheirMeaning(t *testing.T) {
	gzipHeader := []string{"Content-Type", jsonType, "Content-Encoding", "gzip"}
	tests := map[string]struct {
		path    string
		fault   fault
		outcome string
	}{
		"an empty object":                  {"/static", respond(200, `{}`), "error"},
		"a number":                         {"/static", respond(200, `7`), "error"},
		"null":                             {"/static", respond(200, `null`), "error"},
		"a list":                           {"/static", respond(200, `[]`), "error"},
		"two objects":                      {"/static", respond(200, answerStatic+answerStatic), "error"},
		"another flag":                     {"/static", respond(200, `{"key":"by key","reason":"STATIC"}`), "error"},
		"another case of the key":          {"/static", respond(200, `{"KEY":"static","reason":"STATIC"}`), "error"},
		"all flags instead of one":         {"/static", respond(200, answerAll), "error"},
		"one flag instead of all":          {"", respond(200, answerStatic), "error"},
		"no reason":                        {"/static", respond(200, `{"key":"static","value":true}`), "error"},
		"a reason that is a number":        {"/static", respond(200, `{"key":"static","reason":1}`), "error"},
		"an error with status 200":         {"/static", respond(200, `{"key":"static","reason":"STATIC","errorCode":"GENERAL"}`), "error"},
		"the reason of an error":           {"/static", respond(200, `{"key":"static","reason":"ERROR"}`), "error"},
		"a value that is null":             {"/static", respond(200, `{"key":"static","reason":"STATIC","value":null}`), "error"},
		"a variant that is a number":       {"/static", respond(200, `{"key":"static","reason":"STATIC","variant":1}`), "error"},
		"metadata that are a list":         {"/static", respond(200, `{"key":"static","reason":"STATIC","metadata":[]}`), "error"},
		"not UTF-8":                        {"/static", respond(200, "{\"key\":\"static\",\"reason\":\"\xff\"}"), "error"},
		"an error without a code":          {"/static", respond(400, `{"key":"static"}`), "error"},
		"an error of another flag":         {"/static", respond(400, `{"key":"by key","errorCode":"GENERAL"}`), "error"},
		"an error about a valid context":   {"/static", respond(400, `{"key":"static","errorCode":"INVALID_CONTEXT"}`), "error"},
		"a missing flag with status 400":   {"/static", respond(400, `{"key":"static","errorCode":"FLAG_NOT_FOUND"}`), "error"},
		"another error with status 404":    {"/static", respond(404, `{"key":"static","errorCode":"GENERAL"}`), "error"},
		"a path that is not found":         {"/static", respond(404, `{"errorDetails":"not found"}`), "error"},
		"all flags are not found":          {"", respond(404, `{"errorCode":"FLAG_NOT_FOUND"}`), "error"},
		"flags that are an object":         {"", respond(200, `{"flags":{}}`), "error"},
		"flags that are null":              {"", respond(200, `{"flags":null}`), "error"},
		"flags without keys":               {"", respond(200, `{"flags":[{}]}`), "error"},
		"a flag that is null":              {"", respond(200, `{"flags":[null]}`), "error"},
		"a flag twice":                     {"", respond(200, `{"flags":[`+answerStatic+`,`+answerStatic+`]}`), "error"},
		"a flag without a reason":          {"", respond(200, strings.Replace(answerAll, `"reason":"STATIC"`, `"reason":""`, 1)), "error"},
		"event streams that are an object": {"", respond(200, strings.TrimSuffix(answerAll, "}")+`,"eventStreams":{}}`), "error"},
		"gzip that is none":                {"/static", respond(200, answerStatic, gzipHeader...), "error"},
		"truncated gzip":                   {"/static", respond(200, gzipped(answerStatic)[:40], gzipHeader...), "error"},
		"gzip of another flag":             {"/static", respond(200, gzipped(`{"key":"by key","reason":"STATIC"}`), gzipHeader...), "error"},
		"gzip of a huge body":              {"/static", respond(200, gzipped(strings.Repeat(" ", maxResponse)+answerStatic), gzipHeader...), "error"},
		"another encoding":                 {"/static", respond(200, answerStatic, "Content-Type", jsonType, "Content-Encoding", "br"), "error"},
		"two encodings":                    {"/static", respond(200, gzipped(gzipped(answerStatic)), "Content-Type", jsonType, "Content-Encoding", "gzip, gzip"), "error"},
		"a flag unchanged":                 {"/static", respond(304, "", "ETag", `"mine"`), "error"},
		"unchanged without a tag":          {"", respond(304, ""), "error"},
		"unchanged with another tag":       {"", respond(304, "", "ETag", `"other"`), "error"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStable(t)
			candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", jsonType)
				test.fault(w, r, nil)
			}))
			s.forwardTo(100, candidate.URL, "5s")
			headers := []string{"Accept-Encoding", "gzip", "If-None-Match", `"mine"`}
			got := s.post(s.server.URL, base+test.path, contextOf("u"), headers...)
			want := s.post(s.reference.URL, base+test.path, contextOf("u"), headers...)
			if got.status != want.status || got.body != want.body || got.header.Get("FlagCache-Revision") != stableRevision {
				t.Errorf("the client gets %d %q from %s", got.status, got.body, got.header.Get("FlagCache-Revision"))
			}
			if diff := cmp.Diff(map[string]int{test.outcome: 1}, s.outcomes()); diff != "" {
				t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestGzipIsOnlyForClientsThatAcceptIt has a candidate compress all responses.
func TestGzipIsOnlyForClientsThatAcceptIt(t *testing.T) {
	s := newStable(t)
	candidate := serve(t, respond(200, gzipped(answerStatic), "Content-Type", jsonType, "Content-Encoding", "gzip"))
	s.forwardTo(100, candidate.URL, "5s")
	for _, accepted := range []string{"", "br", "gzip;q=0", "gzip"} {
		s.post(s.server.URL, base+"/static", contextOf("u"), "Accept-Encoding", accepted)
	}
	if diff := cmp.Diff(map[string]int{"error": 3, "ok": 1}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
}

// TestCandidateWithoutFlags has a real candidate that lacks flags. Clients never
// notice. While a change of flags may be on its way to the candidate it is no
// evidence, and afterwards a failure.
func TestCandidateWithoutFlags(t *testing.T) {
	for name, flags := range map[string]string{
		"a rejected flag": `{"flags":{"static":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"},"by key":{}}}`,
		"no flags":        `{"flags":{}}`,
		"one flag":        `{"flags":{"with/slash and %":{"state":"ENABLED","variants":{"on":"x"},"defaultVariant":"on"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStable(t)
			core := newCore(t, flags)
			candidate := serve(t, ofrep.NewHandler(core, ofrep.Options{Revision: candidateRevision}))
			for _, percent := range []float64{90, 100} {
				s.forwardTo(percent, candidate.URL, "5s")
			}
			ask := func(want map[string]int) {
				t.Helper()
				for range cutOffAfter {
					s.expectLocal("u")
					if all := s.post(s.server.URL, base, contextOf("u")); all.header.Get("FlagCache-Revision") != stableRevision {
						t.Errorf("all flags are %s", all.body)
					}
				}
				s.post(s.server.URL, base+"/nobody", contextOf("u"))
				if diff := cmp.Diff(want, s.outcomes()); diff != "" {
					t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
				}
			}
			ask(map[string]int{"missing": 40, "ok": 1})
			// The weight of the same candidate changes.
			s.forwardTo(99.99, candidate.URL, "5s")
			s.splitter.started = s.splitter.started.Add(-propagation)
			for range 3 {
				s.expectLocal("u")
			}
			if n := s.outcomes()["error"]; n != 3 {
				t.Errorf("the outcomes are %v", s.outcomes())
			}
			// It is no failure once the candidate has the flags.
			core.Serve(newCore(t, document).Served())
			s.expectFrom(candidateRevision, "u")
			core.Serve(newCore(t, flags).Served())
			s.expectLocal("u")
			if n := s.outcomes()["missing"]; n != 41 {
				t.Errorf("the outcomes are %v", s.outcomes())
			}
		})
	}
}

// TestClientsDoNotCutTheCandidateOff sends many requests that are too large to be
// forwarded.
func TestClientsDoNotCutTheCandidateOff(t *testing.T) {
	s := newStable(t)
	s.forwardTo(100, serve(t, newHandler(t, candidateRevision)).URL, "5s")
	path := base + "/" + strings.Repeat("x", maxRequestHead)
	for range 2 * cutOffAfter {
		s.post(s.server.URL, path, contextOf("u"))
	}
	s.expectFrom(candidateRevision, "u")
	if d := time.Duration(s.splitter.current.Load().cutOff.until.Load()); d != 0 {
		t.Errorf("the candidate is cut off until %s", d)
	}
}

// TestResponsesThatMayBeTooLargeAreNotRequested: a candidate is not charged for a response
// that could not be checked.
func TestResponsesThatMayBeTooLargeAreNotRequested(t *testing.T) {
	s := newStable(t)
	s.splitter.options.MaxResponse = func(key string) int64 {
		if key == "" {
			return maxResponse + 1
		}
		return maxResponse
	}
	s.forwardTo(100, serve(t, newHandler(t, candidateRevision)).URL, "5s")
	for range 2 * cutOffAfter {
		s.post(s.server.URL, base, contextOf("u"))
	}
	s.expectFrom(candidateRevision, "u")
	if diff := cmp.Diff(map[string]int{"oversized": 2 * cutOffAfter, "ok": 1}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
}

// TestMemoryOfResponsesIsBounded: of responses that are larger than expected, only a few are
// read at a time. The others are no evidence.
func TestMemoryOfResponsesIsBounded(t *testing.T) {
	padded := strings.Repeat(" ", minRoom) + answerStatic
	for name, candidate := range map[string]fault{
		"plain":      respond(200, padded, "Content-Type", jsonType),
		"compressed": respond(200, gzipped(padded), "Content-Type", jsonType, "Content-Encoding", "gzip"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStable(t)
			s.splitter.options.MaxResponse = func(string) int64 { return int64(len(answerStatic)) }
			s.forwardTo(100, serve(t, candidate).URL, "5s")
			ask := func() { s.post(s.server.URL, base+"/static", contextOf("u"), "Accept-Encoding", "gzip") }
			for range maxLarge {
				s.splitter.large <- struct{}{}
			}
			ask()
			<-s.splitter.large
			ask()
			ask()
			if diff := cmp.Diff(map[string]int{"busy": 1, "ok": 2}, s.outcomes()); diff != "" {
				t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCandidateThatIsBehindIsNoFailure: a client that was notified of a change gets it from the
// stable pod, which has it. That is no evidence about the candidate, neither for nor against it.
func TestCandidateThatIsBehindIsNoFailure(t *testing.T) {
	s := newStable(t)
	served := func(revision string, modified int64) *ofrep.Handler {
		core := newCore(t, document)
		core.Place(ofrep.Position{Modified: time.Unix(modified, 0)})
		return ofrep.NewHandler(core, ofrep.Options{Revision: revision})
	}
	handler := served(stableRevision, 2000)
	handler.Divert = s.splitter.Divert
	server := serve(t, handler)
	s.forwardTo(100, serve(t, served(candidateRevision, 1000)).URL, "5s")
	for modified, want := range map[int]string{2000: stableRevision, 1001: stableRevision, 1000: candidateRevision} {
		for range cutOffAfter {
			all := s.post(server.URL, fmt.Sprintf("%s?flagConfigLastModified=%d", base, modified), contextOf("u"))
			if all.status != 200 || all.header.Get("FlagCache-Revision") != want || all.header.Get("FlagCache-Behind") != "" {
				t.Fatalf("for the time %d the answer is %d %v", modified, all.status, all.header)
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"behind": 2 * cutOffAfter, "ok": cutOffAfter}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
	// A failure is one also if it claims to be behind.
	s.forwardTo(99.99, serve(t, respond(500, "{}", "Content-Type", jsonType, "FlagCache-Behind", "1.1")).URL, "5s")
	s.post(server.URL, base+"?flagConfigLastModified=1000", contextOf("u"))
	if n := s.outcomes()["error"]; n != 1 {
		t.Errorf("the outcomes are %v", s.outcomes())
	}
}
