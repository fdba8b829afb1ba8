// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"
)

const (
	// maxLargeBodies is the maximum number of concurrent requests with a body over
	// smallBody bytes, as for OFREP.
	maxLargeBodies = 64
	smallBody      = 16 << 10
)

// counter is a number of concurrent requests.
type counter struct{ atomic.Int64 }

// enter counts a request. It returns false if there are too many; 0 is no limit.
func (c *counter) enter(limit int) bool {
	if c.Add(1) <= int64(limit) || limit == 0 {
		return true
	}
	c.Add(-1)
	return false
}

func (c *counter) leave() { c.Add(-1) }

// bytesLimit limits the bytes of messages that are being sent; nil is no limit. A message
// that is larger than the limit is sent when no other is.
type bytesLimit struct {
	max  int64
	free *semaphore.Weighted
}

func newBytesLimit(max int64) *bytesLimit {
	if max == 0 {
		return nil
	}
	return &bytesLimit{max: max, free: semaphore.NewWeighted(max)}
}

// try reserves bytes, if they are available at once.
func (l *bytesLimit) try(bytes int64) bool {
	return l == nil || l.free.TryAcquire(min(bytes, l.max))
}

// wait reserves bytes when they become available.
func (l *bytesLimit) wait(ctx context.Context, bytes int64) error {
	if l == nil {
		return nil
	}
	return l.free.Acquire(ctx, min(bytes, l.max))
}

func (l *bytesLimit) release(bytes int64) {
	if l != nil {
		l.free.Release(min(bytes, l.max))
	}
}

var errLargeBodies = errors.New("too many concurrent requests with large bodies")

// body is the body of a request. Only some may be large at a time, in addition to the
// limit of each.
type body struct {
	io.ReadCloser
	large   chan struct{}
	read    int
	isLarge bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.read > smallBody && !b.isLarge {
		select {
		case b.large <- struct{}{}:
			b.isLarge = true
		default:
			return 0, connect.NewError(connect.CodeResourceExhausted, errLargeBodies)
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.read += n
	return n, err
}

func (b *body) release() {
	if b.isLarge {
		<-b.large
		b.isLarge = false
	}
}
