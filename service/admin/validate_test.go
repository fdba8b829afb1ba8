// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"net/http"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/service/flags"
)

// TestFlagWithAProblemCanBeDisabled has a flag that is served although its rule does not
// work as intended, as stored by an earlier release or by SQL.
func TestFlagWithAProblemCanBeDisabled(t *testing.T) {
	const typo = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","targeting":{"if":[{"var":"x"},"onn","off"]}}`
	f := newFixture(t)
	f.must(http.StatusCreated, "PUT", "/shop/flags/a", on, "If-None-Match", "*")
	f.exec("UPDATE flagcache.flags SET definition = $1::json", typo)
	patch := func(status int, body string) answer {
		tag := f.must(http.StatusOK, "GET", "/shop/flags/a", "").etag()
		return f.must(status, "PATCH", "/shop/flags/a", body, "If-Match", tag)
	}
	patch(http.StatusOK, `{"state":"DISABLED"}`)
	patch(http.StatusOK, `{"state":"ENABLED","defaultVariant":"off"}`)
	got := patch(http.StatusUnprocessableEntity, `{"targeting":{"if":[{"var":"x"},"onn","of"]}}`)
	if !strings.Contains(got.body, `if[2]`) || strings.Contains(got.body, `if[1]`) {
		t.Errorf("a new problem is reported as %s", got.body)
	}
	if got := patch(http.StatusUnprocessableEntity, `{"state":"OFF"}`); !strings.Contains(got.body, "flags.a.state") {
		t.Errorf("a flag that would be rejected is reported as %s", got.body)
	}
	// The problem must not come back once it was solved.
	patch(http.StatusOK, `{"targeting":{"if":[{"var":"x"},"on","off"]}}`)
	patch(http.StatusUnprocessableEntity, `{"targeting":{"if":[{"var":"x"},"onn","off"]}}`)
}

// TestManyProblemsHideNone has an environment with more problems than are listed, before
// those of the flags.
func TestManyProblemsHideNone(t *testing.T) {
	f := newFixture(t)
	f.must(http.StatusCreated, "PUT", "/shop/flags/a", on, "If-None-Match", "*")
	evaluators := func(n int) string {
		return `{"e":{"or":[` + strings.TrimSuffix(strings.Repeat(`{"unknown":1},`, n), ",") + `]}}`
	}
	f.exec("UPDATE flagcache.environments SET evaluators = $1::json WHERE name = 'shop'", evaluators(flags.MaxProblems+2))
	tag := f.must(http.StatusOK, "GET", "/shop/flags/a", "").etag()
	f.must(http.StatusUnprocessableEntity, "PATCH", "/shop/flags/a", `{"state":"OFF"}`, "If-Match", tag)
	f.must(http.StatusOK, "PATCH", "/shop/flags/a", `{"state":"DISABLED"}`, "If-Match", tag)
	f.must(http.StatusOK, "PUT", "/shop", `{"$evaluators":`+evaluators(flags.MaxProblems+1)+`}`, "If-Match", "*")
	f.exec("UPDATE flagcache.flags SET definition = $1::json",
		`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"e"},"on"]}}`)
	broken := strings.Replace(evaluators(flags.MaxProblems+2), `{"unknown":1}`, `{"$ref":"e"}`, 1)
	if got := f.must(http.StatusUnprocessableEntity, "PUT", "/shop", `{"$evaluators":`+broken+`}`, "If-Match", "*"); !strings.Contains(got.body, "flags.a") {
		t.Errorf("a flag that would not be served any more is reported as %.300s", got.body)
	}
}
