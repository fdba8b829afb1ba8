// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Rollbacks counts the rollbacks that this process reported, by FlagCache and
// reason. The zero value is ready to use.
//
// A rollback is reported by writing a status whose history contains it over a
// status whose history does not. The API server accepts that write once, from
// whichever operator is the leader, so a restarted operator or a new leader finds
// the rollback in the status and does not count it. If the response to the write is
// lost, the rollback is counted when it is next read from the status.
type Rollbacks struct {
	mu     sync.Mutex
	counts map[types.NamespacedName]rollbackCount
}

// rollbackCount is the count of one FlagCache.
type rollbackCount struct {
	// uid distinguishes it from a deleted FlagCache of the same name.
	uid types.UID
	// writing are the rollbacks in a status write in flight, with their reasons.
	writing map[rollback]string
	// counted are the rollbacks that were counted.
	counted map[rollback]bool
	// byReason is the number of rollbacks for each reason.
	byReason map[string]float64
}

// rollback is one rejected candidate. It is identified by its start time, because
// its end is decided again if it could not be recorded.
type rollback struct {
	revision  string
	startedAt int64
}

// BeforeWrite notes the new rollbacks of a status that is about to be written. A
// status written over an empty one restores a lost status, and its rollbacks are
// not new.
func (r *Rollbacks) BeforeWrite(fc *v1alpha1.FlagCache, status v1alpha1.FlagCacheStatus) {
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

// AfterWrite counts the rollbacks that BeforeWrite noted, unless the write failed.
func (r *Rollbacks) AfterWrite(fc *v1alpha1.FlagCache, err error) {
	switch {
	case err == nil:
		r.Observe(fc)
	case apierrors.IsConflict(err):
		r.mu.Lock()
		defer r.mu.Unlock()
		clear(r.of(fc).writing)
	}
}

// Observe counts the rollbacks in flight that a FlagCache's status now contains.
func (r *Rollbacks) Observe(fc *v1alpha1.FlagCache) {
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

// Forget drops the count of a deleted FlagCache.
func (r *Rollbacks) Forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.counts, key)
}

// byReason returns the rollbacks of a FlagCache for every possible reason, zero
// included, so that increase() sees the first rollback.
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

// of returns the count of a FlagCache, an empty one if none is kept.
func (r *Rollbacks) of(fc *v1alpha1.FlagCache) rollbackCount {
	if c, ok := r.counts[client.ObjectKeyFromObject(fc)]; ok && c.uid == fc.UID {
		return c
	}
	return rollbackCount{uid: fc.UID}
}

// keep returns the count of a FlagCache and keeps it.
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

// rollbacksOf returns the rollbacks in a status's history with their reasons.
func rollbacksOf(status v1alpha1.FlagCacheStatus) map[rollback]string {
	found := map[rollback]string{}
	for _, entry := range status.History {
		if entry.Outcome != string(canary.RolledBack) || entry.StartedAt == nil {
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

// otherReason replaces unknown reasons, which bounds the number of series whatever
// a record contains.
const otherReason = "Other"

// rollbackReasons are all values of the metric's label reason.
var rollbackReasons = slices.Concat(plan.RollbackReasons(), observed.PodFailureReasons(), []string{otherReason})
