// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"container/heap"
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// patience is how long a probe may take in a hurried lane. It is far above what a
// Redis in the same region takes, and short enough that a quarter of the workers
// gives up on more probes in a second than a thousand caches ask for.
const patience = 250 * time.Millisecond

// maxStretch is how many intervals a failing cache may add to its own.
const maxStretch = 2

// lane is a queue of entries by the time they are due, and the workers they share.
type lane struct {
	// name is the lane's in metrics.
	name string
	// hurried lanes give a probe no more time than patience.
	hurried bool
	workers int
	running int
	queue   queue
}

// lanes are the prober's four, see package comment.
type lanes struct{ fast, late, fresh, failing lane }

// newLanes shares out the workers. Failing caches get most: it is they who hold one
// for long.
func newLanes(workers int) *lanes {
	quarter, sixth := max(1, workers/4), max(1, workers/6)
	return &lanes{
		fast:    lane{name: "fast", hurried: true, workers: quarter},
		fresh:   lane{name: "new", hurried: true, workers: quarter},
		late:    lane{name: "late", workers: sixth},
		failing: lane{name: "failing", workers: max(1, workers-2*quarter-sixth)},
	}
}

// all are the lanes in the order they are served.
func (ls *lanes) all() []*lane { return []*lane{&ls.fast, &ls.late, &ls.fresh, &ls.failing} }

// after is the lane of a cache with the given outcome after an attempt, which may
// have been aborted for lack of patience. One that counts as healthy in spite of a
// failure does not wait among the failing ones until it is known to be one of them,
// unless many fall silent at once.
func (ls *lanes) after(outcome Outcome, a Attempt, aborted bool) *lane {
	switch failed := aborted || a.Err != nil; {
	case failed && (outcome != Healthy || !ls.late.hasRoom()):
		return &ls.failing
	case failed, a.Latency > patience:
		return &ls.late
	}
	return &ls.fast
}

// hasRoom reports whether one more entry in l would find a worker whenever it is due.
func (l *lane) hasRoom() bool { return l.running+len(l.queue) < l.workers }

// entry is one watched cache. It is in its lane's queue, or being probed.
type entry struct {
	key    types.NamespacedName
	target Target
	state  state
	// probed says that an attempt has ended with a verdict on the attempt.
	probed bool

	lane *lane
	due  time.Time
	// index in the lane's queue, or notQueued.
	index int
	// cancel ends the probe in flight.
	cancel context.CancelFunc
}

const notQueued = -1

func (e *entry) thresholds() thresholds {
	return thresholds{failure: e.target.FailureThreshold, success: e.target.SuccessThreshold}
}

// keepBeat is when a target is due again that was due and whose probe ended now: an
// interval later, whatever the probe took. Beats that passed meanwhile are left out.
func keepBeat(interval time.Duration, due, now time.Time) time.Time {
	missed := now.Sub(due) / interval
	return due.Add((missed + 1) * interval).Truncate(interval / beats)
}

// giveWay is when a failing target is due again that had to wait for a worker and
// whose probe ended now: it adds what it waited to its interval.
func giveWay(interval, waited time.Duration, now time.Time) time.Time {
	return now.Add(interval + min(waited, maxStretch*interval))
}

// beats is how many beats an interval has.
const beats = 100

// firstBeat is a random beat of the interval after now, as spread in [0, 1) says:
// who started together does not go on together. There are a hundred of them, and
// not one for each target, because to wake up once for ten probes takes a third of
// the CPU time of waking up ten times.
func firstBeat(interval time.Duration, spread float64, now time.Time) time.Time {
	at := now.Add(time.Duration(spread * float64(interval)))
	return at.Truncate(interval / beats).Add(interval / beats)
}

// push queues e in l.
func (l *lane) push(e *entry) {
	e.lane = l
	heap.Push(&l.queue, e)
}

// remove takes e out of its queue, if it is in there.
func (l *lane) remove(e *entry) {
	if e.index != notQueued {
		heap.Remove(&l.queue, e.index)
	}
}

// pop takes the entry that is due for the longest and gives it a worker. It is nil
// when none is due or no worker is free.
func (l *lane) pop(now time.Time) *entry {
	if l.running >= l.workers || len(l.queue) == 0 || l.queue[0].due.After(now) {
		return nil
	}
	l.running++
	return heap.Pop(&l.queue).(*entry)
}

// wakeAt is when the next entry is due, if there is a worker to serve it.
func (l *lane) wakeAt() (time.Time, bool) {
	if l.running >= l.workers || len(l.queue) == 0 {
		return time.Time{}, false
	}
	return l.queue[0].due, true
}

// queue is a heap.Interface of entries by the time they are due.
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
