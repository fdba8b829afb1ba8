// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Time after which pods that serve another file are reported. A kubelet updates a mount
// within its sync period and the time to live of its cache, by default two minutes
// together (https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically).
// It never does for an immutable ConfigMap: then pods have a new file from Redis, or not at all.
const (
	mountPatience     = 3 * time.Minute
	immutablePatience = 30 * time.Second
)

// Target is a flags file and the pods that are to serve it.
type Target struct {
	// Digest of the file, "" for a database, of which only the pods are asked.
	Digest string
	// Shared: other programs may use the Redis, so that pods are asked for ever whether it
	// has the document of another store.
	Shared bool
	// Revisions are those that mount the file and have ready pods.
	Revisions map[string]Pods
}

// Pods are those of a revision.
type Pods struct {
	// Ready is how many are ready.
	Ready int32
	// Version of their Deployment, which changes whenever a pod is replaced.
	Version string
}

// target is which pods are to serve the file, nil if none is ready. Those of a revision
// with another source, such as the stable one while a candidate has another ConfigMap,
// serve that.
func target(s *observed.Index) *Target {
	revisions := map[string]Pods{}
	for revision, d := range s.Revisions {
		if d.Status.ReadyReplicas > 0 && mounts(s.FlagCache, d.Spec.Template.Spec) {
			revisions[revision] = Pods{Ready: d.Status.ReadyReplicas, Version: d.ResourceVersion}
		}
	}
	if len(revisions) == 0 || s.Flags.Digest == "" {
		return nil
	}
	return &Target{Digest: s.Flags.Digest, Shared: shared(s), Revisions: revisions}
}

// databaseTarget is which pods are to be asked about a Redis that other programs may use.
func databaseTarget(s *observed.Index) *Target {
	revisions := map[string]Pods{}
	for revision, d := range s.Revisions {
		if d.Status.ReadyReplicas > 0 && hasVariable(d.Spec.Template.Spec, EnvVar(s.FlagCache)) {
			revisions[revision] = Pods{Ready: d.Status.ReadyReplicas, Version: d.ResourceVersion}
		}
	}
	if len(revisions) == 0 || !shared(s) {
		return nil
	}
	return &Target{Shared: true, Revisions: revisions}
}

// shared reports whether other programs may use the Redis.
func shared(s *observed.Index) bool { return s.FlagCache.Spec.Cache.Type == v1alpha1.CacheExternal }

// mounts reports whether pods read the flags file of the spec.
func mounts(fc *v1alpha1.FlagCache, pod corev1.PodSpec) bool {
	mounted := slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
		return v.ConfigMap != nil && v.Name == VolumeName && v.ConfigMap.Name == fc.Spec.Flags.ConfigMap.Name
	})
	return mounted && hasVariable(pod, EnvVar(fc))
}

func hasVariable(pod corev1.PodSpec, variable corev1.EnvVar) bool {
	return slices.ContainsFunc(pod.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v == variable })
	})
}

// checkDelivery reports pods that serve another file than that of a valid source. Once
// reported, they are until all pods were found to serve it: a restarted operator knows
// nothing of pods yet.
func checkDelivery(s *observed.Index, part Part) Part {
	before := meta.FindStatusCondition(s.FlagCache.Status.Conditions, v1alpha1.ConditionFlagsValid)
	reported := before != nil && before.Reason == v1alpha1.ReasonPodsBehind
	known := part.Delivery != nil && s.Delivery.Of == part.Delivery.Digest
	switch {
	case part.Delivery == nil:
	case known && len(s.Delivery.Behind) > 0:
		left := patience(s) - s.Since(s.Delivery.Since)
		if left > 0 && !reported {
			part.RequeueAfter = left
			break
		}
		part.Valid = conditions.False(v1alpha1.ConditionFlagsValid, v1alpha1.ReasonPodsBehind, "%s", describeBehind(s))
	case reported && (!known || s.Delivery.Incomplete):
		part.Valid = *before
	}
	return part
}

func patience(s *observed.Index) time.Duration {
	if s.Flags.Immutable {
		return immutablePatience
	}
	return mountPatience
}

// describeBehind names the pods, and what to do about them.
func describeBehind(s *observed.Index) string {
	ref := s.FlagCache.Spec.Flags.ConfigMap
	pods := strings.Join(s.Delivery.Behind, ", ")
	if s.Delivery.More > 0 {
		pods += fmt.Sprintf(" and %d more", s.Delivery.More)
	}
	text := fmt.Sprintf("Other flags than those in ConfigMap %s, key %s are served by pods: %s. ", ref.Name, ref.Key, pods)
	if s.Flags.Immutable {
		return text + "The ConfigMap is immutable, and kubelets do not read such a ConfigMap again after it was deleted and created: create it with another name, and name that in spec.flags.configMap.name"
	}
	return text + "Their nodes do not update the mounted file, see the logs of the kubelets: delete these pods"
}
