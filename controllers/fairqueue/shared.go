// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fairqueue

import (
	"context"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// retryDelay is the delay of a request whose namespace occupies its share of the workers.
const retryDelay = 100 * time.Millisecond

// Shared returns a reconciler of which one namespace occupies at most half of the
// workers: its reconciles may be slow. Others of it are delayed.
func Shared(r reconcile.Reconciler, workers int) reconcile.Reconciler {
	return &shared{Reconciler: r, limit: max(1, workers/2), running: map[string]int{}}
}

type shared struct {
	reconcile.Reconciler
	limit int

	mu      sync.Mutex
	running map[string]int
}

// Reconcile implements reconcile.Reconciler.
func (s *shared) Reconcile(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
	if !s.begin(r.Namespace) {
		return reconcile.Result{RequeueAfter: retryDelay}, nil
	}
	defer s.end(r.Namespace)
	return s.Reconciler.Reconcile(ctx, r)
}

func (s *shared) begin(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[namespace] == s.limit {
		return false
	}
	s.running[namespace]++
	return true
}

func (s *shared) end(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[namespace]--; s.running[namespace] == 0 {
		delete(s.running, namespace)
	}
}
