// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// progress prints what is being waited for, in lines of key=value.
type progress struct {
	log *slog.Logger
}

func newProgress(to io.Writer) progress {
	handler := slog.NewTextHandler(to, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		},
	})
	return progress{log: slog.New(handler)}
}

// begin starts a step; the returned function reports that the step is done.
func (p progress) begin(step string) (done func()) {
	start := time.Now()
	return func() {
		p.log.Info("ready", "part", step, "after", fmt.Sprintf("%.1fs", time.Since(start).Seconds()))
	}
}

// final wraps an error after which polling is pointless.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// poll calls check until it returns nil or a final error, or the timeout expires; it
// then returns the last error.
func poll(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check(ctx)
		var end final
		if err == nil {
			return nil
		}
		if errors.As(err, &end) {
			return end.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
