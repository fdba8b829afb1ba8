// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Traffic evaluates one flag repeatedly, as an application does, and counts the results.
type Traffic struct {
	endpoint Endpoint
	flag     string
	context  Context
	cancel   context.CancelFunc
	done     sync.WaitGroup

	mu    sync.Mutex
	tally Tally
}

// Tally summarizes the evaluations so far.
type Tally struct {
	Succeeded, Failed int
	// Failure is the error of the first failed evaluation with its time, or nil.
	Failure error
	// Revisions counts successful evaluations by revision.
	Revisions map[string]int
}

// String formats the tally for people.
func (t Tally) String() string {
	text := fmt.Sprintf("%d evaluations, %d failed", t.Succeeded+t.Failed, t.Failed)
	if t.Failure != nil {
		text += fmt.Sprintf(" (first: %v)", t.Failure)
	}
	return text
}

// StartTraffic evaluates a flag at an interval until Stop. An evaluation that takes
// longer delays the next.
func StartTraffic(endpoint Endpoint, flag string, user Context, interval time.Duration) *Traffic {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Traffic{endpoint: endpoint, flag: flag, context: user, cancel: cancel, tally: Tally{Revisions: map[string]int{}}}
	t.done.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for ctx.Err() == nil {
			t.evaluate(ctx)
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
	return t
}

func (t *Traffic) evaluate(ctx context.Context) {
	at := time.Now()
	evaluation, err := t.endpoint.Evaluate(ctx, t.flag, t.context)
	if ctx.Err() != nil {
		return // cancelled by Stop
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.tally.Succeeded++
		t.tally.Revisions[evaluation.Revision]++
		return
	}
	t.tally.Failed++
	if t.tally.Failure == nil {
		t.tally.Failure = fmt.Errorf("at %s: %w", at.Format(time.TimeOnly+".000"), err)
	}
}

// Tally returns the tally of the evaluations so far.
func (t *Traffic) Tally() Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	tally := t.tally
	tally.Revisions = map[string]int{}
	for revision, n := range t.tally.Revisions {
		tally.Revisions[revision] = n
	}
	return tally
}

// Stop ends the evaluations and returns their tally.
func (t *Traffic) Stop() Tally {
	t.cancel()
	t.done.Wait()
	return t.Tally()
}
