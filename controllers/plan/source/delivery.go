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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// delivered reports whether every ready pod serves the published document.
func delivered(s *observed.Index, part Part) *metav1.Condition {
	const kind = v1alpha1.ConditionFlagsDelivered
	before := meta.FindStatusCondition(s.FlagCache.Status.Conditions, kind)
	if last := s.FlagCache.Status.Flags; before != nil && (last == nil || part.Status == nil || last.Number != part.Status.Number) {
		before = nil // it is about another document
	}
	c := deliveredNow(s, part, before)
	if before != nil && s.Broadcast.Number == 0 && before.Status == c.Status && before.Reason == c.Reason && len(s.Delivery.Behind) == 0 {
		return before // a restarted operator does not know yet what Redis has
	}
	return &c
}

// deliveredNow is delivered, with the condition of before about the same document.
func deliveredNow(s *observed.Index, part Part, before *metav1.Condition) metav1.Condition {
	const kind = v1alpha1.ConditionFlagsDelivered
	switch {
	case !part.current.intact():
		return conditions.Unknown(kind, v1alpha1.ReasonNotPublished, "No flags are published that new pods could serve")
	case part.Delivery == nil:
		return conditions.Unknown(kind, v1alpha1.ReasonNoReadyPods, "No pod that would serve the published flags is ready")
	}
	pods, last := part.Status.Pods, s.Delivery
	known := last.Known && last.Of == part.Delivery.Digest
	reported := before != nil && before.Reason != v1alpha1.ReasonNoReadyPods && before.Reason != v1alpha1.ReasonNotPublished
	switch {
	case known && len(last.Behind) > 0:
		return conditions.False(kind, v1alpha1.ReasonDelivering, "Pods that serve other flags than were published last: %s%s", behind(last), redisNote(s))
	case known && !last.Incomplete && last.Serving >= pods:
		return conditions.True(kind, v1alpha1.ReasonDelivered, "Every ready pod serves the flags that were published last%s", redisNote(s))
	case reported && (!known || !last.Incomplete && last.Asked < pods):
		return *before // pods that became ready since are asked next
	case !known:
		return conditions.False(kind, v1alpha1.ReasonDelivering, "The flags were published, and the ready pods were not asked yet whether they serve them%s", redisNote(s))
	default:
		return conditions.Unknown(kind, v1alpha1.ReasonPodsNotReached, "Not every ready pod has reported which flags it serves: check that the operator reaches port %d of the pods, and their image", config.PortTelemetry)
	}
}

// redisNote says that pods do not have the flags from Redis, and what to do; "" if they do.
func redisNote(s *observed.Index) string {
	if s.Broadcast.Number == 0 || s.Broadcast.Stored {
		return ""
	}
	environment := s.FlagCache.Spec.Environment
	return fmt.Sprintf(". They could not be written to Redis (%s), so pods have changes when their kubelets update the mounts: check that the user may write the key %s%s and publish on the channel %s%s, and that nothing else uses the key",
		s.Broadcast.Reason, config.RedisKeyPrefix, environment, config.RedisChannelPrefix, environment)
}

// behind names the pods that serve another document.
func behind(d observed.Delivery) string {
	pods := strings.Join(d.Behind, ", ")
	if d.More > 0 {
		pods += fmt.Sprintf(" and %d more", d.More)
	}
	return pods
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
	return fmt.Sprintf("Other flags than those in ConfigMap %s, key %s are served by pods: %s. "+
		"Their nodes do not update the mounted file, see the logs of the kubelets: delete these pods", ref.Name, ref.Key, behind(s.Delivery))
}
