// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"errors"
	"fmt"
	"io"
)

const (
	// maxLarge is how many responses may at a time be larger than is expected of them.
	// Together with maxResponse it bounds the memory that a candidate can cost.
	maxLarge = 4
	// minRoom is expected of any response.
	minRoom = 64 << 10
)

// errNoRoom is the error of a response that is larger than expected while others are.
var errNoRoom = errors.New("too many responses are larger than expected")

// room is the memory of one response of a candidate, compressed and decompressed: twice
// that of the stable pod's own, because a change of flags may reach the candidate first,
// or up to maxResponse for a few at a time.
type room struct {
	expected int64
	large    chan struct{}
	taken    bool
}

func (s *Splitter) roomFor(key string) *room {
	expected := int64(maxResponse)
	if s.options.MaxResponse != nil {
		expected = min(expected, max(2*s.options.MaxResponse(key), minRoom))
	}
	return &room{expected: expected, large: s.large}
}

// read reads up to one byte more than maxResponse.
func (m *room) read(from io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(from, m.expected+1))
	if err != nil || int64(len(content)) <= m.expected || m.expected == maxResponse {
		return content, err
	}
	if !m.take() {
		return nil, fmt.Errorf("reading more than %d bytes: %w", m.expected, errNoRoom)
	}
	rest, err := io.ReadAll(io.LimitReader(from, maxResponse+1-int64(len(content))))
	return append(content, rest...), err
}

func (m *room) take() bool {
	if m.taken {
		return true
	}
	select {
	case m.large <- struct{}{}:
		m.taken = true
	default:
	}
	return m.taken
}

func (m *room) release() {
	if m.taken {
		<-m.large
	}
}
