// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"sync"
)

// compressedSuffix is the end of the entity tags of compressed responses.
const compressedSuffix = `-gzip"`

// compressedTag returns the entity tag of a compressed response.
func compressedTag(tag string) string {
	return strings.TrimSuffix(tag, `"`) + compressedSuffix
}

// plainTags returns the If-None-Match header with the tags of the uncompressed
// responses, because either representation may be cached. It also reports
// whether one of the tags was that of a compressed response.
func plainTags(ifNoneMatch []string) (plain string, compressed bool) {
	switch len(ifNoneMatch) {
	case 0:
		return "", false
	case 1:
		plain = ifNoneMatch[0]
	default:
		plain = strings.Join(ifNoneMatch, ",")
	}
	if !strings.Contains(plain, compressedSuffix) {
		return plain, false
	}
	return strings.ReplaceAll(plain, compressedSuffix, `"`), true
}

// AcceptsGzip reports whether an Accept-Encoding header allows gzip.
func AcceptsGzip(header []string) bool {
	for _, line := range header {
		for coding := range strings.SplitSeq(line, ",") {
			name, quality, _ := strings.Cut(coding, ";")
			name = strings.TrimSpace(name)
			if strings.EqualFold(name, "gzip") || name == "*" {
				return !isZero(quality)
			}
		}
	}
	return false
}

// isZero reports whether the parameters of a coding are q=0, which excludes it.
func isZero(parameters string) bool {
	value, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(parameters)), "q=")
	return ok && strings.Trim(value, "0.") == ""
}

// compressor is a gzip writer with its output.
type compressor struct {
	out    bytes.Buffer
	writer *gzip.Writer
}

var compressors = sync.Pool{New: func() any {
	c := &compressor{}
	// The level is valid, so there is no error.
	c.writer, _ = gzip.NewWriterLevel(&c.out, gzip.BestSpeed)
	return c
}}

func writeCompressed(w http.ResponseWriter, status int, answer []byte) int {
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	c.out.Reset()
	c.writer.Reset(&c.out)
	// Writing to memory does not fail.
	_, _ = c.writer.Write(answer)
	_ = c.writer.Close()
	w.Header()["Content-Encoding"] = gzipCoding
	return write(w, status, c.out.Bytes())
}
