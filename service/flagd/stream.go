// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/flagcache/flagcache/service/ofrep"
)

// stream returns the handler of a stream. follow returns what sends its messages.
func stream[Request, Response any, P interface {
	*Response
	sent
}](h *Handler, procedure string, follow func(*connect.Request[Request], func(P) error) (ofrep.Follower, error),
) *connect.Handler {
	return connect.NewServerStreamHandler(procedure, func(ctx context.Context, request *connect.Request[Request], to *connect.ServerStream[Response]) error {
		c := callOf(ctx)
		follower, err := follow(request, func(message P) error {
			return h.sendMessage(ctx, c, message.size(), func() error { return to.Send((*Response)(message)) })
		})
		if err == nil {
			// The server's timeouts would end the stream.
			err = errors.Join(c.control.SetReadDeadline(time.Time{}), c.control.SetWriteDeadline(time.Time{}))
		}
		if err == nil {
			err = h.options.Streams.Follow(ctx, follower, func() (bool, <-chan struct{}) { return h.options.Keys.Valid(c.client) })
		}
		err = streamError(err)
		c.code = codeName(err)
		return err
	}, h.connectOptions...)
}

// sendMessage sends a message, which the client must accept within a time. Its bytes are
// reserved meanwhile.
func (h *Handler) sendMessage(ctx context.Context, c *call, size int64, send func() error) error {
	if err := h.messages.wait(ctx, size); err != nil {
		return err
	}
	defer h.messages.release(size)
	if err := c.control.SetWriteDeadline(time.Now().Add(h.options.Streams.WriteTimeout(size))); err != nil {
		return err
	}
	if err := send(); err != nil {
		return err
	}
	// A deadline that passes ends a stream of HTTP/2, even if nothing is being written.
	return c.control.SetWriteDeadline(time.Time{})
}

// streamError returns the error for the end of a stream. There always is one: some
// providers do not notice another end.
func streamError(err error) error {
	switch {
	case errors.Is(err, ofrep.ErrStopping):
		return connect.NewError(connect.CodeUnavailable, err)
	case errors.Is(err, ofrep.ErrRevoked):
		return connect.NewError(connect.CodeUnauthenticated, err)
	default:
		return err
	}
}
