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

// Run tests the flag service. It returns an error if the test could not start;
// errors of requests are in the report. If ctx ends early, the report is marked
// as interrupted.
func Run(ctx context.Context, o Options) (Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Report{}, err
	}
	t := newTarget(o)
	first := t.newConnection()
	defer first.CloseIdleConnections()
	if err := t.discover(ctx, first); err != nil {
		return Report{}, err
	}
	r := &run{target: t, start: time.Now(), tally: newTally()}
	stopProgress := r.startProgress()
	r.work(ctx)
	stopProgress()
	return r.report(ctx.Err() != nil), nil
}

// run is a running test.
type run struct {
	*target
	start   time.Time
	tickets atomic.Int64
	tally   *tally
}

// work runs the workers, each with a connection, until the end of the test.
func (r *run) work(ctx context.Context) {
	var workers sync.WaitGroup
	for n := range r.Connections {
		random := rand.New(rand.NewPCG(r.Seed, uint64(n)))
		workers.Go(func() { r.worker(ctx, random) })
	}
	workers.Wait()
}

func (r *run) worker(ctx context.Context, random *rand.Rand) {
	connection := r.newConnection()
	defer connection.CloseIdleConnections()
	for {
		due, ok := r.next(ctx)
		if !ok {
			return
		}
		kind, q := r.choose(random)
		if late := time.Since(due); r.Rate > 0 && late > r.Timeout {
			// Its client would have timed out before it was sent.
			r.tally.add(result{kind: kind, failure: kindUnsent, took: late})
			continue
		}
		o := r.send(ctx, connection, kind, q, due)
		if ctx.Err() != nil && o.failure != "" {
			// The request failed because the test was interrupted.
			return
		}
		r.tally.add(o)
	}
}

// send sends a request that is due and judges the answer.
func (r *run) send(ctx context.Context, connection *http.Client, kind int, q Question, due time.Time) result {
	tag := ""
	if q.Flag == "" {
		if known := r.tags[q.User].Load(); known != nil {
			tag = *known
		}
	}
	a := r.evaluate(ctx, connection, q, tag)
	o := result{kind: kind, took: time.Since(due), revision: a.revision, failure: r.judge(q, tag, a)}
	o.notModified = o.failure == "" && a.status == http.StatusNotModified
	if o.failure == "" && a.tag != "" {
		r.tags[q.User].Store(&a.tag)
	}
	return o
}

// next waits until the next request is due and returns that time. It returns
// false at the end of the test.
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

// dueAfter returns the time after the start at which the nth request is due,
// counted from 0.
func dueAfter(n int64, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// choose selects a request. Kinds without flags are left out.
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

// pick selects a kind by weight, or bulk if all weights are 0.
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

// startProgress calls Options.Progress periodically, and a last time when it is
// stopped.
func (r *run) startProgress() (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	report := func() {
		requests, errors := r.tally.totals()
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
				report()
				return
			case <-ticker.C:
				report()
			}
		}
	})
	return func() { close(ended); telling.Wait() }
}
