// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// readiness measures how long FlagCaches take from a change to Ready.
type readiness struct {
	mu      sync.Mutex
	known   map[types.NamespacedName]*v1alpha1.FlagCache
	pending map[types.NamespacedName]change
	samples []sample
}

// change is one that a FlagCache has not completed yet.
type change struct {
	kind  string
	begun time.Time
	// generation that it leads to, 0 for the deletion.
	generation int64
}

// sample is a completed change.
type sample struct {
	change
	done time.Time
}

func (s sample) took() time.Duration { return s.done.Sub(s.begun) }

// watchReadiness watches all FlagCaches until the test ends, across restarts of the API server.
func (r *rig) watchReadiness() *readiness {
	r.t.Helper()
	w := &readiness{known: map[types.NamespacedName]*v1alpha1.FlagCache{}, pending: map[types.NamespacedName]change{}}
	informers, err := cache.New(r.Config, cache.Options{Scheme: r.Client.Scheme()})
	if err != nil {
		r.t.Fatal(err)
	}
	informer, err := informers.GetInformer(r.t.Context(), &v1alpha1.FlagCache{}, cache.BlockUntilSynced(false))
	if err == nil {
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { w.seen(o.(*v1alpha1.FlagCache)) },
			UpdateFunc: func(_, o any) { w.seen(o.(*v1alpha1.FlagCache)) },
			DeleteFunc: w.deleted,
		})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- informers.Start(r.t.Context()) }()
	r.t.Cleanup(func() {
		if err := <-ended; err != nil { // the context of the test has ended
			r.t.Error(err)
		}
	})
	if !informers.WaitForCacheSync(r.t.Context()) {
		r.t.Fatal("FlagCaches cannot be watched")
	}
	return w
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (w *readiness) seen(fc *v1alpha1.FlagCache) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := keyOf(fc)
	w.known[key] = fc
	if c, ok := w.pending[key]; ok && c.generation > 0 && fc.Generation >= c.generation && settled(fc) {
		w.complete(key, c)
	}
}

func (w *readiness) deleted(o any) {
	if tombstone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = tombstone.Obj
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := keyOf(o.(*v1alpha1.FlagCache))
	delete(w.known, key)
	if c, ok := w.pending[key]; ok && c.generation == 0 {
		w.complete(key, c)
	}
}

func (w *readiness) complete(key types.NamespacedName, c change) {
	w.samples = append(w.samples, sample{change: c, done: time.Now()})
	delete(w.pending, key)
}

// begin begins to measure a change. It must be called before the change is made.
func (w *readiness) begin(key types.NamespacedName, kind string, generation int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[key] = change{kind: kind, begun: time.Now(), generation: generation}
}

// idle returns the FlagCaches of some namespaces without a pending change, sorted.
func (w *readiness) idle(namespaces ...string) []*v1alpha1.FlagCache {
	w.mu.Lock()
	defer w.mu.Unlock()
	var idle []*v1alpha1.FlagCache
	for key, fc := range w.known {
		if _, busy := w.pending[key]; !busy && slices.Contains(namespaces, key.Namespace) && fc.DeletionTimestamp == nil {
			idle = append(idle, fc.DeepCopy())
		}
	}
	slices.SortFunc(idle, func(a, b *v1alpha1.FlagCache) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
	return idle
}

// unsettled describes the FlagCaches of some namespaces that are not settled, or have a pending
// change.
func (w *readiness) unsettled(namespaces ...string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := map[types.NamespacedName]string{}
	for key, c := range w.pending {
		if slices.Contains(namespaces, key.Namespace) {
			found[key] = fmt.Sprintf("%s: %s since %s", key, c.kind, time.Since(c.begun).Round(time.Second))
		}
	}
	for key, fc := range w.known {
		if !slices.Contains(namespaces, key.Namespace) || settled(fc) {
			continue
		}
		message := "no condition Ready"
		if c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			message = fmt.Sprintf("%s is %s of generation %d, %s: %s", c.Type, c.Status, c.ObservedGeneration, c.Reason, c.Message)
		}
		found[key] += fmt.Sprintf(" %s at generation %d: %s", key, fc.Generation, message)
	}
	return slices.Sorted(maps.Values(found))
}

// count returns how many FlagCaches namespaces have.
func (w *readiness) count(namespaces ...string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for key := range w.known {
		if slices.Contains(namespaces, key.Namespace) {
			n++
		}
	}
	return n
}

// take returns the completed changes and forgets them.
func (w *readiness) take() []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.samples
	w.samples = nil
	return taken
}

// settled reports whether a FlagCache is Ready with its current spec and no canary is under way,
// or the current spec was rejected by its canary.
func settled(fc *v1alpha1.FlagCache) bool {
	ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady)
	revisions := fc.Status.Revisions
	return ready != nil && ready.ObservedGeneration == fc.Generation && revisions != nil && revisions.Candidate == "" &&
		(ready.Status == metav1.ConditionTrue || revisions.Rejected != "")
}
