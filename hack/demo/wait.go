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

// sight is what was seen at one look.
type sight struct {
	// picture is what a person sees of it.
	picture []string
	// done says that what was waited for came true.
	done bool
}

// lookInterval is the time between two looks.
const lookInterval = 150 * time.Millisecond

// await looks until what is waited for comes true, and draws what it sees. It
// returns the time that took.
func (d *demo) await(ctx context.Context, what string, limit time.Duration, look func(context.Context) (sight, error)) (time.Duration, error) {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer d.drop()
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	var last sight
	var lookErr error
	for {
		seen, err := look(limited)
		switch {
		case err == nil && seen.done:
			d.draw(seen.picture, time.Since(begin))
			return time.Since(begin), nil
		case err == nil:
			d.draw(seen.picture, time.Since(begin))
			last, lookErr = seen, nil
		case limited.Err() == nil:
			lookErr = err
		}
		select {
		case <-limited.Done():
			return 0, d.overdue(ctx, what, limit, last, lookErr)
		case <-ticker.C:
		}
	}
}

// steady is how long something has to stay as it is: the cache is probed twice
// meanwhile.
const steady = 5 * time.Second

// stays looks until something has stayed as it should be, and draws what it sees.
func (d *demo) stays(ctx context.Context, what string, look func(context.Context) (sight, error)) error {
	since := time.Now()
	_, err := d.await(ctx, fmt.Sprintf("for %s %s", steady, what), time.Minute, func(ctx context.Context) (sight, error) {
		seen, err := look(ctx)
		if !seen.done {
			since = time.Now()
		}
		seen.done = seen.done && time.Since(since) >= steady
		return seen, err
	})
	return err
}

// overdue says what did not come true, how it was at the end, and what the
// operator has to say.
func (d *demo) overdue(ctx context.Context, what string, limit time.Duration, last sight, lookErr error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("while waiting until %s: %w", what, cause)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "it did not come true within %s that %s.\n\nAt the end it was so:\n  %s\n", limit, what, strings.Join(last.picture, "\n  "))
	if lookErr != nil {
		fmt.Fprintf(&text, "\nThe last look failed: %v\n", lookErr)
	}
	fmt.Fprintf(&text, "\nThe end of the operator's log:\n%s", d.cluster.OperatorLog(ctx, logLines))
	return errors.New(text.String())
}

// logLines is how much of the operator's log an error shows.
const logLines = 20
