// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
)

// servicePlan is the plan of the flag service.
type servicePlan struct {
	apply []observed.Object
	// keep exist and stay as they are.
	keep    []observed.Object
	rollout rollout
	// blocked is the reason why there is no target revision; "" if there is one.
	blocked string
	// replicas desired of the stable revision.
	replicas int32
}

// planService plans the flag service: a Deployment for each revision that the rollout
// keeps, and what all revisions share.
func planService(s *observed.Index, history history, requested request, desired connection.Desired, flags source.Part) servicePlan {
	fc := s.FlagCache
	target, blocked := findTarget(s, requested, desired, flags)
	part := servicePlan{blocked: blocked, rollout: decideRollout(s, history, target)}
	part.replicas = part.rollout.full
	part.apply, part.keep = part.rollout.history.objects(fc, part.rollout.inUse(), knownTemplates(target, part.rollout))
	if account := requested.workload.ServiceAccount; account != nil {
		part.apply = append(part.apply, account)
	}
	part.apply = append(part.apply, traffic.Objects(s, part.rollout.share(fc), part.rollout.atRest())...)
	part.apply = append(part.apply, deployments(s, target, part.rollout)...)
	loadTest, running := loadTestObjects(s, part.rollout)
	part.apply, part.keep = append(part.apply, loadTest...), append(part.keep, running...)
	if part.rollout.serves == "" {
		return part
	}
	part.apply = append(part.apply, traffic.ClientService(fc, part.rollout.serves, part.rollout.share(fc)), revision.NetworkPolicy(fc, desired, flags.Ports))
	for _, name := range part.rollout.serving() {
		part.apply = append(part.apply, revision.DisruptionBudget(fc, name))
	}
	if fc.Spec.Service.Autoscaling != nil {
		part.apply = append(part.apply, revision.Autoscaler(fc, part.rollout.serves))
	}
	return part
}

// targetRevision is the revision that the spec requests.
type targetRevision struct {
	revision.Template
	// intent identifies the request; "" where no connection is deleted with a rejected
	// revision.
	intent string
}

// findTarget returns the revision that the spec requests, or the reason why there is
// none. Without a connection there is none; without usable flags a new one could not
// become ready, so it is not started.
func findTarget(s *observed.Index, requested request, desired connection.Desired, flags source.Part) (*targetRevision, string) {
	if desired.Hash == "" {
		if record := requested.rejected; record != nil {
			return &targetRevision{Template: revision.Template{Revision: record.Revision}, intent: record.Intent}, ""
		}
		if requested.unreadable != "" {
			return &targetRevision{Template: revision.Template{Revision: requested.unreadable}}, ""
		}
		return nil, v1alpha1.ReasonWaitingForConnection
	}
	rendered := &targetRevision{Template: render(s, requested.workload, desired.Hash), intent: requested.intent}
	_, begun := observed.Get[*appsv1.Deployment](s, observed.RevisionName(s.FlagCache, rendered.Revision))
	if !flags.Usable && !begun {
		return nil, v1alpha1.ReasonWaitingForFlags
	}
	return rendered, ""
}

// render renders the pod template of the spec. A revision of an operator that did not publish
// flags is the target for as long as the spec stays the same, so that the upgrade of an
// operator alone replaces no pods: while it is the stable one, is being evaluated, or was
// rejected.
func render(x *observed.Index, workload cache.Workload, connectionHash string) revision.Template {
	unpublished := revision.RenderUnpublished(x, workload, connectionHash)
	record, recorded := x.Records.Known[unpublished.Revision]
	unfinished := recorded && (record.Outcome == "" || record.Rejected()) || x.Records.Unreadable[unpublished.Revision] != nil
	if unpublished.Revision == x.Stable || unfinished {
		return unpublished
	}
	return revision.Render(x, workload, connectionHash)
}

