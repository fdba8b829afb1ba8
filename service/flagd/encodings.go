// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"weak"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/flagcache/flagcache/service/flags"
)

// encodings are the objects and the metadata of a set of flags in protobuf, encoded when
// they are first needed. Outcomes share them.
type encodings struct {
	// set is weak: the set before a change is not kept.
	set weak.Pointer[flags.Set]
	// structs are google.protobuf.Structs by the first byte of their JSON in memory.
	structs sync.Map
	// encoding is held while one is encoded, which takes many times its size.
	encoding sync.Mutex
}

// structOf returns a JSON object as a google.protobuf.Struct, empty for nil.
func (e *encodings) structOf(object json.RawMessage) []byte {
	if len(object) == 0 {
		return nil
	}
	if known, ok := e.structs.Load(&object[0]); ok {
		return known.([]byte)
	}
	e.encoding.Lock()
	defer e.encoding.Unlock()
	encoded := encodeStruct(object)
	e.structs.Store(&object[0], encoded)
	return encoded
}

// encodeStruct encodes an object of a flag definition, which has been validated.
func encodeStruct(object json.RawMessage) []byte {
	var message structpb.Struct
	if message.UnmarshalJSON(object) != nil {
		return nil
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(&message)
	if err != nil {
		return nil
	}
	return encoded
}

// maxEncodings is the number of sets whose encodings are kept: requests that began before
// a change of the flags end after it.
const maxEncodings = 2

// recent are the encodings of the sets that were last used.
type recent struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*encodings]
}

// of returns the encodings of a set.
func (r *recent) of(set *flags.Set) *encodings {
	if found := r.find(set); found != nil {
		return found
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if found := r.find(set); found != nil {
		return found
	}
	list := []*encodings{{set: weak.Make(set)}}
	if current := r.list.Load(); current != nil {
		list = append(list, *current...)
	}
	list = list[:min(len(list), maxEncodings)]
	r.list.Store(&list)
	return list[0]
}

func (r *recent) find(set *flags.Set) *encodings {
	if current := r.list.Load(); current != nil {
		for _, e := range *current {
			if e.set == weak.Make(set) {
				return e
			}
		}
	}
	return nil
}
