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
	// MaxBody is the most bytes that a request's body may have. Contexts have a few
	// hundred.
	MaxBody = 256 << 10
	// smallBody is what every request may have in memory.
	smallBody = 16 << 10
	// maxLargeBodies is how many requests may have more than that at a time. With
	// the limit on connections it bounds the memory that bodies take.
	maxLargeBodies = 64
	// firstBuffer is a new buffer's size.
	firstBuffer = 2 << 10
	// keptBuffer is the most that a buffer may have to be used again.
	keptBuffer = 64 << 10
)

// bodies hands out buffers.
type bodies struct {
	pool sync.Pool
	// large has an element for each large body.
	large chan struct{}
}

// buffers are a request's body, its answer, and what is added to that.
type buffers struct {
	in, out, extra []byte
	isLarge        bool
}

func (p *bodies) take() *buffers {
	if b, ok := p.pool.Get().(*buffers); ok {
		return b
	}
	return &buffers{in: make([]byte, 0, firstBuffer)}
}

// giveBack keeps buffers for other requests, unless they have grown out of all
// proportion.
func (p *bodies) giveBack(b *buffers) {
	if b.isLarge {
		<-p.large
		b.isLarge = false
	}
	if cap(b.in) <= smallBody && cap(b.out) <= keptBuffer {
		p.pool.Put(b)
	}
}

// read reads the request's body; the status is 0 if that went well.
func (b *buffers) read(r *http.Request, p *bodies) (status int, details string) {
	b.in = b.in[:0]
	if coding := r.Header["Content-Encoding"]; coding != nil && coding[0] != "identity" {
		return http.StatusUnsupportedMediaType, "the body must not be compressed"
	}
	if r.ContentLength > MaxBody {
		return http.StatusRequestEntityTooLarge, tooLarge
	}
	if r.ContentLength > int64(cap(b.in)) && !b.grow(int(r.ContentLength), p) {
		return http.StatusTooManyRequests, "too many large bodies are being read"
	}
	for {
		if len(b.in) == cap(b.in) && !b.grow(2*cap(b.in), p) {
			return http.StatusTooManyRequests, "too many large bodies are being read"
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

var tooLarge = "the body has more than " + strconv.Itoa(MaxBody) + " bytes"

// grow makes room for so many bytes and one more, by which a body that is too
// large is noticed. It is false if there are too many large bodies already.
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
