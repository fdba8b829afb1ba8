// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// manyFlags returns a document whose bulk response is worth compressing.
func manyFlags(count int) string {
	var flags []string
	for i := range count {
		flags = append(flags, fmt.Sprintf(`"flag-%03d":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`, i))
	}
	return `{"flags":{` + strings.Join(flags, ",") + `}}`
}

func TestLargeResponsesAreCompressed(t *testing.T) {
	core, _ := newTestCore(t, manyFlags(50))
	handler := NewHandler(core, Options{CompressFrom: 1500})
	plain := request(handler, "POST", base, "")
	for range 2 {
		w := request(handler, "POST", base, "", "Accept-Encoding", "br;q=1, gzip")
		if w.Header().Get("Content-Encoding") != "gzip" || w.Body.Len() > plain.Body.Len()/3 {
			t.Fatalf("the answer has %d bytes and %v", w.Body.Len(), w.Header())
		}
		reader, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		unpacked, err := io.ReadAll(reader)
		if err != nil || string(unpacked) != plain.Body.String() {
			t.Errorf("it decompresses to %s (%v)", unpacked, err)
		}
	}
	if vary := plain.Header().Get("Vary"); vary != "Accept-Encoding" {
		t.Errorf("the plain answer varies by %q", vary)
	}
}

func TestWhatIsNotCompressed(t *testing.T) {
	core, _ := newTestCore(t, manyFlags(50))
	tests := map[string]struct {
		from         int
		path, accept string
	}{
		"for a client without Accept-Encoding": {1500, base, ""},
		"for a client that excludes it":        {1500, base, "gzip;q=0, identity"},
		"for a client with other encodings":    {1500, base, "br, zstd"},
		"a small response":                     {1 << 20, base, "gzip"},
		"a single flag":                        {10, base + "/flag-001", "gzip"},
		"anything if it is disabled":           {0, base, "gzip"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			handler := NewHandler(core, Options{CompressFrom: test.from})
			w := request(handler, "POST", test.path, "", "Accept-Encoding", test.accept)
			if w.Code != 200 || w.Header().Get("Content-Encoding") != "" || !strings.HasPrefix(w.Body.String(), "{") {
				t.Errorf("it is compressed: %v", w.Header())
			}
		})
	}
}

// TestTagsOfCompressedResponses checks that the representations have different
// strong tags, and that a client with either representation gets 304.
func TestTagsOfCompressedResponses(t *testing.T) {
	core, _ := newTestCore(t, manyFlags(50))
	handler := NewHandler(core, Options{CompressFrom: 1500})
	plain := request(handler, "POST", base, "").Header().Get("ETag")
	packed := request(handler, "POST", base, "", "Accept-Encoding", "gzip").Header().Get("ETag")
	if packed == plain || packed != strings.TrimSuffix(plain, `"`)+`-gzip"` {
		t.Errorf("the tags are %s and, compressed, %s", plain, packed)
	}
	for _, known := range []string{plain, packed, `"other", ` + packed, "W/" + packed} {
		w := request(handler, "POST", base, "", "Accept-Encoding", "gzip", "If-None-Match", known)
		if w.Code != http.StatusNotModified || !strings.HasSuffix(known, w.Header().Get("ETag")) || w.Header().Get("Vary") == "" {
			t.Errorf("If-None-Match: %s is answered with %d %v", known, w.Code, w.Header())
		}
	}
	core.Serve(parse(t, manyFlags(51)))
	if w := request(handler, "POST", base, "", "Accept-Encoding", "gzip", "If-None-Match", packed); w.Code != 200 {
		t.Errorf("with other flags the old tag is answered with %d", w.Code)
	}
}

func BenchmarkBulkCompressed(b *testing.B) {
	core, _ := newTestCore(b, manyFlags(50))
	handler := NewHandler(core, Options{CompressFrom: 1500})
	for _, accept := range []string{"identity", "gzip"} {
		b.Run(accept, func(b *testing.B) {
			r := httptest.NewRequest("POST", base, nil)
			r.Header.Set("Accept-Encoding", accept)
			b.ReportAllocs()
			for b.Loop() {
				r.Body = http.NoBody
				handler.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
