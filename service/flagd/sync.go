// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"hash/maphash"

	"connectrpc.com/connect"

	"github.com/flagcache/flagcache/service/ofrep"
)

// syncService is the prefix of the paths of flagd.sync.v1.
const syncService = "/flagd.sync.v1.FlagSyncService/"

// NewSync returns the handler of flagd.sync.v1. It is not for browsers: there is no CORS.
func NewSync(core *ofrep.Core, options Options, metrics *Metrics) *Handler {
	options.Origins = nil
	h := newHandler(core, options, metrics)
	documents := &documents{}
	fetch, metadata, synchronize := syncService+"FetchAllFlags", syncService+"GetMetadata", syncService+"SyncFlags"
	h.add(fetch, unary(h, fetch, func(r *connect.Request[selectRequest]) (*fetchResponse, error) {
		selected, err := readSelector(r.Header(), r.Msg.selector, h.options.Source)
		if err != nil {
			return nil, err
		}
		set := core.Served()
		if set == nil {
			return nil, evaluationError(ofrep.ErrNoFlags)
		}
		return &fetchResponse{documents.of(set, selected)}, nil
	}), false)
	h.add(metadata, unary(h, metadata, func(*connect.Request[emptyRequest]) (*metadataResponse, error) {
		return &metadataResponse{}, nil
	}), false)
	h.add(synchronize, stream(h, synchronize, func(r *connect.Request[selectRequest], send func(*syncResponse) error) (ofrep.Follower, error) {
		selected, err := readSelector(r.Header(), r.Msg.selector, h.options.Source)
		if err != nil {
			return nil, err
		}
		return &synchronization{core: core, documents: documents, selected: selected, send: send}, nil
	}), true)
	return h
}

// fetchResponse is the response of FetchAllFlags.
type fetchResponse struct{ document string }

// size implements sent.
func (r *fetchResponse) size() int64 { return quotedSize(r.document) }

// appendProto implements sent.
func (r *fetchResponse) appendProto(to []byte) []byte { return appendTextField(to, 1, r.document) }

// appendJSON implements sent.
func (r *fetchResponse) appendJSON(to []byte) []byte {
	return append(appendQuoted(append(to, `{"flagConfiguration":`...), r.document), '}')
}

// quotedSize is about the size of a message with a document, whose quotes are escaped in
// JSON.
func quotedSize(document string) int64 { return 64 + int64(len(document)) + int64(len(document)/4) }

// metadataResponse is the response of GetMetadata, which is deprecated: there is none.
type metadataResponse struct{}

// size implements sent.
func (*metadataResponse) size() int64 { return 64 }

// appendProto implements sent.
func (*metadataResponse) appendProto(to []byte) []byte { return appendBytesField(to, 2, nil) }

// appendJSON implements sent.
func (*metadataResponse) appendJSON(to []byte) []byte { return append(to, `{"metadata":{}}`...) }

// syncResponse is a message of SyncFlags, with an empty context.
type syncResponse struct{ document string }

// size implements sent.
func (r *syncResponse) size() int64 { return quotedSize(r.document) }

// appendProto implements sent.
func (r *syncResponse) appendProto(to []byte) []byte {
	return appendBytesField(appendTextField(to, 1, r.document), 2, nil)
}

// appendJSON implements sent.
func (r *syncResponse) appendJSON(to []byte) []byte {
	return append(appendQuoted(append(to, `{"flagConfiguration":`...), r.document), `,"syncContext":{}}`...)
}

// synchronization is the messages of SyncFlags. It has no queue: a client that is behind
// gets the newest document only.
type synchronization struct {
	core      *ofrep.Core
	documents *documents
	selected  selector
	send      func(*syncResponse) error
	// sent is the hash of the last document, 0 before the first.
	sent uint64
}

// seed is that of the hashes of documents.
var seed = maphash.MakeSeed()

// Begin sends the document, unless there is none yet.
func (s *synchronization) Begin(latest ofrep.Change) error { return s.Changed(latest) }

// Changed sends the document if it is another one.
func (s *synchronization) Changed(ofrep.Change) error {
	set := s.core.Served()
	if set == nil {
		return nil
	}
	document := s.documents.of(set, s.selected)
	hash := maphash.String(seed, document)
	if hash == s.sent {
		return nil
	}
	s.sent = hash
	return s.send(&syncResponse{document})
}

// Idle does nothing: the protocol has no message for it, and pings of HTTP/2 detect
// broken connections.
func (s *synchronization) Idle() error { return nil }
