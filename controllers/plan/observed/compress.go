// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Compress compresses data with gzip.
func Compress(data []byte) []byte {
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	if _, err := w.Write(data); err != nil {
		panic(fmt.Sprintf("compressing into memory fails: %v", err))
	}
	if err := w.Close(); err != nil {
		panic(fmt.Sprintf("compressing into memory fails: %v", err))
	}
	return buffer.Bytes()
}

// Decompress is the inverse of Compress. What expands to more than limit bytes is an error.
func Decompress(compressed []byte, limit int64) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("reading the header of compressed data: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("decompressing data: %w", err)
	case int64(len(data)) > limit:
		return nil, errors.New("it expands to more than the limit")
	}
	return data, nil
}
