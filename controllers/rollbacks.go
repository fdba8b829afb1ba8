// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan"
)

// Rollbacks counts the rollbacks that this process reported, by FlagCache and
// reason. The zero value has none.
//
// Reporting one is writing a status whose history has it, over a status that did
// not. The API server takes that write once, from whichever operator is the leader,
// so a restart or another leader finds the rollback written and does not count it.
// A write whose answer got lost counts when the status is read with it.
type Rollbacks struct {
	mu     sync.Mutex
	counts map[types.NamespacedName]rollbackCount
}

// rollbackCount is that of one FlagCache.
type rollbackCount struct {
	// uid tells it from a predecessor of the same name.
	uid types.UID
	// writing are the rollbacks of a status that is being written, with reasons.
	writing map[rollback]string
	// counted are those that count already.
	counted map[rollback]bool
	// byReason is how many there were.
	byReason map[string]float64
}

// rollback is one trial that failed. It is known by its beginning: its end is
// decided anew where it could not be recorded.
type rollback struct {
	revision  string
	startedAt int64
}

// begin is told of a status that is about to be written. One that is written where
// there was none makes up for a lost one, whose rollbacks are old.
func (r *Rollbacks) begin(fc *v1alpha1.FlagCache, status v1alpha1.FlagCacheStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.of(fc).writing)
	if fc.Status.ObservedGeneration == 0 {
		return
	}
	before := rollbacksOf(fc.Status)
	for rollback, reason := range rollbacksOf(status) {
		if _, old := before[rollback]; !old && !r.of(fc).counted[rollback] {
			r.keep(fc).writing[rollback] = reason
		}
	}
}

// end is told what became of writing the status.
func (r *Rollbacks) end(fc *v1alpha1.FlagCache, err error) {
	switch {
	case err == nil:
		r.saw(fc)
	case apierrors.IsConflict(err):
		r.mu.Lock()
		defer r.mu.Unlock()
		clear(r.of(fc).writing)
	}
}

// saw counts what was being written and is in a status now.
func (r *Rollbacks) saw(fc *v1alpha1.FlagCache) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of(fc)
	if len(c.writing) == 0 {
		return
	}
	for rollback := range rollbacksOf(fc.Status) {
		if reason, ok := c.writing[rollback]; ok {
			c.byReason[reason]++
			c.counted[rollback] = true
			delete(c.writing, rollback)
		}
	}
}

// forget a FlagCache that is gone.
func (r *Rollbacks) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.counts, key)
}

// byReason is how many there were of a FlagCache, with each reason that there is:
// who watches a counter grow has to see it at zero first.
func (r *Rollbacks) byReason(fc *v1alpha1.FlagCache) map[string]float64 {
	all := map[string]float64{}
	for _, reason := range rollbackReasons {
		all[reason] = 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(all, r.of(fc).byReason)
	return all
}

// of is the count of a FlagCache, one without rollbacks if none is kept.
func (r *Rollbacks) of(fc *v1alpha1.FlagCache) rollbackCount {
	if c, ok := r.counts[client.ObjectKeyFromObject(fc)]; ok && c.uid == fc.UID {
		return c
	}
	return rollbackCount{uid: fc.UID}
}

// keep is the count of a FlagCache, which is kept from now on.
func (r *Rollbacks) keep(fc *v1alpha1.FlagCache) rollbackCount {
	c := r.of(fc)
	if c.writing == nil {
		c.writing, c.counted, c.byReason = map[rollback]string{}, map[rollback]bool{}, map[string]float64{}
	}
	if r.counts == nil {
		r.counts = map[types.NamespacedName]rollbackCount{}
	}
	r.counts[client.ObjectKeyFromObject(fc)] = c
	return c
}

// rollbacksOf are those in a status' history, with their reasons.
func rollbacksOf(status v1alpha1.FlagCacheStatus) map[rollback]string {
	found := map[rollback]string{}
	for _, entry := range status.History {
		if entry.Outcome != string(plan.RolledBack) || entry.StartedAt == nil {
			continue
		}
		reason := entry.Reason
		if !slices.Contains(rollbackReasons, reason) {
			reason = otherReason
		}
		found[rollback{revision: entry.Revision, startedAt: entry.StartedAt.Unix()}] = reason
	}
	return found
}

// otherReason stands for reasons that are none of ours, so that the series of the
// metric stay few whatever is written into a record.
const otherReason = "Other"

// rollbackReasons are all that the metric may have.
var rollbackReasons = slices.Concat(plan.RollbackReasons(), slices.Sorted(maps.Keys(hopeless)), []string{otherReason})
