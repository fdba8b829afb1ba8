// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"encoding/json"
	"sync"
	"weak"

	"connectrpc.com/connect"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/ofrep"
)

// Types of the events of flagd.evaluation.
const (
	eventReady     = "provider_ready"
	eventChanged   = "configuration_change"
	eventKeepAlive = "keep_alive"
)

// addEventStreams adds the event streams of both versions, which are the same.
func (h *Handler) addEventStreams() {
	differences := &differences{}
	for _, version := range []string{version1, version2} {
		path := "/" + version + ".Service/EventStream"
		h.add(path, stream(h, path, func(_ *connect.Request[emptyRequest], send func(*event) error) (ofrep.Follower, error) {
			return &events{core: h.core, differences: differences, send: send}, nil
		}), true)
	}
}

// event is a message of an event stream.
type event struct {
	kind string
	// data is an object, nil if there is none, in JSON and as a google.protobuf.Struct.
	data   json.RawMessage
	object []byte
}

// size implements sent.
func (e *event) size() int64 { return int64(64 + len(e.kind) + max(len(e.data), len(e.object))) }

// appendProto implements sent.
func (e *event) appendProto(to []byte) []byte {
	if to = appendTextField(to, 1, e.kind); e.data != nil {
		to = appendBytesField(to, 2, e.object)
	}
	return to
}

// appendJSON implements sent.
func (e *event) appendJSON(to []byte) []byte {
	data := e.data
	if data == nil {
		data = json.RawMessage("null")
	}
	to = append(append(append(to, `{"type":"`...), e.kind...), `","data":`...)
	return append(append(to, data...), '}')
}

// events are the messages of an event stream.
type events struct {
	core        *ofrep.Core
	differences *differences
	send        func(*event) error
	// known are the flags that the client was last notified of, nil before the first.
	known *flags.Set
}

// Begin tells the client that flags are served, unless there are none yet.
func (e *events) Begin(latest ofrep.Change) error { return e.Changed(latest) }

// Changed sends the keys of the flags that changed, unless there are none.
func (e *events) Changed(ofrep.Change) error {
	before, served := e.known, e.core.Served()
	e.known = served
	switch {
	case served == nil:
		return nil
	case before == nil:
		return e.send(&event{kind: eventReady})
	}
	if changed := e.differences.between(before, served); changed != nil {
		return e.send(changed)
	}
	return nil
}

// Idle sends an event that keeps the stream open.
func (e *events) Idle() error {
	if e.known == nil {
		return nil
	}
	return e.send(&event{kind: eventKeepAlive})
}

// differences has the event of the latest change, which all streams share.
type differences struct {
	mu            sync.Mutex
	before, after weak.Pointer[flags.Set]
	changed       *event
}

// between returns the event of a change, nil if no flag changed.
func (d *differences) between(before, after *flags.Set) *event {
	d.mu.Lock()
	defer d.mu.Unlock()
	if from, to := weak.Make(before), weak.Make(after); d.before != from || d.after != to {
		d.before, d.after = from, to
		d.changed = changeEvent(after.ChangesSince(before))
	}
	return d.changed
}

// changeEvent returns the event with the kind of change of each flag.
func changeEvent(changes flags.Changes) *event {
	type change struct {
		Type string `json:"type"`
	}
	changed := map[string]change{}
	for kind, keys := range map[string][]string{"write": changes.Added, "update": changes.Updated, "delete": changes.Removed} {
		for _, key := range keys {
			changed[key] = change{kind}
		}
	}
	if len(changed) == 0 {
		return nil
	}
	data, err := json.Marshal(map[string]any{"flags": changed})
	if err != nil {
		return nil
	}
	return &event{kind: eventChanged, data: data, object: encodeStruct(data)}
}
