// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// rollout is how traffic moves from one revision to the next.
//
//	no Service   ──▶ the target serves at once
//	stable, target the same ──▶ settled, every other revision goes
//	stable, target another  ──▶ candidate beside it; when it was seen available
//	                            the Service selects it, and it is the stable one
//
// The Service's selector is the record of which revision is stable.
type rollout struct {
	// target is the revision that the spec asks for, "" while there is none.
	target string
	// stable is the revision that the Service was seen to select, "" before the first.
	stable string
	// serves is the revision that the Service is to select now.
	serves string
	// observed are the Deployments of revisions, by revision.
	observed map[string]*appsv1.Deployment
}

// decideRollout chooses the revision that serves.
func decideRollout(s Snapshot, target *revisionTemplate) rollout {
	r := rollout{observed: observedRevisions(s)}
	if target != nil {
		r.target = target.revision
	}
	if svc, ok := find[*corev1.Service](s, serviceName(s.FlagCache)); ok {
		r.stable = svc.Spec.Selector[v1alpha1.LabelRevision]
	}
	r.serves = r.stable
	if r.target != "" && r.ready(s.FlagCache) {
		r.serves = r.target
	}
	return r
}

// ready tells whether the target may serve: nothing did before, or it was seen
// available at the size that carries all traffic. That the Deployment of the
// stable revision was not seen is no reason to hurry: it may be there all the
// same, and a target that is not available answers no request either.
func (r rollout) ready(fc *v1alpha1.FlagCache) bool {
	return r.stable == "" || available(r.observed[r.target], wantedReplicas(fc, r))
}

// candidate is the revision that is on its way: the target, until the Service
// was seen to select it. It is "" when there is none.
func (r rollout) candidate() string {
	if r.target == r.stable {
		return ""
	}
	return r.target
}

// settled says that the revision of the spec was seen to serve, or that none
// ever did.
func (r rollout) settled() bool {
	if r.target == "" {
		return r.stable == "" && len(r.observed) == 0
	}
	return r.stable == r.target
}

// kept are the revisions that should have a Deployment. The one that served
// until now is kept until the Service was seen to select its successor.
func (r rollout) kept() []string {
	var kept []string
	for _, revision := range []string{r.stable, r.target} {
		if revision != "" && (len(kept) == 0 || kept[0] != revision) {
			kept = append(kept, revision)
		}
	}
	return kept
}

func (r rollout) keeps(revision string) bool {
	return revision == r.stable || revision == r.target
}

// stuck says that a revision has given up becoming available.
func stuck(d *appsv1.Deployment) bool {
	if d == nil || d.Status.ObservedGeneration < d.Generation {
		return false
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
			return true
		}
	}
	return false
}

// available says that a Deployment was seen with at least so many replicas, all
// that it asks for, and all of its current template.
func available(d *appsv1.Deployment, replicas int32) bool {
	return d != nil &&
		d.Status.ObservedGeneration >= d.Generation &&
		d.Status.UpdatedReplicas >= replicas &&
		d.Status.AvailableReplicas >= max(replicas, ptr.Deref(d.Spec.Replicas, 1))
}

func observedRevisions(s Snapshot) map[string]*appsv1.Deployment {
	revisions := map[string]*appsv1.Deployment{}
	for _, child := range s.Children {
		if d, ok := child.(*appsv1.Deployment); ok && s.owns(d) && d.DeletionTimestamp == nil {
			revisions[d.Labels[v1alpha1.LabelRevision]] = d
		}
	}
	return revisions
}
