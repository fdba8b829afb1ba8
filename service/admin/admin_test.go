// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/admin/openapi"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/postgrestest"
)

// request sends a request with headers in pairs, as Ann unless they contain
// another token.
func (f *fixture) request(method, path, body string, headers ...string) answer {
	f.t.Helper()
	r, err := http.NewRequest(method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+annToken)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: strings.TrimSpace(string(text))}
}

// must sends a request and checks the status.
func (f *fixture) must(status int, method, path, body string, headers ...string) answer {
	f.t.Helper()
	a := f.request(method, path, body, headers...)
	if a.status != status {
		f.t.Fatalf("%s %s returns %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

func (a answer) etag() string { return a.header.Get("ETag") }

// into decodes the response.
func (a answer) into(t *testing.T, value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), value); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

func TestFlagLifecycle(t *testing.T) {
	f := newFixture(t)
	created := f.must(http.StatusCreated, "POST", "/shop/flags", `{"key":"a/b <&> ü","definition":`+on+`}`, "X-Request-Id", "first")
	path := strings.TrimPrefix(created.header.Get("Location"), config.PathAdmin+"/environments")
	if created.body != on || created.etag() == "" || path != "/shop/flags/a%2Fb%20%3C&%3E%20%C3%BC" || created.header.Get("X-Request-Id") != "first" {
		t.Errorf("creating returns %s with %v", created.body, created.header)
	}
	read := f.must(http.StatusOK, "GET", path, "")
	if read.body != on || read.etag() != created.etag() || read.header.Get("Last-Modified") == "" {
		t.Errorf("reading returns %s with %v", read.body, read.header)
	}
	f.must(http.StatusNotModified, "GET", path, "", "If-None-Match", created.etag())

	replaced := f.must(http.StatusOK, "PUT", path, " "+off+"\n", "If-Match", created.etag(), "Authorization", "bearer "+bobToken, "X-Request-Id", "second")
	if replaced.body != off || replaced.etag() == created.etag() {
		t.Errorf("replacing returns %s with ETag %s", replaced.body, replaced.etag())
	}
	again := f.must(http.StatusOK, "PUT", path, off, "If-Match", replaced.etag())
	if again.etag() != replaced.etag() {
		t.Errorf("replacing with the same definition returns another ETag, %s", again.etag())
	}
	patched := f.must(http.StatusOK, "PATCH", path, `{"state":"DISABLED","variants":{"off":null},"defaultVariant":null,"metadata":{"n":1.50}}`, "If-Match", again.etag())
	if want := `{"metadata":{"n":1.50},"state":"DISABLED","variants":{"on":true}}`; !sameJSON(t, want, patched.body) || !strings.Contains(patched.body, "1.50") {
		t.Errorf("patching returns %s", patched.body)
	}
	f.must(http.StatusNoContent, "DELETE", path, "", "If-Match", patched.etag())
	f.must(http.StatusNotFound, "GET", path, "")
	recreated := f.must(http.StatusCreated, "PUT", path, on, "If-None-Match", "*")
	if recreated.etag() == created.etag() {
		t.Error("a recreated flag has the ETag of the deleted one")
	}
	if n := len(f.invalidated); n != 5 {
		t.Errorf("Redis was invalidated %d times for 5 changes", n)
	}
	f.expectAudit("/shop/audit?key=a/b%20%3C%26%3E%20%C3%BC",
		"create ann", "update bob", "update ann", "delete ann", "create ann")
}

// expectAudit compares actions and actors, the earliest first.
func (f *fixture) expectAudit(path string, want ...string) {
	f.t.Helper()
	var page struct{ Changes []auditItem }
	f.must(http.StatusOK, "GET", path, "").into(f.t, &page)
	var got []string
	for _, c := range slices.Backward(page.Changes) {
		if c.RequestID == "" || c.At.IsZero() || (c.Before == nil) != (c.Action == "create") || (c.After == nil) != (c.Action == "delete") {
			f.t.Errorf("the audit has %+v", c)
		}
		got = append(got, c.Action+" "+c.Actor)
	}
	if d := cmp.Diff(want, got); d != "" {
		f.t.Errorf("the audit differs (-want +got):\n%s", d)
	}
}

func TestInvalidRequests(t *testing.T) {
	f := newFixture(t)
	tag := f.must(http.StatusCreated, "POST", "/shop/flags", `{"key":"a","definition":`+on+`}`).etag()
	tests := map[string]struct {
		method, path, body string
		headers            []string
		status             int
		detail             string
	}{
		"a missing flag":                        {"GET", "/shop/flags/b", "", nil, 404, "does not exist"},
		"flags of a missing environment":        {"GET", "/nowhere/flags", "", nil, 404, "does not exist"},
		"an unknown path":                       {"GET", "/shop/things", "", nil, 404, "openapi.yaml"},
		"an unsupported method":                 {"POST", "/shop/flags/a", "", nil, 405, "DELETE, GET, PATCH, PUT"},
		"an invalid environment":                {"GET", "/%C3%BC/flags", "", nil, 400, "an environment must have"},
		"a key over the limit":                  {"GET", "/shop/flags/" + strings.Repeat("x", 257), "", nil, 400, "1 to 256 bytes"},
		"a key with a line break":               {"PUT", "/shop/flags/a%0Ab", on, []string{"If-None-Match", "*"}, 400, "control characters"},
		"a key with a NUL":                      {"GET", "/shop/flags/%00", "", nil, 400, "control characters"},
		"a key that is not UTF-8":               {"GET", "/shop/flags/%FF", "", nil, 400, "UTF-8"},
		"an empty key":                          {"POST", "/shop/flags", `{"key":"","definition":{}}`, nil, 400, "1 to 256 bytes"},
		"creating an existing flag":             {"POST", "/shop/flags", `{"key":"a","definition":` + off + `}`, nil, 409, "already exists"},
		"an unknown member":                     {"POST", "/shop/flags", `{"key":"b","defnition":{}}`, nil, 400, "defnition"},
		"a name in two cases":                   {"POST", "/shop/flags", `{"key":"b","KEY":"c","definition":` + on + `}`, nil, 400, `unknown member \"KEY\"`},
		"a name in another case":                {"POST", "/shop/flags", `{"Key":"b","definition":` + on + `}`, nil, 400, `unknown member \"Key\"`},
		"a name twice":                          {"POST", "/shop/flags", `{"key":"b","key":"c","definition":` + on + `}`, nil, 400, `duplicate member \"key\"`},
		"an environment's name in another case": {"PUT", "/shop", `{"Metadata":{}}`, []string{"If-Match", "*"}, 400, `unknown member \"Metadata\"`},
		"two bodies":                            {"POST", "/shop/flags", `{"key":"b","definition":{}} {}`, nil, 400, "after top-level value"},
		"no definition":                         {"POST", "/shop/flags", `{"key":"b"}`, nil, 422, "not valid JSON"},
		"a change without a precondition":       {"PUT", "/shop/flags/a", off, nil, 428, "If-Match"},
		"a new flag without a precondition":     {"PUT", "/shop/flags/b", off, nil, 428, "If-None-Match: *"},
		"a patch without a precondition":        {"PATCH", "/shop/flags/a", `{}`, nil, 428, "If-Match"},
		"a deletion without a precondition":     {"DELETE", "/shop/flags/a", "", nil, 428, "If-Match"},
		"a change of an outdated flag":          {"PUT", "/shop/flags/a", off, []string{"If-Match", `"1-1"`}, 412, "has changed"},
		"a change with a weak ETag":             {"PUT", "/shop/flags/a", off, []string{"If-Match", "W/" + tag}, 412, "has changed"},
		"a change of a missing flag":            {"PUT", "/shop/flags/b", off, []string{"If-Match", "*"}, 412, "does not exist"},
		"a new flag that exists":                {"PUT", "/shop/flags/a", off, []string{"If-None-Match", "*"}, 412, "already exists"},
		"If-None-Match with another ETag":       {"PUT", "/shop/flags/a", off, []string{"If-None-Match", `"1-1"`}, 428, "requires If-Match"},
		"a patch of a missing flag":             {"PATCH", "/shop/flags/b", `{}`, []string{"If-Match", "*"}, 404, "does not exist"},
		"deleting a missing flag":               {"DELETE", "/shop/flags/b", "", []string{"If-Match", "*"}, 404, "does not exist"},
		"a patch that is a list":                {"PATCH", "/shop/flags/a", `[]`, []string{"If-Match", tag}, 400, "must be a JSON object"},
		"an empty patch":                        {"PATCH", "/shop/flags/a", ``, []string{"If-Match", tag}, 400, "must be a JSON object"},
		"a patch to an invalid flag":            {"PATCH", "/shop/flags/a", `{"defaultVariant":"blue"}`, []string{"If-Match", tag}, 422, `\"blue\" is not one of the variants`},
		"a patch with another media type":       {"PATCH", "/shop/flags/a", `{}`, []string{"If-Match", tag, "Content-Type", "application/json"}, 415, "merge-patch"},
		"a form":                                {"PUT", "/shop/flags/a", "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		"a compressed body":                     {"PUT", "/shop/flags/a", on, []string{"Content-Encoding", "gzip"}, 415, "compressed"},
		"a body that is not UTF-8":              {"PUT", "/shop/flags/a", "{\"\xff\":1}", []string{"If-Match", tag}, 400, "UTF-8"},
		"a body over the limit":                 {"PUT", "/shop/flags/a", strings.Repeat(" ", flags.MaxSize+5), []string{"If-Match", tag}, 413, "the body has 1048581 bytes; the limit for all flags of an environment is 1048576"},
		"a definition that is not JSON":         {"PUT", "/shop/flags/a", "{", []string{"If-Match", tag}, 422, "not valid JSON"},
		"a definition with a byte order mark":   {"PUT", "/shop/flags/a", "\ufeff" + on, []string{"If-Match", tag}, 422, "byte order mark"},
		"a definition in YAML":                  {"PUT", "/shop/flags/a", "state: ENABLED\n", []string{"If-Match", tag}, 422, "looks like YAML"},
		"half of a surrogate pair":              {"PUT", "/shop/flags/a", `{"state":"ENABLED","variants":{"a":"\ud83d"}}`, []string{"If-Match", tag}, 422, "half of a surrogate pair"},
		"a patch with half of a surrogate pair": {"PATCH", "/shop/flags/a", `{"metadata":{"m":"\ud83d"}}`, []string{"If-Match", tag}, 422, "half of a surrogate pair"},
		"a result that is not a variant":        {"PATCH", "/shop/flags/a", `{"targeting":{"if":[true,"onn","off"]}}`, []string{"If-Match", tag}, 422, `\"onn\" is not one of the variants`},
		"a new flag that cannot work":           {"POST", "/shop/flags", `{"key":"b","definition":{"state":"ENABLED","variants":{"on":true},"targeting":{"fractional":[["on",0.5]]}}}`, nil, 422, "the weight 0.5 is not an integer"},
		"evaluators that cannot work":           {"PUT", "/shop", `{"$evaluators":{"e":{"starts_with":[{"var":"x"}]}}}`, []string{"If-Match", "*"}, 422, "starts_with needs 2 arguments"},
		"a definition that closes its object":   {"PUT", "/shop/flags/a", on + `},"metadata":{"x":1}`, []string{"If-Match", tag}, 422, "not valid JSON"},
		"a definition nested a million deep":    {"PUT", "/shop/flags/a", strings.Repeat("[", 500_000), []string{"If-Match", tag}, 422, "not valid JSON"},
		"a definition with a duplicate key":     {"PUT", "/shop/flags/a", `{"state":"ENABLED","state":"DISABLED","variants":{"on":true}}`, []string{"If-Match", tag}, 422, "state"},
		"an invalid limit":                      {"GET", "/shop/flags?limit=0", "", nil, 400, "limit must be"},
		"an invalid page":                       {"GET", "/shop/audit?before=x", "", nil, 400, "before must be"},
		"an environment without a precondition": {"PUT", "/shop", `{}`, nil, 428, "If-Match"},
		"a missing environment":                 {"PUT", "/nowhere", `{}`, []string{"If-Match", "*"}, 404, "does not exist"},
		"an unknown member of an environment":   {"PUT", "/shop", `{"flags":{}}`, []string{"If-Match", "*"}, 400, "flags"},
		"invalid evaluators":                    {"PUT", "/shop", `{"$evaluators":[]}`, []string{"If-Match", "*"}, 422, "$evaluators"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f.t = t
			got := f.must(test.status, test.method, test.path, test.body, test.headers...)
			if !strings.Contains(got.body, test.detail) {
				t.Errorf("the response is %s, without %q", got.body, test.detail)
			}
			var p problem
			got.into(t, &p)
			if got.header.Get("Content-Type") != "application/problem+json" || p.Status != test.status || p.Title == "" || p.RequestID != got.header.Get("X-Request-Id") {
				t.Errorf("the problem is %+v with %v", p, got.header)
			}
		})
	}
	f.t = t
	f.expectAudit("/shop/audit", "create ann")
	if got := f.must(http.StatusOK, "GET", "/shop/flags/a", ""); got.etag() != tag {
		t.Errorf("the flag has changed: %s", got.body)
	}
}

// Problems with a definition are reported like by lint, with lines of the
// definition.
func TestDefinitionsAreLinted(t *testing.T) {
	f := newFixture(t)
	got := f.must(http.StatusUnprocessableEntity, "PUT", "/shop/flags/new-checkout",
		"{\n  \"state\": \"ON\",\n  \"variants\": {\"on\": true, \"off\": \"no\"},\n  \"defaultVariant\": \"blue\",\n"+
			"  \"targeting\": {\"if\": [{\"$ref\": \"absent\"}, \"on\"]}\n}", "If-None-Match", "*")
	var p problem
	got.into(t, &p)
	var lines []string
	for _, found := range p.Problems {
		lines = append(lines, fmt.Sprintf("%d:%d %s: %s", found.Line, found.Column, found.Path, found.Message))
	}
	want := []string{
		`2:12 flags.new-checkout.state: the state must be "ENABLED" or "DISABLED"`,
		`3:35 flags.new-checkout.variants.off: all variants must have the same type: this is a string and the first is a boolean`,
		`4:21 flags.new-checkout.defaultVariant: "blue" is not one of the variants`,
	}
	if d := cmp.Diff(want, lines[:min(3, len(lines))]); d != "" {
		t.Errorf("the problems differ (-want +got):\n%s", d)
	}
	if !strings.Contains(got.body, "flags.new-checkout.targeting.if[0].$ref") {
		t.Errorf("the unresolved reference is not reported: %s", got.body)
	}
}

func TestFlagsShareEvaluators(t *testing.T) {
	f := newFixture(t)
	rule := `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"staff"},"on"]}}`
	f.must(http.StatusCreated, "POST", "/shop/flags", `{"key":"a","definition":`+on+`}`)
	f.must(http.StatusUnprocessableEntity, "POST", "/shop/flags", `{"key":"b","definition":`+rule+`}`)
	before := f.must(http.StatusOK, "GET", "/shop", "")
	if before.body != "{}" {
		t.Errorf("a new environment is %s", before.body)
	}
	stored := f.must(http.StatusOK, "PUT", "/shop", `{"$evaluators":{"staff":{"ends_with":[{"var":"email"},"@shop.example"]}},"metadata":{"team":"shop"}}`, "If-Match", before.etag())
	f.must(http.StatusPreconditionFailed, "PUT", "/shop", `{}`, "If-Match", before.etag())
	f.must(http.StatusCreated, "POST", "/shop/flags", `{"key":"b","definition":`+rule+`}`)
	f.must(http.StatusPreconditionFailed, "PUT", "/shop", `{}`, "If-Match", stored.etag())
	got := f.must(http.StatusUnprocessableEntity, "PUT", "/shop", `{"$evaluators":null}`, "If-Match", "*")
	if !strings.Contains(got.body, "flags.b.targeting") || strings.Contains(got.body, `"line"`) {
		t.Errorf("removing an evaluator that a flag uses returns %s", got.body)
	}
	f.expectAudit("/shop/audit", "create ann", "configure ann", "create ann")
	var page struct{ Environments []environmentItem }
	f.must(http.StatusOK, "GET", "", "").into(t, &page)
	if len(page.Environments) != 2 || page.Environments[1].Name != "shop" || page.Environments[1].Version != 4 {
		t.Errorf("the environments are %+v", page.Environments)
	}
}

func TestPagination(t *testing.T) {
	f := newFixture(t)
	var want []string
	for i := range 7 {
		key := fmt.Sprintf("flag-%d", i)
		want = append(want, key)
		f.must(http.StatusCreated, "POST", "/shop/flags", fmt.Sprintf(`{"key":%q,"definition":%s}`, key, on))
	}
	var got []string
	next := ""
	for {
		var page struct {
			Flags []flagItem
			Next  string
		}
		f.must(http.StatusOK, "GET", "/shop/flags?limit=3&after="+next, "").into(t, &page)
		for _, item := range page.Flags {
			got = append(got, item.Key)
			if item.ETag != f.must(http.StatusOK, "GET", "/shop/flags/"+item.Key, "").etag() || item.UpdatedBy != "ann" || string(item.Definition) != on {
				t.Errorf("the item is %+v", item)
			}
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the flags differ (-want +got):\n%s", d)
	}
	changes, before := 0, ""
	for {
		var page struct {
			Changes []auditItem
			Next    int64
		}
		f.must(http.StatusOK, "GET", "/shop/audit?limit=2"+before, "").into(t, &page)
		if changes += len(page.Changes); page.Next == 0 {
			break
		}
		before = fmt.Sprintf("&before=%d", page.Next)
	}
	if changes != len(want) {
		t.Errorf("the audit has %d changes, want %d", changes, len(want))
	}
}

func TestRequestsWithoutATokenAreDenied(t *testing.T) {
	closed := newFixtureOn(t, postgrestest.Database(t), func() *rate.Limiter { return nil }, nil)
	f := newFixture(t)
	for name, header := range map[string]string{
		"no credentials": "", "another scheme": "Basic " + annToken, "a token alone": annToken, "no token": "Bearer ", "another token": "Bearer " + annToken + "x",
	} {
		t.Run(name, func(t *testing.T) {
			got := f.must(http.StatusUnauthorized, "GET", "", "", "Authorization", header)
			if got.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("the headers are %v", got.header)
			}
			f.must(http.StatusUnauthorized, "GET", "/shop/nothing/here", "", "Authorization", header)
		})
	}
	closed.must(http.StatusUnauthorized, "GET", "", "")
	closed.must(http.StatusUnauthorized, "GET", "", "", "Authorization", "Bearer ")
	if text := f.log.String() + closed.log.String(); strings.Contains(text, annToken) || strings.Contains(text, postgrestest.Password) {
		t.Errorf("the log contains a secret:\n%s", text)
	}
}

func TestClientsAreRateLimited(t *testing.T) {
	limit := func() *rate.Limiter { return rate.NewLimiter(rate.Limit(0.001), 2) }
	f := newFixtureOn(t, postgrestest.Database(t), limit, map[string]string{"ann": annToken, "bob": bobToken})
	f.must(http.StatusOK, "GET", "", "")
	f.must(http.StatusOK, "GET", "", "")
	if got := f.must(http.StatusTooManyRequests, "GET", "", ""); got.header.Get("Retry-After") != "1" {
		t.Errorf("the headers are %v", got.header)
	}
	f.must(http.StatusOK, "GET", "", "", "Authorization", "Bearer "+bobToken)
}

// A conditional change never overwrites an unseen one: of eight concurrent
// changes the losers get 409 or 412.
func TestConcurrentChangesAreNotLost(t *testing.T) {
	f := newFixture(t)
	definition := func(n int) string { return fmt.Sprintf(`{"state":"ENABLED","variants":{"n":%d}}`, n) }
	var won, rejected atomic.Int64
	each := func(do func()) {
		var running sync.WaitGroup
		for range 8 {
			running.Go(do)
		}
		running.Wait()
	}
	count := func(got answer, success, lost int) {
		switch got.status {
		case success:
			won.Add(1)
		case lost:
			rejected.Add(1)
		default:
			t.Errorf("status %d: %s", got.status, got.body)
		}
	}
	each(func() {
		count(f.request("POST", "/shop/flags", `{"key":"n","definition":`+definition(0)+`}`), 201, 409)
	})
	each(func() { count(f.request("PUT", "/shop/flags/m", definition(0), "If-None-Match", "*"), 201, 412) })
	if won.Load() != 2 || rejected.Load() != 14 {
		t.Fatalf("%d creations of 2 flags succeeded, %d were rejected", won.Load(), rejected.Load())
	}
	won.Store(0)
	each(func() {
		for range 10 {
			read := f.request("GET", "/shop/flags/n", "")
			var stored struct{ Variants struct{ N int } }
			if err := json.Unmarshal([]byte(read.body), &stored); err != nil {
				t.Error(err)
				return
			}
			count(f.request("PUT", "/shop/flags/n", definition(stored.Variants.N+1), "If-Match", read.etag()), 200, 412)
		}
	})
	if got := f.must(http.StatusOK, "GET", "/shop/flags/n", ""); got.body != definition(int(won.Load())) {
		t.Errorf("after %d successful changes the flag is %s", won.Load(), got.body)
	}
	var page struct{ Changes []auditItem }
	f.must(http.StatusOK, "GET", "/shop/audit?key=n&limit=500", "").into(t, &page)
	if len(page.Changes) != int(won.Load())+1 {
		t.Errorf("the audit has %d rows for %d changes", len(page.Changes), won.Load()+1)
	}
}

// Polling covers for changes that could not be published to Redis.
func TestChangesSucceedWithoutRedis(t *testing.T) {
	f := newFixture(t)
	f.invalidation = errors.New("connection refused")
	f.must(http.StatusCreated, "POST", "/shop/flags", `{"key":"a","definition":`+on+`}`)
	if environment := <-f.invalidated; environment != "shop" {
		t.Errorf("environment %s was invalidated", environment)
	}
	want := fmt.Sprintf("# HELP %[1]s Changes by the admin API that could not be published to Redis; instances detect them by polling.\n# TYPE %[1]s counter\n%[1]s 1\n",
		config.MetricAdminInvalidationFailures)
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), config.MetricAdminInvalidationFailures); err != nil {
		t.Error(err)
	}
}

