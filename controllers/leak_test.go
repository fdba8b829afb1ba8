// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"fmt"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/tools/events"

	"github.com/flagcache/flagcache/test/leak"
)

// produced is what the run produced beside objects: the log of the operator, events,
// metrics and the log of ACK.
var produced = texts{kept: map[string]string{}}

// texts are the texts of a run. The log is written to it.
type texts struct {
	mu   sync.Mutex
	log  bytes.Buffer
	kept map[string]string
}

// Write adds to the log.
func (t *texts) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.Write(p)
}

// keep keeps a text of a kind.
func (t *texts) keep(kind, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept[kind] += text + "\n"
}

// keepEvents keeps the events that a spec leaves in a recorder.
func (t *texts) keepEvents(recorder *events.FakeRecorder) {
	for len(recorder.Events) > 0 {
		t.keep("events", <-recorder.Events)
	}
}

// all are the texts by their kinds.
func (t *texts) all() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept["the log"] = t.log.String()
	return t.kept
}

// expectNoSecretLeaked searches everything that the run produced for the values of all
// Secrets: those that the operator generated, and those that the specs gave it.
func expectNoSecretLeaked(recording *leak.Recording) {
	GinkgoHelper()
	texts := produced.all()
	found, err := recording.Search(texts)
	Expect(err).NotTo(HaveOccurred())
	Expect(leak.Summary(found)).To(BeEmpty(), "secrets appear where they must not")

	if suite, _ := GinkgoConfiguration(); len(suite.FocusStrings) > 0 {
		return
	}
	objects, values := recording.Size()
	sizes := map[string]int{"objects": objects, "values of Secrets": values}
	for kind, text := range texts {
		sizes[kind] = len(text)
	}
	for _, kind := range []string{"objects", "values of Secrets", "the log", "events", "metrics", "the log of ACK"} {
		Expect(sizes).To(HaveKeyWithValue(kind, BeNumerically(">", 0)), fmt.Sprint(sizes))
	}
}
