// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"slices"
	"sync"
	"weak"

	"github.com/flagcache/flagcache/service/flags"
)

// maxDocuments is the number of selections whose documents are kept.
const maxDocuments = 16

// documents are the documents of the served flags, which streams share.
type documents struct {
	mu  sync.Mutex
	set weak.Pointer[flags.Set]
	// bySelection are the documents that were requested.
	bySelection map[selector]string
}

// of returns the document of the selected flags of a set.
func (d *documents) of(set *flags.Set, selected selector) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if key := weak.Make(set); d.set != key {
		d.set, d.bySelection = key, map[selector]string{}
	}
	selected = selected.among(set)
	document, known := d.bySelection[selected]
	if known {
		return document
	}
	document = documentOf(set, selected)
	if len(d.bySelection) < maxDocuments {
		d.bySelection[selected] = document
	}
	return document
}

// among returns the selector for the flags of a set: all identifiers without flags are
// the same.
func (s selector) among(set *flags.Set) selector {
	if s.all || slices.ContainsFunc(set.Flags(), func(f *flags.Flag) bool { return s.selects(f.FlagSet) }) {
		return s
	}
	return selector{none: true}
}

// documentOf returns the document: what flagd's providers evaluate, with the flags that
// are served.
func documentOf(set *flags.Set, selected selector) string {
	to := []byte(`{"flags":{`)
	first := true
	for _, flag := range set.Flags() {
		if !selected.selects(flag.FlagSet) {
			continue
		}
		if !first {
			to = append(to, ',')
		}
		first = false
		to = append(append(appendQuoted(to, flag.Key), ':'), flag.Definition...)
	}
	to = append(to, '}')
	if evaluators := set.Evaluators(); evaluators != nil {
		to = append(append(to, `,"$evaluators":`...), evaluators...)
	}
	if metadata := set.Metadata(); metadata != nil {
		to = append(append(to, `,"metadata":`...), metadata...)
	}
	return string(append(to, '}'))
}
