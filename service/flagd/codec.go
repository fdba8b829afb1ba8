// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import "fmt"

// received is a message of a client.
type received interface {
	unmarshalProto(wire []byte) error
	unmarshalJSON(text []byte) error
}

// sent is a message for a client.
type sent interface {
	// size is about the size in either form.
	size() int64
	appendProto(to []byte) []byte
	appendJSON(to []byte) []byte
}

// codec is a connect.Codec for these messages, in protobuf or JSON.
type codec struct {
	name string
	json bool
}

// Name implements connect.Codec.
func (c codec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (c codec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

// MarshalAppend writes into a buffer that connect reuses.
func (c codec) MarshalAppend(to []byte, m any) ([]byte, error) {
	message, ok := m.(sent)
	switch {
	case !ok:
		return nil, fmt.Errorf("%T is not a message", m)
	case c.json:
		return message.appendJSON(to), nil
	default:
		return message.appendProto(to), nil
	}
}

// Unmarshal implements connect.Codec.
func (c codec) Unmarshal(data []byte, m any) error {
	message, ok := m.(received)
	switch {
	case !ok:
		return fmt.Errorf("%T is not a message", m)
	case c.json:
		return message.unmarshalJSON(data)
	default:
		return message.unmarshalProto(data)
	}
}
