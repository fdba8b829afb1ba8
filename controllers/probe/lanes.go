// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"container/heap"
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// hurriedTimeout is the timeout of a probe in a hurried lane. It is far above the
// latency of a Redis in the same region, and short enough that a quarter of the workers
// can time out more probes per second than a thousand caches need.
const hurriedTimeout = 250 * time.Millisecond

// maxAddedIntervals is how many intervals a failing cache may add to its own.
const maxAddedIntervals = 2

// lane is a queue of entries by due time, and the workers that they share.
type lane struct {
	// name of the lane in metrics.
	name string
	// hurried lanes limit probes to hurriedTimeout.
	hurried bool
	workers int
	running int
	queue   queue
}

// lanes are the four lanes of the prober, see the package comment.
type lanes struct{ fast, late, fresh, failing lane }

// newLanes divides the workers among the lanes. Failing caches get most, because their
// probes take longest.
func newLanes(workers int) *lanes {
	quarter, sixth := max(1, workers/4), max(1, workers/6)
	return &lanes{
		fast:    lane{name: "fast", hurried: true, workers: quarter},
		fresh:   lane{name: "new", hurried: true, workers: quarter},
		late:    lane{name: "late", workers: sixth},
		failing: lane{name: "failing", workers: max(1, workers-2*quarter-sixth)},
	}
}

// all returns the lanes in the order in which they are served.
func (ls *lanes) all() []*lane { return []*lane{&ls.fast, &ls.late, &ls.fresh, &ls.failing} }

// after returns the lane of a cache with the given outcome after an attempt, which may
// have been aborted by hurriedTimeout. A failed probe of a cache that is still healthy
// is repeated in the late lane, without waiting behind failing caches, unless many fail
// at once.
func (ls *lanes) after(outcome Outcome, a Attempt, aborted bool) *lane {
	switch failed := aborted || a.Err != nil; {
	case failed && (outcome != Healthy || !ls.late.hasRoom()):
		return &ls.failing
	case failed, a.Latency > hurriedTimeout:
		return &ls.late
	}
	return &ls.fast
}

// hasRoom reports whether a worker is available for one more entry at any time.
func (l *lane) hasRoom() bool { return l.running+len(l.queue) < l.workers }

// entry is one watched cache. It is either queued in its lane or being probed.
type entry struct {
	key    types.NamespacedName
	target Target
	state  state
	// probed is set after the first recorded attempt.
	probed bool

	lane *lane
	due  time.Time
	// index in the lane's queue, or notQueued.
	index int
	// cancel cancels the running probe.
	cancel context.CancelFunc
}

const notQueued = -1

func (e *entry) thresholds() thresholds {
	return thresholds{failure: e.target.FailureThreshold, success: e.target.SuccessThreshold}
}

// nextTick returns when a target is next due: one interval after it was due, whatever
// the duration of the probe. Ticks that were missed meanwhile are skipped.
func nextTick(interval time.Duration, due, now time.Time) time.Time {
	missed := now.Sub(due) / interval
	return due.Add((missed + 1) * interval).Truncate(interval / ticksPerInterval)
}

// delayedBy returns when a failing target is next due: it adds the time that it waited
// for a worker to its interval.
func delayedBy(interval, waited time.Duration, now time.Time) time.Time {
	return now.Add(interval + min(waited, maxAddedIntervals*interval))
}

// ticksPerInterval is the number of ticks in an interval.
const ticksPerInterval = 100

// firstTick returns a random tick within an interval after now, for a spread in [0, 1),
// so that targets that start together are spread over the interval. There are a hundred
// ticks instead of one for each target, because waking up once for ten probes takes a
// third of the CPU time of waking up ten times.
func firstTick(interval time.Duration, spread float64, now time.Time) time.Time {
	at := now.Add(time.Duration(spread * float64(interval)))
	return at.Truncate(interval / ticksPerInterval).Add(interval / ticksPerInterval)
}

// push adds e to the queue.
func (l *lane) push(e *entry) {
	e.lane = l
	heap.Push(&l.queue, e)
}

// remove removes e from the queue if it is queued.
func (l *lane) remove(e *entry) {
	if e.index != notQueued {
		heap.Remove(&l.queue, e.index)
	}
}

// pop removes the entry that has been due longest and occupies a worker; nil if no
// entry is due or no worker is free.
func (l *lane) pop(now time.Time) *entry {
	if l.running >= l.workers || len(l.queue) == 0 || l.queue[0].due.After(now) {
		return nil
	}
	l.running++
	return heap.Pop(&l.queue).(*entry)
}

// wakeAt returns when the next entry is due; false if no worker is free.
func (l *lane) wakeAt() (time.Time, bool) {
	if l.running >= l.workers || len(l.queue) == 0 {
		return time.Time{}, false
	}
	return l.queue[0].due, true
}

// queue is a heap.Interface of entries by due time.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.index = notQueued
	return e
}
