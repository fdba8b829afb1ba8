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

// compressedMark ends the entity tags of compressed answers.
const compressedMark = `-gzip"`

// compressedTag is the tag of an answer that is compressed.
func compressedTag(tag string) string {
	return strings.TrimSuffix(tag, `"`) + compressedMark
}

// plainTags returns the If-None-Match header as if no answer had been compressed:
// whoever has one representation has the other. It also says whether there was a
// compressed one.
func plainTags(ifNoneMatch []string) (plain string, compressed bool) {
	switch len(ifNoneMatch) {
	case 0:
		return "", false
	case 1:
		plain = ifNoneMatch[0]
	default:
		plain = strings.Join(ifNoneMatch, ",")
	}
	if !strings.Contains(plain, compressedMark) {
		return plain, false
	}
	return strings.ReplaceAll(plain, compressedMark, `"`), true
}

// acceptsGzip reads an Accept-Encoding header.
func acceptsGzip(header []string) bool {
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

// isZero says whether the parameters of a coding are q=0, which refuses it.
func isZero(parameters string) bool {
	value, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(parameters)), "q=")
	return ok && strings.Trim(value, "0.") == ""
}

// compressor is a writer and what it has written.
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
