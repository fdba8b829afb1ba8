// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseSpec(t *testing.T) {
	const addressed = `{"revision":"8f2c","address":"http://shop-8f2c.ns.svc:80",`
	tests := map[string]struct {
		file string
		want spec
		err  string
	}{
		"an empty object": {file: `{}`},
		"no weight":       {file: addressed + `"timeout":"1s"}`},
		"a weight of 0":   {file: addressed + `"weight":0}`},
		"five percent":    {file: addressed + `"weight":5,"timeout":"250ms"}`, want: spec{"8f2c", "shop-8f2c.ns.svc:80", 500, 250 * time.Millisecond}},
		"a default":       {file: addressed + `"weight":100}`, want: spec{"8f2c", "shop-8f2c.ns.svc:80", 10_000, time.Second}},
		"a small share":   {file: addressed + `"weight":0.25}`, want: spec{"8f2c", "shop-8f2c.ns.svc:80", 25, time.Second}},
		"a later version": {file: addressed + `"weight":1,"mirror":true}`, want: spec{"8f2c", "shop-8f2c.ns.svc:80", 100, time.Second}},
		"a slash":         {file: `{"revision":"a","address":"http://127.0.0.1:1/","weight":1}`, err: `address is "http://127.0.0.1:1/"; it must be a URL such as http://name.namespace.svc:80`},

		"invalid JSON":      {file: `{"weight":5`, err: "unexpected end of JSON input"},
		"an empty file":     {file: ``, err: "unexpected end of JSON input"},
		"a weight as text":  {file: addressed + `"weight":"5"}`, err: "json: cannot unmarshal string"},
		"too much":          {file: addressed + `"weight":100.5}`, err: "weight is 100.5; it must be a percentage from 0.01 to 100, or 0"},
		"a negative weight": {file: addressed + `"weight":-5}`, err: "weight is -5;"},
		"too little":        {file: addressed + `"weight":0.001}`, err: "weight is 0.001;"},
		"far too much":      {file: addressed + `"weight":1e300}`, err: "weight is 1e+300;"},
		"no revision":       {file: `{"address":"http://a:80","weight":5}`, err: `revision is ""; it must be`},
		"two lines":         {file: `{"revision":"a\nb","address":"http://a:80","weight":5}`, err: `revision is "a\nb"; it must be`},
		"no address":        {file: `{"revision":"a","weight":5}`, err: `address is ""; it must be a URL`},
		"TLS":               {file: `{"revision":"a","address":"https://a:80","weight":5}`, err: `address is "https://a:80";`},
		"a path":            {file: `{"revision":"a","address":"http://a:80/x","weight":5}`, err: `address is "http://a:80/x";`},
		"a query":           {file: `{"revision":"a","address":"http://a:80?x","weight":5}`, err: `address is "http://a:80?x";`},
		"a user":            {file: `{"revision":"a","address":"http://u:p@a:80","weight":5}`, err: `address is "http://u:p@a:80";`},
		"no host":           {file: `{"revision":"a","address":"http://:80","weight":5}`, err: `address is "http://:80";`},
		"a malformed time":  {file: addressed + `"weight":5,"timeout":"soon"}`, err: `timeout is "soon"; it must be a duration from 10ms to 5s, such as 1s`},
		"no time":           {file: addressed + `"weight":5,"timeout":"0s"}`, err: `timeout is "0s";`},
		"too long":          {file: addressed + `"weight":5,"timeout":"6s"}`, err: `timeout is "6s";`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseSpec([]byte(test.file))
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.HasPrefix(err.Error(), test.err)) {
				t.Errorf("the error is %v, not %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(spec{})); diff != "" {
				t.Errorf("unexpected spec (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadSpec(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "split.json")
	if got, err := readSpec(path); got != (spec{}) || err != nil {
		t.Errorf("reading an absent file: %v, %v", got, err)
	}
	if got, err := readSpec(filepath.Join(path, "dir", "split.json")); got != (spec{}) || err != nil {
		t.Errorf("reading a file in an absent directory: %v, %v", got, err)
	}
	if got, err := readSpec(dir); got != (spec{}) || err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("reading a directory: %v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat(" ", maxFileSize+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readSpec(path); got != (spec{}) || err == nil || !strings.Contains(err.Error(), "more than 16384 bytes") {
		t.Errorf("reading a huge file: %v, %v", got, err)
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"revision":"8f2c","address":"http://shop-8f2c.ns.svc:80","weight":5,"timeout":"1s"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseSpec(data)
		switch {
		case err != nil && o != (spec{}):
			t.Errorf("an invalid file results in %v", o)
		case o.share > parts:
			t.Errorf("the share is %d", o.share)
		case o.share > 0 && (o.host == "" || o.revision == "" || o.timeout < minTimeout || o.timeout > maxTimeout):
			t.Errorf("the spec is %v", o)
		}
	})
}
