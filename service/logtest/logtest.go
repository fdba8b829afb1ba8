// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package logtest collects log lines in tests.
package logtest

import (
	"strings"
	"sync"
)

// Buffer is a writer that keeps what is logged. It is safe for concurrent use; the
// zero value is empty.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (b *Buffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(line)
}

// String returns everything written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
