// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fairqueue

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

func newQueue(t *testing.T) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	t.Helper()
	q := New("", workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Millisecond, time.Second))
	t.Cleanup(q.ShutDown)
	return q
}

func request(namespace string, n int) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(n)}}
}

// next gets a request and completes it.
func next(q workqueue.TypedRateLimitingInterface[reconcile.Request]) reconcile.Request {
	r, _ := q.Get()
	q.Done(r)
	return r
}

func TestManyRequestsOfOneNamespaceDelayAnotherByOne(t *testing.T) {
	q := newQueue(t)
	for n := range 10_000 {
		q.Add(request("hostile", n))
	}
	q.Add(request("shop", 0))
	q.Add(request("shop", 1))
	q.Add(request("web", 0))
	want := []reconcile.Request{request("hostile", 0), request("shop", 0), request("web", 0), request("hostile", 1), request("shop", 1), request("hostile", 2)}
	for i, w := range want {
		if got := next(q); got != w {
			t.Errorf("request %d is %s, want %s", i, got, w)
		}
	}
	if got, want := q.Len(), 10_000-3; got != want {
		t.Errorf("%d requests are left, want %d", got, want)
	}
}

// FlagCaches that change faster than they are reconciled must not delay for ever what existed when
// the operator started, as a FlagCache that was broken meanwhile.
func TestExistingFlagCachesAreReconciledWhileOthersChange(t *testing.T) {
	q := newQueue(t)
	existing := &v1alpha1.FlagCache{}
	existing.Namespace, existing.Name = "shop", "0"
	changing := request("shop", 1)
	q.Add(changing)
	(&handler.EnqueueRequestForObject{}).Create(t.Context(), event.CreateEvent{Object: existing, IsInInitialList: true}, q)
	for range 10 {
		q.Add(request("shop", 2))
		q.Add(changing)
		if next(q) == request("shop", 0) {
			return
		}
	}
	t.Error("it waits for requests that were added later")
}

func TestQueueForgetsNamespacesWithoutRequests(t *testing.T) {
	turns := &turns{waiting: map[string]workqueue.Queue[reconcile.Request]{}}
	for n := range 100 {
		turns.Push(request(fmt.Sprint("namespace-", n), n))
	}
	for range 100 {
		turns.Pop()
	}
	if turns.Len() != 0 || len(turns.waiting) != 0 || len(turns.order) != 0 {
		t.Errorf("the empty queue has %d requests, and %d and %d namespaces", turns.Len(), len(turns.waiting), len(turns.order))
	}
}
