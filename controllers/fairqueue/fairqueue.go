// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fairqueue is a work queue that namespaces share: requests of each namespace are served
// in order, and the namespaces in turn. However many requests one namespace has, a request of
// another waits for one of each other namespace at most.
package fairqueue

import (
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// New returns a queue for a controller. It has no priorities: the default queue of
// controller-runtime serves what was there when the operator started only while nothing else is
// waiting, so that FlagCaches that change all the time delay all others for ever.
func New(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	return workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[reconcile.Request]{
		Name: name,
		DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[reconcile.Request]{
			Name: name,
			Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[reconcile.Request]{
				Name: name, Queue: &turns{waiting: map[string]workqueue.Queue[reconcile.Request]{}},
			}),
		}),
	})
}

// turns has the requests that wait. The work queue adds a request only once.
type turns struct {
	// waiting has the requests of each namespace that has some.
	waiting map[string]workqueue.Queue[reconcile.Request]
	// order has these namespaces, the next one first.
	order []string
	len   int
}

// Touch is called when a waiting request is added again, which changes nothing.
func (t *turns) Touch(reconcile.Request) {}

// Push adds a request.
func (t *turns) Push(r reconcile.Request) {
	own := t.waiting[r.Namespace]
	if own == nil {
		own = workqueue.DefaultQueue[reconcile.Request]()
		t.waiting[r.Namespace] = own
		t.order = append(t.order, r.Namespace)
	}
	own.Push(r)
	t.len++
}

// Len is the number of requests.
func (t *turns) Len() int { return t.len }

// Pop removes the next request of the next namespace.
func (t *turns) Pop() reconcile.Request {
	namespace := t.order[0]
	t.order = t.order[1:]
	own := t.waiting[namespace]
	r := own.Pop()
	t.len--
	if own.Len() > 0 {
		t.order = append(t.order, namespace)
	} else {
		delete(t.waiting, namespace)
	}
	return r
}
