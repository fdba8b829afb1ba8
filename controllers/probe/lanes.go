// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"container/heap"
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// patience is how long a probe may take in the new and the fast lane. It is far
// above what a Redis in the same region takes, and short enough that a third of
// the workers gives up on more probes in a second than a thousand caches ask for.
const patience = 250 * time.Millisecond

// maxStretch is how many intervals a cache in the slow lane may add to its own.
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

// lanes are the prober's three, in the order they are served.
type lanes struct{ fast, fresh, slow lane }

func newLanes(workers int) *lanes {
	each := max(1, workers/3)
	return &lanes{
		fast:  lane{name: "fast", hurried: true, workers: each},
		fresh: lane{name: "new", hurried: true, workers: each},
		slow:  lane{name: "slow", workers: max(each, workers-2*each)},
	}
}

func (l *lanes) all() []*lane { return []*lane{&l.fast, &l.fresh, &l.slow} }

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

// nextDue is when a target that was due and got its worker late is due again,
// after a probe that ended now. A fast one keeps its beat; a slow one that had to
// wait gives way to the others by as long as it waited.
func nextDue(interval time.Duration, due time.Time, late time.Duration, now time.Time, slow bool) time.Time {
	if slow {
		return now.Add(interval + min(late, maxStretch*interval))
	}
	missed := now.Sub(due) / interval
	return due.Add((missed + 1) * interval)
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
