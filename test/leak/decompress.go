// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"regexp"
)

// compressed is the beginning of gzip's format in base64, in which templates are kept.
var compressed = regexp.MustCompile(`H4sI[A-Za-z0-9+/]+=*`)

// decompressed are the texts that a text contains in gzip and base64.
func decompressed(text string) []string {
	var texts []string
	for _, encoded := range compressed.FindAllString(text, -1) {
		data, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			continue
		}
		reader, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			continue
		}
		// What can be read of a damaged one is searched.
		plain, _ := io.ReadAll(reader)
		texts = append(texts, string(plain))
	}
	return texts
}
