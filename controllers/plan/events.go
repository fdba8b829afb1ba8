// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Event reports a transition.
type Event struct {
	// Type is Normal or Warning.
	Type string
	// Reason is that of the condition.
	Reason string
	// Action is the type of the condition that changed.
	Action  string
	Message string
}

// Transitions returns the events between two statuses: one for each condition whose
// status or reason changed. Reconciling and Stalled have none, because Ready reports the
// same.
func Transitions(from, to v1alpha1.FlagCacheStatus) []Event {
	var events []Event
	for _, c := range to.Conditions {
		old := meta.FindStatusCondition(from.Conditions, c.Type)
		changed := old == nil || old.Status != c.Status || old.Reason != c.Reason
		if !changed || c.Type == v1alpha1.ConditionReconciling || c.Type == v1alpha1.ConditionStalled || (old == nil && c.Status == metav1.ConditionUnknown) {
			continue
		}
		events = append(events, Event{Type: eventType(from, to, c), Reason: c.Reason, Action: c.Type, Message: c.Message})
	}
	if recreated(from.Cache, to.Cache) {
		events = append(events, Event{Type: "Warning", Reason: v1alpha1.ReasonRecreated, Action: v1alpha1.ConditionCacheProvisioned,
			Message: "Replication group " + to.Cache.ReplicationGroupID + " was created again, empty, and not by FlagCache"})
	}
	return events
}

// recreated reports whether a cache was deleted and created again with the same ID. ACK
// creates a group again that it does not find, without reporting it.
func recreated(from, to *v1alpha1.CacheStatus) bool {
	return from != nil && to != nil && from.ReplicationGroupID != "" && from.ReplicationGroupID == to.ReplicationGroupID &&
		from.CreatedAt != nil && to.CreatedAt != nil && !from.CreatedAt.Equal(to.CreatedAt)
}

// eventType returns Warning for what needs a person's attention: something that worked
// and no longer does, or that only a person can fix.
func eventType(from, to v1alpha1.FlagCacheStatus, c metav1.Condition) string {
	worked := meta.IsStatusConditionTrue(from.Conditions, c.Type)
	stalled := meta.FindStatusCondition(to.Conditions, v1alpha1.ConditionStalled)
	if c.Status == metav1.ConditionFalse && c.Reason != v1alpha1.ReasonDeleting && c.Reason != v1alpha1.ReasonDelivering &&
		(worked || c.Reason == v1alpha1.ReasonBudgetExceeded || (stalled != nil && stalled.Reason == c.Reason)) {
		return "Warning"
	}
	return "Normal"
}

// unknownRevisions returns a warning for each annotation about a revision whose value is
// none: it has no effect, which a person would otherwise find out by waiting.
func unknownRevisions(x *observed.Index, h history, target string) []Event {
	var warnings []Event
	for _, annotation := range []string{
		v1alpha1.AnnotationAbort, v1alpha1.AnnotationPause, v1alpha1.AnnotationPromote, v1alpha1.AnnotationResume, v1alpha1.AnnotationRetry,
	} {
		value := x.FlagCache.Annotations[annotation]
		_, recorded := h.observed[value]
		if value == "" || value == target || recorded {
			continue
		}
		const maxValue = 63
		warnings = append(warnings, Event{Type: "Warning", Reason: v1alpha1.ReasonUnknownRevision, Action: v1alpha1.ConditionRolloutHealthy, Message: fmt.Sprintf(
			"Annotation %s has no effect, because %q is no revision of this FlagCache: its value is one in status.revisions", annotation, value[:min(len(value), maxValue)])})
	}
	return warnings
}

// usedCommands returns a warning for each annotation about the candidate that an earlier
// attempt of it followed.
func usedCommands(fc *v1alpha1.FlagCache, r rollout) []Event {
	record, candidate := r.record(), r.candidate()
	if candidate == "" || record.Outcome != "" {
		return nil
	}
	used := []struct {
		annotation string
		is         bool
	}{
		{v1alpha1.AnnotationAbort, record.Used.Abort}, {v1alpha1.AnnotationPromote, record.Used.Promote}, {v1alpha1.AnnotationResume, record.Used.Resume},
	}
	var warnings []Event
	for _, u := range used {
		if u.is && fc.Annotations[u.annotation] == candidate {
			warnings = append(warnings, Event{Type: "Warning", Reason: v1alpha1.ReasonAnnotationUsed, Action: v1alpha1.ConditionRolloutHealthy, Message: fmt.Sprintf(
				"Annotation %s has no effect, because it was given when an earlier canary of revision %s ended: remove it, and set it again", u.annotation, candidate)})
		}
	}
	return warnings
}

// ignoredRequests returns a warning for each other annotation that cannot have an effect. The
// ID in AWS of the cache that the spec requests is "" where it has none, or none yet.
func ignoredRequests(fc *v1alpha1.FlagCache, id string) []Event {
	elastiCache := fc.Spec.Cache.ElastiCache
	var warnings []Event
	for _, request := range []struct {
		annotation string
		effective  bool
		why        string
	}{
		{v1alpha1.AnnotationAdopt, elastiCache != nil, "only caches of cache.type ElastiCache are adopted"},
		{v1alpha1.AnnotationAdopt, elastiCache == nil || id == "" || fc.Annotations[v1alpha1.AnnotationAdopt] == id, "the cache that the spec requests has the ID " + id + " in AWS, and the policy of the administrator permits no other"},
		{v1alpha1.AnnotationAdoptChildren, fc.Annotations[v1alpha1.AnnotationAdoptChildren] == string(fc.UID), "its value must be the UID of this FlagCache, which is " + string(fc.UID)},
		{v1alpha1.AnnotationOperator, namesNamespace(fc.Annotations[v1alpha1.AnnotationOperator]), "its value must be the namespace of an operator, which " + cmp.Or(fc.Status.Operator, "this one") + " remains"},
		{v1alpha1.AnnotationRotateToken, elastiCache != nil && elastiCache.Authentication.Type == v1alpha1.AuthenticationToken, "the cache has no token that the operator rotates: that is elastiCache.authentication.type Token"},
	} {
		if fc.Annotations[request.annotation] != "" && !request.effective {
			warnings = append(warnings, Event{Type: "Warning", Reason: v1alpha1.ReasonAnnotationIgnored, Action: v1alpha1.ConditionReady, Message: fmt.Sprintf(
				"Annotation %s has no effect: %s", request.annotation, request.why)})
		}
	}
	return warnings
}
