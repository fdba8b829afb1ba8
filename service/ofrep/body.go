// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
)

const (
	// MaxBody is the maximum size of a request body in bytes. Contexts usually have
	// a few hundred.
	MaxBody = 256 << 10
	// smallBody is the body size that every request may use.
	smallBody = 16 << 10
	// maxLargeBodies is the maximum number of concurrent requests with larger
	// bodies. Together with the limit on connections it bounds the memory used by
	// bodies.
	maxLargeBodies = 64
	// initialBuffer is the size of a new buffer.
	initialBuffer = 2 << 10
	// maxPooledBuffer is the maximum size of a buffer that is reused.
	maxPooledBuffer = 64 << 10
)

// bodies is a pool of buffers.
type bodies struct {
	pool sync.Pool
	// large is a semaphore for large bodies.
	large chan struct{}
}

// buffers hold a request's body, its response, and the extra members of a bulk
// response.
type buffers struct {
	in, out, extra []byte
	isLarge        bool
	// reserved are the bytes of Budget that are reserved for the response.
	reserved int64
}

func (p *bodies) get() *buffers {
	if b, ok := p.pool.Get().(*buffers); ok {
		return b
	}
	return &buffers{in: make([]byte, 0, initialBuffer)}
}

// release returns buffers to the pool, unless they have grown too large.
func (p *bodies) release(b *buffers) {
	if b.isLarge {
		<-p.large
		b.isLarge = false
	}
	if cap(b.in) <= smallBody && cap(b.out) <= maxPooledBuffer {
		p.pool.Put(b)
	}
}

// read reads the request's body. The status is 0 if it succeeds.
func (b *buffers) read(r *http.Request, p *bodies) (status int, details string) {
	b.in = b.in[:0]
	if coding := r.Header["Content-Encoding"]; coding != nil && coding[0] != "identity" {
		return http.StatusUnsupportedMediaType, "the body must not be compressed"
	}
	if r.ContentLength > MaxBody {
		return http.StatusRequestEntityTooLarge, tooLarge
	}
	if r.ContentLength > int64(cap(b.in)) && !b.grow(int(r.ContentLength), p) {
		return http.StatusTooManyRequests, "too many concurrent requests with large bodies"
	}
	for {
		if len(b.in) == cap(b.in) && !b.grow(2*cap(b.in), p) {
			return http.StatusTooManyRequests, "too many concurrent requests with large bodies"
		}
		n, err := r.Body.Read(b.in[len(b.in):cap(b.in)])
		b.in = b.in[:len(b.in)+n]
		switch {
		case len(b.in) > MaxBody:
			return http.StatusRequestEntityTooLarge, tooLarge
		case err == io.EOF:
			return 0, ""
		case errors.Is(err, os.ErrDeadlineExceeded):
			return http.StatusRequestTimeout, "the body took too long to arrive"
		case err != nil:
			return http.StatusBadRequest, "the body could not be read"
		}
	}
}

var tooLarge = "the body is larger than " + strconv.Itoa(MaxBody) + " bytes"

// grow grows the buffer to the given size plus one byte, which detects a body
// over the limit. It returns false if there are too many large bodies already.
func (b *buffers) grow(size int, p *bodies) bool {
	if size > smallBody && !b.isLarge {
		select {
		case p.large <- struct{}{}:
			b.isLarge = true
		default:
			return false
		}
	}
	grown := make([]byte, len(b.in), min(size, MaxBody)+1)
	copy(grown, b.in)
	b.in = grown
	return true
}
