// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// All flags of an environment together must not exceed the limit of a flag
// service.
func TestEnvironmentSizeIsLimited(t *testing.T) {
	f := newFixture(t)
	large := `{"state":"ENABLED","variants":{"a":"` + strings.Repeat("x", 400_000) + `"}}`
	f.must(http.StatusCreated, "PUT", "/shop/flags/a", large, "If-None-Match", "*")
	f.must(http.StatusCreated, "PUT", "/shop/flags/b", large, "If-None-Match", "*")
	got := f.must(http.StatusUnprocessableEntity, "PUT", "/shop/flags/c", large, "If-None-Match", "*")
	if !strings.Contains(got.body, "the flags of the environment have 1200148 bytes in total; the limit is 1048576") {
		t.Errorf("the response is %s", got.body)
	}
	f.must(http.StatusCreated, "PUT", "/elsewhere/flags/c", large, "If-None-Match", "*")
}

// The metadata of an environment is part of each flag's responses. Both the
// flag and the metadata that are one too many must be refused, and it must be
// possible to continue after a flag was deleted or the metadata reduced.
func TestSizeOfResponsesIsLimited(t *testing.T) {
	const flags = 40
	f := newFixture(t)
	flag := func(i int) string { return fmt.Sprintf("/shop/flags/f%d", i) }
	for i := range flags {
		f.must(http.StatusCreated, "PUT", flag(i), on, "If-None-Match", "*")
	}
	setMetadata := func(status, size int) answer {
		tag := f.must(http.StatusOK, "GET", "/shop", "").etag()
		return f.must(status, "PUT", "/shop", `{"metadata":{"m":"`+strings.Repeat("m", size)+`"}}`, "If-Match", tag)
	}
	got := setMetadata(http.StatusUnprocessableEntity, 250_000)
	if want := "the 250008 bytes are part of each of the 40 flags; the limit is 8388608"; !strings.Contains(got.body, want) || strings.Contains(got.body, "line") {
		t.Errorf("the response to the metadata is %s", got.body)
	}
	setMetadata(http.StatusOK, 205_000)
	got = f.must(http.StatusUnprocessableEntity, "PUT", flag(flags), on, "If-None-Match", "*")
	if want := "the 205008 bytes are part of each of the 41 flags"; !strings.Contains(got.body, want) {
		t.Errorf("the response to the flag is %s", got.body)
	}
	tag := f.must(http.StatusOK, "GET", flag(0), "").etag()
	f.must(http.StatusNoContent, "DELETE", flag(0), "", "If-Match", tag)
	f.must(http.StatusCreated, "PUT", flag(flags), on, "If-None-Match", "*")
	setMetadata(http.StatusOK, 10)
	f.must(http.StatusCreated, "PUT", flag(0), on, "If-None-Match", "*")
}

// Forty changes of large flags were 67 MB. A page has so many that their definitions fill
// 1 MiB, and the next page continues.
func TestPagesOfTheAuditAreBoundedInBytes(t *testing.T) {
	const changes, size = 9, 400_000
	f := newFixture(t)
	tag := ""
	for i := range changes {
		flag := `{"state":"ENABLED","variants":{"a":"` + strings.Repeat(fmt.Sprint(i), size) + `"}}`
		if tag == "" {
			tag = f.must(http.StatusCreated, "PUT", "/shop/flags/a", flag, "If-None-Match", "*").etag()
			continue
		}
		tag = f.must(http.StatusOK, "PUT", "/shop/flags/a", flag, "If-Match", tag).etag()
	}
	seen, query := 0, "/shop/audit?limit=40"
	for before := ""; ; {
		var page struct {
			Changes []auditItem
			Next    int64
		}
		got := f.must(http.StatusOK, "GET", query+before, "")
		if limit := 1<<20 + 2*size + 4<<10; len(got.body) > limit {
			t.Errorf("a page has %d bytes, want at most %d", len(got.body), limit)
		}
		got.into(t, &page)
		if seen += len(page.Changes); page.Next == 0 || len(page.Changes) == 0 {
			break
		}
		before = fmt.Sprintf("&before=%d", page.Next)
	}
	if seen != changes {
		t.Errorf("the pages have %d changes, want %d", seen, changes)
	}
}

func TestRefusalIsAProblem(t *testing.T) {
	mediaType, body := Refusal(http.StatusBadRequest)
	if mediaType != "application/problem+json" || !strings.HasPrefix(string(body), `{"title":"Bad Request","status":400,"detail":"the request is not valid HTTP`) {
		t.Errorf("the refusal is %s %s", mediaType, body)
	}
}
