// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fairqueue

import (
	"context"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func numbered(namespace string, i int) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: fmt.Sprint("fc-", i)}}
}

// TestSlowNamespaceLeavesWorkersToOthers: reconciles of one namespace that do not end occupy half of
// the workers.
func TestSlowNamespaceLeavesWorkersToOthers(t *testing.T) {
	const workers = 4
	release, began := make(chan struct{}), make(chan string, 100)
	r := Shared(reconcile.Func(func(_ context.Context, r reconcile.Request) (reconcile.Result, error) {
		began <- r.Namespace
		if r.Namespace == "slow" {
			<-release
		}
		return reconcile.Result{}, nil
	}), workers)
	results := make(chan reconcile.Result, 100)
	for i := range workers {
		go func() {
			result, err := r.Reconcile(t.Context(), numbered("slow", i))
			if err != nil {
				t.Errorf("reconciling: %v", err)
			}
			results <- result
		}()
	}
	for range workers / 2 {
		if result := <-results; result.RequeueAfter == 0 {
			t.Error("a reconcile beyond the share is not delayed")
		}
	}
	for range workers / 2 {
		<-began
	}
	if result, err := r.Reconcile(t.Context(), numbered("other", 0)); err != nil || result.RequeueAfter > 0 || <-began != "other" {
		t.Errorf("another namespace is delayed by %v: %v", result.RequeueAfter, err)
	}
	close(release)
	for range workers / 2 {
		<-results
	}
	if result, err := r.Reconcile(t.Context(), numbered("slow", 9)); err != nil || result.RequeueAfter > 0 {
		t.Errorf("the share is not released: %v, %v", result.RequeueAfter, err)
	}
}
