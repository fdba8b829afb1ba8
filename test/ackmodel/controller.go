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
	// Poll is the interval at which ACK syncs an object that is not synced.
	Poll time.Duration
	// Operation is how long AWS needs for an operation.
	Operation time.Duration
}

// Controller has the state of ACK's controllers and of the AWS account that they work in. It is
// plain data.
type Controller struct {
	Account
	Timing Timing
	// queue has the next sync of each object.
	queue map[types.UID]queued
}

// queued is what ACK remembers about an object.
type queued struct {
	// generation is the last one that triggered a sync; only changes of the spec do.
	generation int64
	// due is the time of the next scheduled sync, zero if there is none.
	due time.Time
}

// Objects reads the objects that a sync depends on.
type Objects interface {
	// Secret returns the value of a key of an Opaque Secret.
	Secret(ack.SecretKey) (string, bool)
	// InUse reports whether AWS refuses to delete a resource because another one depends on it.
	InUse(client.Object) bool
	// Users returns all users.
	Users() []*ack.User
}

// New returns the controllers of an empty account.
func New(timing Timing) Controller {
	return Controller{Timing: timing, Account: Account{Groups: map[string]Group{}}, queue: map[types.UID]queued{}}
}

// Clone returns an independent copy.
func (c *Controller) Clone() Controller {
	cloned := *c
	cloned.Groups, cloned.queue = maps.Clone(c.Groups), maps.Clone(c.queue)
	return cloned
}

// Due returns the time of the next scheduled sync of an object, and false if there is none.
func (c *Controller) Due(o client.Object) (time.Time, bool) {
	due := c.queue[o.GetUID()].due
	return due, !due.IsZero()
}

// Sync reconciles an object in place if its spec has changed or its next sync is due.
func (c *Controller) Sync(o client.Object, others Objects, now time.Time) {
	item := c.queue[o.GetUID()]
	due := !item.due.IsZero() && !now.Before(item.due)
	if item.generation == o.GetGeneration() && !due {
		return
	}
	s := sync{Controller: c, others: others, now: now}
	if group, ok := o.(*ack.ReplicationGroup); ok {
		s.group(group)
	} else {
		s.other(o)
	}
	if len(o.GetFinalizers()) == 0 && o.GetDeletionTimestamp() != nil {
		delete(c.queue, o.GetUID())
		return
	}
	c.queue[o.GetUID()] = queued{generation: o.GetGeneration(), due: s.due}
}

// SyncAfter schedules a sync of an object, like a periodic resync.
func (c *Controller) SyncAfter(o client.Object, at time.Time) {
	c.queue[o.GetUID()] = queued{generation: c.queue[o.GetUID()].generation, due: at}
}

// sync is one reconciliation of an object.
type sync struct {
	*Controller
	others Objects
	now    time.Time
	// due is the time of the next sync.
	due time.Time
}

func (s *sync) pollAgain() { s.due = s.now.Add(s.Timing.Poll) }

// Fingerprint returns the remaining times of an object, of which its future depends.
func (c *Controller) Fingerprint(o client.Object, now time.Time) string {
	item := c.queue[o.GetUID()]
	return fmt.Sprint(item.generation == o.GetGeneration(), until(item.due, now))
}

// until returns the time left, negative if there is none.
func until(at, now time.Time) time.Duration {
	if at.IsZero() {
		return -1
	}
	return max(0, at.Sub(now))
}