// knownTemplates are the pod templates to put on record: that of the target, and those of
// revisions in use whose record lacks it, as they run, if they need no privileges.
func knownTemplates(target *targetRevision, r rollout) map[string]corev1.PodTemplateSpec {
	templates := map[string]corev1.PodTemplateSpec{}
	for _, revision := range r.inUse() {
		if d := r.observed[revision]; d != nil && observed.Unprivileged(d.Spec.Template) {
			templates[revision] = d.Spec.Template
		}
	}
	if target != nil && len(target.Pod.Spec.Containers) > 0 {
		templates[target.Revision] = target.Pod
	}
	return templates
}

// deployments are the Deployments of the revisions that the rollout keeps. One that was
// deleted or edited is made again: that of the target from the spec, that of another from
// its record. Of one without a template on record only the size is managed. The size of one
// that an autoscaler of somebody else scales is left to that.
func deployments(x *observed.Index, target *targetRevision, r rollout) []observed.Object {
	var objects []observed.Object
	for _, name := range r.kept() {
		existing := r.observed[name]
		replicas, managed := r.replicas(name)
		if x.Autoscalers[name] != "" {
			replicas = revision.ScaledSize(existing, replicas)
		}
		template, recorded := x.Records.Template(name)
		switch {
		case !managed:
		case target != nil && name == target.Revision:
			objects = append(objects, revision.Deployment(x.FlagCache, name, target.Pod, replicas))
		case recorded:
			objects = append(objects, revision.Deployment(x.FlagCache, name, template, replicas))
		case existing != nil && ptr.Deref(existing.Spec.Replicas, 1) != replicas:
			objects = append(objects, revision.Deployment(x.FlagCache, name, existing.Spec.Template, replicas))
		}
	}
	return objects
}

// loadTestObjects are the Job, and what lets its pod reach the candidate, while its result is not recorded. An existing one is kept
// as it is, because most fields of a Job are immutable
// (https://kubernetes.io/docs/concepts/workloads/controllers/job/). That of an earlier
// attempt has to be deleted first.
func loadTestObjects(s *observed.Index, r rollout) (write, keep []observed.Object) {
	if r.canary == nil || s.FlagCache.Spec.Canary.LoadTest == nil || r.tested {
		return nil, nil
	}
	job, there := observed.Get[*batchv1.Job](s, observed.LoadTestName(s.FlagCache, r.target))
	switch {
	case there && job.Annotations[v1alpha1.AnnotationTrial] == revision.AttemptID(r.record()):
		return []observed.Object{revision.LoadTestNetworkPolicy(s.FlagCache, r.target)}, []observed.Object{job}
	case !there && r.begun && r.canary.Phase == canary.LoadTesting:
		return []observed.Object{
			revision.LoadTestNetworkPolicy(s.FlagCache, r.target),
			revision.LoadTestJob(s, r.record(), canaryPolicy(s.FlagCache.Spec.Canary).Limits[canary.ErrorRate]),
		}, nil
	}
	return nil, nil
}

// ScaledByOthers reports whether the stable revision has another size than the spec
// requests, as it has while an autoscaler of somebody else scales it.
func ScaledByOthers(x *observed.Index) bool {
	stable, service := x.Revisions[x.Stable], x.FlagCache.Spec.Service
	return stable != nil && service.Autoscaling == nil && ptr.Deref(stable.Spec.Replicas, 1) != revision.FullSize(x.FlagCache, stable, false)
}

// foreignAutoscalers returns a warning for each autoscaler of somebody else: it scales one
// revision, and the next one has another name.
func foreignAutoscalers(x *observed.Index) []Event {
	var warnings []Event
	for _, revision := range slices.Sorted(maps.Keys(x.Autoscalers)) {
		warnings = append(warnings, Event{Type: "Warning", Reason: v1alpha1.ReasonForeignAutoscaler, Action: v1alpha1.ConditionServiceAvailable, Message: fmt.Sprintf(
			"HorizontalPodAutoscaler %s scales Deployment %s, so its replicas are left to it. It will not scale the Deployment of the next revision: delete it, and set spec.service.autoscaling",
			x.Autoscalers[revision], observed.RevisionName(x.FlagCache, revision))})
	}
	return warnings
}
