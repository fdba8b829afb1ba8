// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// observation is the outcome of one check while waiting.
type observation struct {
	// lines describe it for the output.
	lines []string
	// done is set when the wait is over.
	done bool
}

// pollInterval is the time between two checks.
const pollInterval = 150 * time.Millisecond

// await polls observe until it is done, shows what it observes, and returns the time
// that took.
func (d *demo) await(ctx context.Context, what string, limit time.Duration, observe func(context.Context) (observation, error)) (time.Duration, error) {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer d.endUpdates()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last observation
	var lastErr error
	for {
		seen, err := observe(limited)
		switch {
		case err == nil && seen.done:
			d.update(seen.lines, time.Since(begin))
			return time.Since(begin), nil
		case err == nil:
			d.update(seen.lines, time.Since(begin))
			last, lastErr = seen, nil
		case limited.Err() == nil:
			lastErr = err
		}
		select {
		case <-limited.Done():
			return 0, d.timeoutError(ctx, what, limit, last, lastErr)
		case <-ticker.C:
		}
	}
}

// stablePeriod is how long awaitStable requires a state to last: enough for two probes of
// the cache.
const stablePeriod = 5 * time.Second

// awaitStable waits until observe has been done for stablePeriod without interruption.
func (d *demo) awaitStable(ctx context.Context, what string, observe func(context.Context) (observation, error)) error {
	since := time.Now()
	_, err := d.await(ctx, fmt.Sprintf("for %s %s", stablePeriod, what), time.Minute, func(ctx context.Context) (observation, error) {
		seen, err := observe(ctx)
		if !seen.done {
			since = time.Now()
		}
		seen.done = seen.done && time.Since(since) >= stablePeriod
		return seen, err
	})
	return err
}

// timeoutError reports what was waited for, the last observation and the end of the
// operator's log.
func (d *demo) timeoutError(ctx context.Context, what string, limit time.Duration, last observation, lastErr error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("waiting until %s: %w", what, cause)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "timed out after %s waiting until %s.\n\nThe last state was:\n  %s\n", limit, what, strings.Join(last.lines, "\n  "))
	if lastErr != nil {
		fmt.Fprintf(&text, "\nThe last check failed: %v\n", lastErr)
	}
	fmt.Fprintf(&text, "\nThe end of the operator's log:\n%s", d.cluster.OperatorLog(ctx, logLines))
	return errors.New(text.String())
}

// logLines is the number of lines of the operator's log in an error.
const logLines = 20
