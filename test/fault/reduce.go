// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/canary"
)

// reduce returns an object without counters of which only the order or the difference matters to
// what follows, so that an exploration recognizes a state in which it has been before.
func (w digest) reduce(o client.Object) client.Object {
	if !w.reduced {
		return o
	}
	o = o.DeepCopyObject().(client.Object)
	generation := o.GetGeneration()
	o.SetGeneration(0)
	switch o := o.(type) {
	case *v1alpha1.FlagCache:
		o.Status.ObservedGeneration -= generation
		for i := range o.Status.Conditions {
			o.Status.Conditions[i].ObservedGeneration -= generation
		}
	case *appsv1.Deployment:
		o.Status.ObservedGeneration -= generation
	case *appsv1.StatefulSet:
		o.Status.ObservedGeneration -= generation
	case *appsv1.ControllerRevision:
		o.Revision = 0 // see writeOrder
	}
	return o
}

// ordered returns the current objects of a kind, in an order that does not depend on hashes in
// their names.
func (w digest) ordered(k kind) []client.Object {
	objects := w.api.now(k)
	if !w.reduced || len(objects) < 2 {
		return objects
	}
	return slices.SortedStableFunc(slices.Values(objects), func(a, b client.Object) int {
		return strings.Compare(w.fingerprintOf(a).text, w.fingerprintOf(b).text)
	})
}

// maxAge is longer than the operator waits for anything in an explored World, but a deadline of
// which there is an alarm.
const maxAge = 30 * time.Minute

// settledAge is longer than pods have to start before the operator reads why they do not.
const settledAge = 10 * time.Second

// ages returns how long ago something was that the operator or the cluster waits for, since then.
func (w digest) ages(o client.Object) []time.Duration {
	var ages []time.Duration
	add := func(since time.Time) { ages = append(ages, min(w.time.Sub(since), maxAge)) }
	switch o := o.(type) {
	case *v1alpha1.FlagCache:
		for _, c := range o.Status.Conditions {
			if c.Status != metav1.ConditionTrue && (c.Type == v1alpha1.ConditionCacheProvisioned || c.Type == v1alpha1.ConditionCacheHealthy) {
				add(c.LastTransitionTime.Time)
			}
		}
	case *appsv1.Deployment:
		if len(o.Status.Conditions) > 0 && o.Status.AvailableReplicas < ptr.Deref(o.Spec.Replicas, 1) && o.Status.Conditions[0].Status == corev1.ConditionTrue {
			add(o.Status.Conditions[0].LastUpdateTime.Time)
		}
	case *appsv1.StatefulSet:
		created, settled := o.CreationTimestamp.Time, w.time.Add(-settledAge)
		if created.Before(settled) && (o.Status.ReadyReplicas > 0 || w.provisioningSince().After(created)) {
			created = settled // the operator waits since a later time
		}
		add(created)
	default:
		if ack.Is(o) && w.cloud.stopped {
			add(o.GetCreationTimestamp().Time)
			add(ack.ConditionsOf(o).LastSyncTime().Time)
		}
	}
	return ages
}

// provisioningSince returns when the cache of the FlagCache was last provisioned, or no longer.
func (w digest) provisioningSince() time.Time {
	fc, ok := find(w.api.now(flagCaches), name).(*v1alpha1.FlagCache)
	if !ok {
		return time.Time{}
	}
	if c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionCacheProvisioned); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// writeOrder writes the order of the revisions.
func (w digest) writeOrder(to io.Writer) {
	if !w.reduced {
		return
	}
	records := w.ordered(controllerRevisions)
	order := make([]int, len(records))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Compare(records[a].(*appsv1.ControllerRevision).Revision, records[b].(*appsv1.ControllerRevision).Revision)
	})
	fmt.Fprintln(to, order)
}

// sinceLastStep returns the time since the last step of the scenario, on which only further steps
// depend.
func (w digest) sinceLastStep() time.Duration {
	if w.reduced && w.step == len(w.scenario.steps) {
		return 0
	}
	return w.time.Sub(w.lastStep)
}

// exposure returns for how long a candidate has had a share, and how many requests it has served with
// it, as far as these have not reached what promotion requires.
func (w digest) exposure(fc *v1alpha1.FlagCache, s share) exposure {
	had := w.clients.exposures[s]
	if !w.reduced {
		return had
	}
	had.requests = min(had.requests, fc.Spec.Canary.MinimumRequests)
	for _, step := range fc.Spec.Canary.GetSteps() {
		if step.Weight == s.weight {
			had.duration = min(had.duration, step.Duration.Duration)
		}
	}
	return had
}

// concluded returns a record that is over without what another canary of the revision does not
// continue.
func (w digest) concluded(record canary.Record) canary.Record {
	if !w.reduced || record.Outcome == "" || record.Canary == nil {
		return record
	}
	was := record.Canary
	kept := canary.State{Progress: canary.Progress{Forced: was.Progress.Forced, DecidedAt: w.time}, Ledger: canary.Ledger{SampledAt: w.time}}
	if record.Outcome != canary.Promoted {
		kept.Ledger.Origin, kept.Ledger.Streams = was.Ledger.Origin, was.Ledger.Streams
	}
	record.Canary = &kept
	return record
}

// recentTimes reports whether a record began or ended in this second: of records of the same second
// the names decide which is the newer one.
func (w digest) recentTimes(record canary.Record) [2]bool {
	recent := func(t time.Time) bool { return w.reduced && w.time.Sub(t) < tick }
	return [2]bool{recent(record.StartedAt), recent(record.FinishedAt)}
}

// agesOut is the age from which it does not matter how long ago a promotion was.
func (w digest) agesOut(fc *v1alpha1.FlagCache) time.Duration {
	if !w.reduced {
		return 2 * scaleDownDelay
	}
	return fc.Spec.Canary.ScaleDownDelay.Duration + tick
}

// sinceKeyStep returns the time of the last step of a rotation relative to now, 0 if it is unknown.
func sinceKeyStep(holder *corev1.Secret, now time.Time) time.Duration {
	since, err := time.Parse(time.RFC3339, holder.Annotations[v1alpha1.AnnotationKeyStep])
	if err != nil {
		return 0
	}
	return since.Sub(now)
}
