// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/service/benchmark"
	"github.com/flagcache/flagcache/service/flags"
)

const measured = `{"flags": {
  "static":     {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
  "ends_with":  {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                 "targeting": {"if": [{"ends_with": [{"var": "email"}, "@corp.com"]}, "on", "off"]}},
  "fractional": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                 "targeting": {"fractional": [["on", 50], ["off", 50]]}}
}}`

const measuredBody = `{"context":{"targetingKey":"user-1","email":"ann@corp.com","tier":"gold","age":30,"country":"CH"}}`

// fifty returns a document with fifty flags, a third of each kind.
func fifty() string {
	kinds := []string{
		``,
		`,"targeting":{"if":[{"ends_with":[{"var":"email"},"@corp.com"]},"on","off"]}`,
		`,"targeting":{"fractional":[["on",50],["off",50]]}`,
	}
	list := ""
	for i := range 50 {
		list += fmt.Sprintf(`,"flag-%02d":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"%s}`, i, kinds[i%3])
	}
	return `{"flags":{` + list[1:] + `}}`
}

func TestAResponseAllocatesOnce(t *testing.T) {
	core, _ := newTestCore(t, measured)
	to, body := make([]byte, 0, 1000), []byte(measuredBody)
	for _, key := range []string{"static", "ends_with", "fractional"} {
		allocations := testing.AllocsPerRun(1000, func() {
			if status, _ := core.Single(to, key, body); status != 200 {
				t.Fatalf("%s answers %d", key, status)
			}
		})
		if allocations > 1 {
			t.Errorf("%s allocates %v times", key, allocations)
		}
	}
}

// handwritten returns an equivalent of Single for one flag: it decodes with
// encoding/json, evaluates, and appends a pre-encoded response.
func handwritten(key string, on, off []byte) func(to, body []byte) []byte {
	return func(to, body []byte) []byte {
		var request struct {
			Context struct{ TargetingKey, Email string }
		}
		if err := json.Unmarshal(body, &request); err != nil {
			return nil
		}
		if key == "ends_with" && !strings.HasSuffix(request.Context.Email, "@corp.com") {
			return append(to, off...)
		}
		return append(to, on...)
	}
}

// BenchmarkSingle measures a request without HTTP. The ratio is to the
// handwritten code, measured alternately in the same run.
func BenchmarkSingle(b *testing.B) {
	core, _ := newTestCore(b, measured)
	to, body := make([]byte, 0, 1000), []byte(measuredBody)
	for _, key := range []string{"static", "ends_with", "fractional"} {
		b.Run(key, func(b *testing.B) {
			flag, _ := core.view.Load().set.Flag(key)
			_, on := core.Single(nil, flag.Key, body)
			baseline := handwritten(key, on, nil)
			benchmark.Alternate(b, 100, func() { _, _ = core.Single(to, key, body) }, func() { _ = baseline(to, body) })
		})
	}
}

// BenchmarkBulk measures the same for fifty flags at once.
func BenchmarkBulk(b *testing.B) {
	core, _ := newTestCore(b, fifty())
	to, body := make([]byte, 0, 10_000), []byte(measuredBody)
	_, all, tag := core.Bulk(nil, body, nil, "")
	baseline := handwritten("all", all, nil)
	for name, known := range map[string]string{"200": "", "304": tag} {
		b.Run(name, func(b *testing.B) {
			benchmark.Alternate(b, 100, func() { _, _, _ = core.Bulk(to, body, nil, known) }, func() { _ = baseline(to, body) })
		})
	}
}

// BenchmarkServe measures loading a new set of flags.
func BenchmarkServe(b *testing.B) {
	document := []byte(fifty())
	core, _ := newTestCore(b, "")
	b.ReportAllocs()
	for b.Loop() {
		set, _, err := flags.Parse(document)
		if err != nil {
			b.Fatal(err)
		}
		core.Serve(set)
	}
}
