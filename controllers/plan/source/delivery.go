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
	"github.com/flagcache/flagcache/service/config"
)

// mountPatience is the time after which pods that serve another document are reported. A
// kubelet updates a mount within its sync period and the time to live of its cache, by default
// two minutes together
// (https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically).
const mountPatience = 3 * time.Minute

// Target is a document and the pods that are to serve it.
type Target struct {
	// Digest of the document, "" for a database, of which only the pods are asked.
	Digest string
	// Shared: other programs may use the Redis, so that pods are asked for ever whether it
	// has the document of another store.
	Shared bool
	// Revisions are those that read the document and have ready pods.
	Revisions map[string]Pods
}

// Pods are those of a revision.
type Pods struct {
	// Ready is how many are ready.
	Ready int32
	// Version of their Deployment, which changes whenever a pod is replaced.
	Version string
}

// target is which pods are to serve the published document, nil if none is ready. Those of a
// revision that mounts the ConfigMap of the user, as operators made them before they
// published flags, are among them while that has the same document.
func target(s *observed.Index, published published) *Target {
	if !published.intact() {
		return nil
	}
	same := s.Flags.State == observed.FlagsLoaded && s.Flags.Digest == published.document.Digest
	revisions := map[string]Pods{}
	for revision, d := range s.Revisions {
		pod := d.Spec.Template.Spec
		reads := mounts(pod, observed.PublishedFlagsName(s.FlagCache)) && hasVariable(pod, EnvVar(s.FlagCache)) || same && mountsSource(s.FlagCache, pod)
		if d.Status.ReadyReplicas > 0 && reads {
			revisions[revision] = Pods{Ready: d.Status.ReadyReplicas, Version: d.ResourceVersion}
		}
	}
	if len(revisions) == 0 {
		return nil
	}
	return &Target{Digest: published.document.Digest, Shared: shared(s), Revisions: revisions}
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

// mounts reports whether pods read their flags from a ConfigMap.
func mounts(pod corev1.PodSpec, configMap string) bool {
	return slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
		return v.ConfigMap != nil && v.Name == VolumeName && v.ConfigMap.Name == configMap
	})
}

// mountsSource reports whether pods read the file of the spec from the ConfigMap of the user.
func mountsSource(fc *v1alpha1.FlagCache, pod corev1.PodSpec) bool {
	return mounts(pod, fc.Spec.Flags.ConfigMap.Name) && hasVariable(pod, fileVariable(fc))
}

// fileVariable names the file of the spec in a mounted ConfigMap of the user.
func fileVariable(fc *v1alpha1.FlagCache) corev1.EnvVar {
	return corev1.EnvVar{Name: config.EnvFlagsFile, Value: config.FlagsDir + "/" + fc.Spec.Flags.ConfigMap.Key}
}

func hasVariable(pod corev1.PodSpec, variable corev1.EnvVar) bool {
	return slices.ContainsFunc(pod.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v == variable })
	})
}

// checkDelivery reports pods that serve another document than the published one. Once
// reported, they are until all pods were found to serve it: a restarted operator knows
// nothing of pods yet.
func checkDelivery(s *observed.Index, part Part) Part {
	before := meta.FindStatusCondition(s.FlagCache.Status.Conditions, v1alpha1.ConditionFlagsValid)
	reported := before != nil && before.Reason == v1alpha1.ReasonPodsBehind
	known := part.Delivery != nil && s.Delivery.Of == part.Delivery.Digest
	switch {
	case part.Delivery == nil:
	case known && len(s.Delivery.Behind) > 0:
		left := mountPatience - s.Since(s.Delivery.Since)
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

// describeBehind names the pods, and what to do about them.
func describeBehind(s *observed.Index) string {
	ref := s.FlagCache.Spec.Flags.ConfigMap
	pods := strings.Join(s.Delivery.Behind, ", ")
	if s.Delivery.More > 0 {
		pods += fmt.Sprintf(" and %d more", s.Delivery.More)
	}
	return fmt.Sprintf("Other flags than those in ConfigMap %s, key %s are served by pods: %s. "+
		"Their nodes do not update the mounted file, see the logs of the kubelets: delete these pods", ref.Name, ref.Key, pods)
}
