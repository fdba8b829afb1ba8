// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// progressInterval is the time between two calls of Options.Progress.
const progressInterval = 200 * time.Millisecond

// Run tests the flag service. The error says why there was no test; errors of
// requests are in the report. A test that ctx ends early is reported so far, as
// interrupted.
func Run(ctx context.Context, o Options) (Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Report{}, err
	}
	t := newTarget(o)
	defer t.client.CloseIdleConnections()
	if err := t.discover(ctx); err != nil {
		return Report{}, err
	}
	r := &run{target: t, start: time.Now(), tally: newTally()}
	stopProgress := r.tellProgress()
	r.work(ctx)
	stopProgress()
	return r.report(ctx.Err() != nil), nil
}

// run is a test under way.
type run struct {
	*target
	start   time.Time
	tickets atomic.Int64
	tally   *tally
}

// work has the workers ask until the end.
func (r *run) work(ctx context.Context) {
	var workers sync.WaitGroup
	for n := range r.Connections {
		random := rand.New(rand.NewPCG(r.Seed, uint64(n)))
		workers.Go(func() { r.worker(ctx, random) })
	}
	workers.Wait()
}

func (r *run) worker(ctx context.Context, random *rand.Rand) {
	for {
		due, ok := r.next(ctx)
		if !ok {
			return
		}
		kind, q := r.choose(random)
		if late := time.Since(due); r.Rate > 0 && late > r.Timeout {
			// Its client would have given up before it was sent.
			r.tally.add(outcome{kind: kind, trouble: kindUnsent, took: late})
			continue
		}
		o := r.try(ctx, kind, q, due)
		if ctx.Err() != nil && o.trouble != "" {
			// It was this test's end that ended the request.
			return
		}
		r.tally.add(o)
	}
}

// try sends a request that is due, and judges the answer.
func (r *run) try(ctx context.Context, kind int, q Question, due time.Time) outcome {
	tag := ""
	if q.Flag == "" {
		if known := r.tags[q.User].Load(); known != nil {
			tag = *known
		}
	}
	a := r.ask(ctx, q, tag)
	o := outcome{kind: kind, took: time.Since(due), revision: a.revision, trouble: r.judge(q, tag, a)}
	o.notModified = o.trouble == "" && a.status == http.StatusNotModified
	if o.trouble == "" && a.tag != "" {
		r.tags[q.User].Store(&a.tag)
	}
	return o
}

// next returns when the next request is due, having waited for it, and false
// when the test has ended.
func (r *run) next(ctx context.Context) (due time.Time, ok bool) {
	if r.Rate == 0 {
		due = time.Now()
		return due, ctx.Err() == nil && due.Sub(r.start) < r.Duration
	}
	after := dueAfter(r.tickets.Add(1)-1, r.Rate)
	if after >= r.Duration {
		return due, false
	}
	due = r.start.Add(after)
	wait := time.NewTimer(time.Until(due))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return due, false
	case <-wait.C:
		return due, true
	}
}

// dueAfter is how long after the start the nth request is due, from 0.
func dueAfter(n int64, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// choose picks a request. A kind for which there is no flag leaves its share to
// the others.
func (r *run) choose(random *rand.Rand) (kind int, q Question) {
	q.User = random.IntN(len(r.bodies))
	weights := [kinds]int{kindStatic: r.Mix.Static, kindTargeted: r.Mix.Targeted, kindBulk: r.Mix.Bulk}
	if len(r.static) == 0 {
		weights[kindStatic] = 0
	}
	if len(r.targeted) == 0 {
		weights[kindTargeted] = 0
	}
	switch kind = pick(random, weights); kind {
	case kindStatic:
		q.Flag = r.static[random.IntN(len(r.static))]
	case kindTargeted:
		q.Flag = r.targeted[random.IntN(len(r.targeted))]
	}
	return kind, q
}

// pick chooses by weight; bulk, if there is no weight at all.
func pick(random *rand.Rand, weights [kinds]int) int {
	total := 0
	for _, weight := range weights {
		total += weight
	}
	if total == 0 {
		return kindBulk
	}
	at := random.IntN(total)
	for kind, weight := range weights {
		if at < weight {
			return kind
		}
		at -= weight
	}
	return kindBulk
}

// tellProgress calls Options.Progress until it is stopped, the last time then.
func (r *run) tellProgress() (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	tell := func() {
		requests, errors := r.tally.soFar()
		r.Progress(Progress{Elapsed: min(time.Since(r.start), r.Duration), Duration: r.Duration, Requests: requests, Errors: errors})
	}
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				tell()
				return
			case <-ticker.C:
				tell()
			}
		}
	})
	return func() { close(ended); telling.Wait() }
}