func TestDatabaseFailuresAreReported(t *testing.T) {
	server := postgrestest.Start(t)
	f := newFixtureOn(t, server.Database(t), func() *rate.Limiter { return nil }, map[string]string{"ann": annToken})
	tag := f.must(http.StatusCreated, "POST", "/shop/flags", `{"key":"a","definition":`+on+`}`).etag()
	server.Kill()
	for _, got := range []answer{
		f.must(http.StatusServiceUnavailable, "GET", "/shop/flags/a", ""),
		f.must(http.StatusServiceUnavailable, "PUT", "/shop/flags/a", off, "If-Match", tag),
	} {
		if got.header.Get("Retry-After") == "" || strings.Contains(got.body, server.Addr) || strings.Contains(got.body, "SQLSTATE") {
			t.Errorf("the response is %s with %v", got.body, got.header)
		}
	}
	server.Restart(t)
	f.must(http.StatusOK, "PUT", "/shop/flags/a", off, "If-Match", tag)
	if strings.Contains(f.log.String(), postgrestest.Password) || !strings.Contains(f.log.String(), "admin request failed") {
		t.Errorf("the log is\n%s", f.log)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	f := newFixture(t)
	f.must(http.StatusOK, "GET", "", "")
	f.must(http.StatusNotFound, "GET", "/nowhere", "")
	f.must(http.StatusMethodNotAllowed, "BREW", "/shop", "")
	name := config.MetricAdminRequests
	want := "# HELP " + name + " Requests to the admin API by method and HTTP status code.\n# TYPE " + name + " counter\n" +
		name + "{code=\"200\",method=\"GET\"} 1\n" + name + "{code=\"404\",method=\"GET\"} 1\n" + name + "{code=\"405\",method=\"other\"} 1\n"
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), name); err != nil {
		t.Error(err)
	}
}

