// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Timing has durations of ACK and AWS.
type Timing struct {
	// Poll is the interval at which ACK syncs an object that is not synced: 30 s.
	Poll time.Duration
	// Resync is the interval at which ACK syncs one that is: 10 h. Zero is never.
	Resync time.Duration
	// Backoff is the delay before the first retry after an error, 5 ms. It doubles with each
	// further one, up to MaxBackoff, 1,000 s.
	Backoff, MaxBackoff time.Duration
	// Operation is how long AWS needs for an operation.
	Operation time.Duration
}

// Controller is the state of ACK's controllers and of the AWS account that they work in. It is
// plain data.
type Controller struct {
	Account
	Timing Timing
	// RoleMissing reports that the namespace is annotated with an account for which ACK has no
	// role.
	RoleMissing bool
	// Lacks are the fields of specs that an older release does not know, by kind, as paths in
	// JSON.
	Lacks map[string][]string
	// queue has the next sync of each object.
	queue map[types.UID]queued
}

// queued is what ACK remembers about an object.
type queued struct {
	// generation is the last one that triggered a sync; only changes of the spec do.
	generation int64
	// due is the time of the next scheduled sync, zero if there is none. A sync that was
	// scheduled earlier is not postponed.
	due time.Time
	// failures is the number of consecutive failures.
	failures int
}

// schedule schedules a sync.
func (q *queued) schedule(at time.Time) {
	if q.due.IsZero() || at.Before(q.due) {
		q.due = at
	}
}

// Secrets reads the Secrets of the object's namespace. Its errors are ErrSecretNotFound and
// ErrSecretType.
type Secrets interface {
	Secret(*ack.SecretKey) (string, error)
}

// Result is the result of a sync.
type Result struct {
	// Synced reports that the object was due.
	Synced bool
	// Versions are the versions of the object that were written, in order. The last one has a
	// deletion timestamp and no finalizer if the object is deleted.
	Versions []client.Object
	// Calls are the calls to AWS that are not reads.
	Calls []Call
}

// New returns the controllers of an empty account.
func New(timing Timing) Controller {
	return Controller{Timing: timing, Account: newAccount(), queue: map[types.UID]queued{}}
}

// Clone returns an independent copy.
func (c *Controller) Clone() Controller {
	cloned := *c
	cloned.Account, cloned.queue = c.clone(), maps.Clone(c.queue)
	return cloned
}

// Due returns the time of the next scheduled sync of an object, and false if there is none.
func (c *Controller) Due(o client.Object) (time.Time, bool) {
	due := c.queue[o.GetUID()].due
	return due, !due.IsZero()
}

// Sync reconciles an object if its spec has changed or its next sync is due. The object is not
// modified.
func (c *Controller) Sync(o client.Object, secrets Secrets, now time.Time) Result {
	item := c.queue[o.GetUID()]
	due := !item.due.IsZero() && !now.Before(item.due)
	if item.generation == o.GetGeneration() && !due {
		return Result{}
	}
	if due {
		item.due = time.Time{}
	}
	item.generation = o.GetGeneration()
	c.settle(now)
	s := session{Controller: c, secrets: secrets, now: now, stored: copyOf(o)}
	err := s.reconcile(copyOf(o))
	item.requeue(err, c.Timing, now)
	c.queue[o.GetUID()] = item
	if gone(s.stored) {
		delete(c.queue, o.GetUID())
	}
	s.result.Synced = true
	return s.result
}

// requeue schedules the next sync according to the outcome of the current one.
func (q *queued) requeue(err error, t Timing, now time.Time) {
	after, retried := requeueAfter(err, t)
	switch {
	case retried:
		q.schedule(now.Add(min(t.Backoff<<min(q.failures, 30), t.MaxBackoff)))
		q.failures++
		return
	case after > 0:
		q.schedule(now.Add(after))
	}
	q.failures = 0
}

// SyncAt schedules a sync of an object, like a resync.
func (c *Controller) SyncAt(o client.Object, at time.Time) {
	item := c.queue[o.GetUID()]
	item.schedule(at)
	c.queue[o.GetUID()] = item
}

// Fingerprint describes what ACK remembers about an object, with times relative to now.
func (c *Controller) Fingerprint(o client.Object, now time.Time) string {
	item := c.queue[o.GetUID()]
	return fmt.Sprint(item.generation == o.GetGeneration(), until(item.due, now), item.failures)
}

// until returns the time left, negative if there is none.
func until(at, now time.Time) time.Duration {
	if at.IsZero() {
		return -1
	}
	return max(0, at.Sub(now))
}

// gone reports whether the API server deletes an object.
func gone(o client.Object) bool {
	return o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) == 0
}

func copyOf[T client.Object](o T) T { return o.DeepCopyObject().(T) }
