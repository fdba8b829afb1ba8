// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcontroller

import (
	"bytes"
	"sync"
)

// maxOutput limits how much of a log is kept.
const maxOutput = 4 << 20

// output keeps the end of a log, and closes started when a mark appears in it.
type output struct {
	mark    []byte
	started chan struct{}

	mu    sync.Mutex
	text  []byte
	found bool
}

// Write appends to the log.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	if !o.found && bytes.Contains(o.text, o.mark) {
		o.found = true
		close(o.started)
	}
	if len(o.text) > maxOutput {
		o.text = append([]byte(nil), o.text[len(o.text)-maxOutput/2:]...)
	}
	return len(p), nil
}

// String returns the end of the log.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}