// The document describes exactly the resources and methods of the API.
func TestOpenAPIDocumentMatchesTheAPI(t *testing.T) {
	f := newFixture(t)
	root := strings.TrimSuffix(f.url, config.PathAdmin+"/environments")
	served, err := http.Get(root + config.PathAdmin + "/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer served.Body.Close()
	if text, err := io.ReadAll(served.Body); err != nil || !bytes.Equal(text, openapi.Document) {
		t.Errorf("another document is served, error %v", err)
	}
	for path, methods := range documented() {
		f.url = root + strings.NewReplacer("{environment}", "shop", "{key}", "a").Replace(path)
		slices.Sort(methods)
		if got := f.must(http.StatusMethodNotAllowed, "BREW", "", "").header.Get("Allow"); got != strings.Join(methods, ", ") {
			t.Errorf("%s has the methods %s, but the document lists %s", path, got, methods)
		}
	}
}

// documented returns the methods of the admin API by path, relying on the
// document's layout.
func documented() map[string][]string {
	paths := map[string][]string{}
	path := ""
	for line := range strings.Lines(string(openapi.Document)) {
		line = strings.TrimSuffix(line, ":\n")
		switch name := strings.TrimSpace(line); {
		case strings.HasPrefix(line, "  /"):
			path = name
		case strings.HasPrefix(path, config.PathAdmin+"/environments") && slices.Contains([]string{"    get", "    put", "    post", "    patch", "    delete"}, line):
			paths[path] = append(paths[path], strings.ToUpper(name))
		}
	}
	return paths
}
