// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Limits of the metrics of one pod. They are scanned in constant memory, so that only
// what is kept costs memory: the families of the checks are about 100 lines of 7 KB.
const (
	// maxBytes and maxLines of everything; a flag service with 1,000 flags has 300 KB.
	maxBytes = 4 << 20
	maxLines = 1 << 16
	// maxLine is the length of the longest line.
	maxLine = 4 << 10
	// maxKeptBytes and maxKeptLines of the families of the checks.
	maxKeptBytes = 128 << 10
	maxKeptLines = 2 << 10
)

// Reasons why the metrics of a pod are not read.
var (
	errTooLarge    = fmt.Errorf("metrics exceed %d bytes, %d lines or %d bytes in a line", maxBytes, maxLines, maxLine)
	errTooManyKept = fmt.Errorf("the metrics of the checks exceed %d bytes or %d lines", maxKeptBytes, maxKeptLines)
	errTruncated   = errors.New("the last line of the metrics is truncated")
)

// wanted are the names of the lines to keep, with the families' suffixes.
var wanted = wantedNames()

func wantedNames() map[string]bool {
	names := map[string]bool{}
	for _, name := range scalars {
		names[name] = true
	}
	for _, name := range histograms {
		for _, suffix := range []string{"", bucketSuffix, "_sum", "_count"} {
			names[name+suffix] = true
		}
	}
	return names
}

// keepWanted returns the lines of the Prometheus text format that are about the families
// of the checks, without their help. The text is a pod's and may be anything.
func keepWanted(r io.Reader) ([]byte, error) {
	limited := &io.LimitedReader{R: r, N: maxBytes + 1}
	reader := bufio.NewReaderSize(limited, maxLine)
	var kept []byte
	for lines, keptLines := 0, 0; ; lines++ {
		line, err := reader.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull), limited.N == 0, lines == maxLines:
			return nil, errTooLarge
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, errTruncated
		case errors.Is(err, io.EOF):
			return kept, nil
		case err != nil:
			return nil, fmt.Errorf("reading metrics: %w", err)
		}
		if !wanted[string(nameOf(line))] {
			continue
		}
		keptLines++
		if kept = append(kept, line...); len(kept) > maxKeptBytes || keptLines > maxKeptLines {
			return nil, errTooManyKept
		}
	}
}

// typeLine begins a line with the type of a family.
var typeLine = []byte("# TYPE ")

// nameOf returns the name of the series or of the family whose type a line has.
func nameOf(line []byte) []byte {
	name := bytes.TrimPrefix(line, typeLine)
	if end := bytes.IndexAny(name, "{ \t\r\n"); end >= 0 {
		name = name[:end]
	}
	return name
}
