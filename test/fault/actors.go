// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/probe"
)

// What the actors note on objects for themselves, as the real ones do.
const (
	// noteTemplate is the pod template that the pods were made from.
	noteTemplate = "deployment.kubernetes.io/revision"
	// notePassword is a hash of the password that a Redis pod started with.
	notePassword = "world.test/password"
)

// broken images never start.
const brokenImage = "broken"

// act has every actor take a step. They act again as long as one of them does.
func (w *World) act() {
	w.nextTick, w.alarm = time.Time{}, time.Time{}
	actors := []func(){w.deploymentController, w.statefulSetController, w.garbageCollector, w.autoscaler, w.namespaceController, w.prober, w.sampler, w.jobController, w.kubelet, w.gateway, w.ackControllers}
	for i := range w.plan.order % 6 {
		actors[i], actors[i+1-i/5*6] = actors[i+1-i/5*6], actors[i]
	}
	if w.plan.order >= 6 {
		slices.Reverse(actors)
	}
	w.as("cluster", func() {
		for _, act := range actors {
			act()
		}
	})
}

// deploymentController makes pods, and the kubelet starts them: one step to take
// note of the spec, one to have the pods available.
func (w *World) deploymentController() {
	for _, o := range w.api.now(deployments) {
		edit(&w.api, deployments, o.GetName(), func(d *appsv1.Deployment) { w.stepDeployment(d) })
	}
}

func (w *World) stepDeployment(d *appsv1.Deployment) {
	wanted, s := ptr.Deref(d.Spec.Replicas, 1), &d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		s.ObservedGeneration = d.Generation
		if note(d, noteTemplate, hash(d.Spec.Template)) {
			s.UpdatedReplicas = 0
			s.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, LastUpdateTime: metav1.NewTime(w.time)}}
		}
		s.Replicas = wanted
		s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = min(s.UpdatedReplicas, wanted), min(s.ReadyReplicas, wanted), min(s.AvailableReplicas, wanted)
	case s.AvailableReplicas == wanted && s.UpdatedReplicas == wanted:
	case w.canStart(d.Spec.Template.Spec):
		s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = wanted, wanted, wanted
	default:
		w.giveUp(d)
	}
}

// giveUp ends the patience with a Deployment at its deadline.
func (w *World) giveUp(d *appsv1.Deployment) {
	progress := &d.Status.Conditions[0]
	deadline := progress.LastUpdateTime.Add(time.Duration(ptr.Deref(d.Spec.ProgressDeadlineSeconds, 600)) * time.Second)
	if progress.Status == corev1.ConditionFalse {
		return
	}
	if w.time.Before(deadline) {
		w.alarmAt(deadline)
		return
	}
	progress.Status, progress.Reason = corev1.ConditionFalse, "ProgressDeadlineExceeded"
}

func (w *World) alarmAt(t time.Time) {
	if w.alarm.IsZero() || t.Before(w.alarm) {
		w.alarm = t
	}
}

// canStart says whether a pod starts: its image is good and what it mounts is
// there, a usable flags file for the flag service.
func (w *World) canStart(pod corev1.PodSpec) bool {
	if strings.Contains(pod.Containers[0].Image, brokenImage) {
		return false
	}
	for _, v := range pod.Volumes {
		if v.Secret != nil && find(w.api.now(secrets), v.Secret.SecretName) == nil {
			return false
		}
		if v.ConfigMap == nil || ptr.Deref(v.ConfigMap.Optional, false) {
			continue
		}
		file, ok := live[*corev1.ConfigMap](&w.api.store, configMaps, v.ConfigMap.Name)
		if !ok {
			return false
		}
		if _, err := validate([]byte(file.Data["flags.json"])); err != nil {
			return false
		}
	}
	return true
}

// statefulSetController runs the in-cluster Redis, with the password that its
// Secret has when the pod starts.
func (w *World) statefulSetController() {
	for _, o := range w.api.now(statefulSets) {
		edit(&w.api, statefulSets, o.GetName(), func(d *appsv1.StatefulSet) { w.stepStatefulSet(d) })
	}
}

func (w *World) stepStatefulSet(d *appsv1.StatefulSet) {
	s := &d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		s.ObservedGeneration, s.Replicas = d.Generation, 1
		if note(d, noteTemplate, hash(d.Spec.Template)) {
			s.ReadyReplicas, s.AvailableReplicas = 0, 0
		}
	case s.ReadyReplicas == 0 && w.canStart(d.Spec.Template.Spec):
		secret, _ := live[*corev1.Secret](&w.api.store, secrets, d.Spec.Template.Spec.Volumes[0].Secret.SecretName)
		note(d, notePassword, hash(configuredPassword(secret)))
		s.ReadyReplicas, s.AvailableReplicas = 1, 1
	}
}

// configuredPassword is what Redis reads from its configuration file.
func configuredPassword(secret *corev1.Secret) string {
	for _, line := range strings.Split(string(secret.Data["redis.conf"]), "\n") {
		if password, ok := strings.CutPrefix(line, "requirepass "); ok {
			return password
		}
	}
	return ""
}

// garbageCollector removes what belongs to a FlagCache that is gone.
func (w *World) garbageCollector() {
	owner := find(w.api.now(flagCaches), name)
	for k := secrets; k < kinds; k++ {
		for _, o := range w.api.now(k) {
			ref := metav1.GetControllerOf(o)
			if ref != nil && ref.Kind == "FlagCache" && (owner == nil || owner.GetUID() != ref.UID) {
				w.mustRemove(k, o.GetName())
			}
		}
	}
}

// autoscaler sets the size of its target to what the load asks for.
func (w *World) autoscaler() {
	for _, o := range w.api.now(autoscalers) {
		hpa := o.(*autoscalingv2.HorizontalPodAutoscaler)
		edit(&w.api, deployments, hpa.Spec.ScaleTargetRef.Name, func(d *appsv1.Deployment) {
			d.Spec.Replicas = ptr.To(min(max(w.load, ptr.Deref(hpa.Spec.MinReplicas, 1)), hpa.Spec.MaxReplicas))
		})
	}
}

// namespaceController empties a namespace that is being deleted.
func (w *World) namespaceController() {
	if !w.api.terminating {
		return
	}
	for k := range kinds {
		for _, o := range w.api.now(k) {
			w.mustRemove(k, o.GetName())
		}
	}
}

// mustRemove removes an object that is there.
func (w *World) mustRemove(k kind, name string) {
	if err := w.api.remove(k, name, nil); err != nil {
		panic(fmt.Sprintf("removing %s %s: %v", k, name, err))
	}
}

// prober is the operator's prober, by key: it has an answer one tick after it was
// asked to watch, and wakes the operator when the answer changes.
type prober map[types.NamespacedName]probing

// probing is the watch of one target.
type probing struct {
	target probe.Target
	last   *probe.Result
	fresh  bool
}

// Watch starts, or goes on, probing a target.
func (p prober) Watch(key types.NamespacedName, t probe.Target) {
	if old, ok := p[key]; ok && hash(old.target) == hash(t) && old.target.Password == t.Password {
		return
	}
	p[key] = probing{target: t, fresh: true}
}

// Forget stops probing.
func (p prober) Forget(key types.NamespacedName) { delete(p, key) }

// Last is the last answer.
func (p prober) Last(key types.NamespacedName) (probe.Result, bool) {
	if p[key].last == nil {
		return probe.Result{}, false
	}
	return *p[key].last, true
}

// keys are what is probed, in order.
func (p prober) keys() []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(p), func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) })
}

// waits tells whether an answer is still to come.
func (p prober) waits() bool {
	for _, watched := range p {
		if watched.last == nil {
			return true
		}
	}
	return false
}

func (w *World) prober() {
	for _, key := range w.redis.keys() {
		w.redis[key] = w.probeOnce(w.redis[key])
	}
}

func (w *World) probeOnce(p probing) probing {
	if p.fresh {
		p.fresh = false
		w.nextTick = w.time.Add(tick)
		return p
	}
	result := w.probed(p.target)
	result.ID = p.target.ID
	if p.last == nil || *p.last != result {
		p.last = &result
		w.queue.wake(w.time)
	}
	return p
}

// probed is what a probe of a target finds.
func (w *World) probed(t probe.Target) probe.Result {
	down := probe.Result{Outcome: probe.Unhealthy, Reason: probe.ReasonConnectionRefused, Message: "nothing listens there"}
	known, running := w.servers[t.Addr]
	if set, ok := w.redisPod(t.Addr); ok {
		running = set.Status.ReadyReplicas > 0
		if set.Annotations[notePassword] == hash(string(t.Password)) {
			known = takes(string(t.Password))
		}
	}
	switch {
	case !running:
		return down
	case !known.take(string(t.Password)):
		return probe.Result{Outcome: probe.Unhealthy, Reason: probe.ReasonWrongPassword, Message: "the password is wrong"}
	default:
		w.prove(t.Addr, string(t.Password))
		return probe.Result{Outcome: probe.Healthy, Reason: probe.ReasonHealthy, Role: "master", Latency: time.Millisecond}
	}
}

// redisPod is the StatefulSet behind an address in the cluster: there must be a
// Service that selects its pods.
func (w *World) redisPod(address string) (*appsv1.StatefulSet, bool) {
	host, _, _ := strings.Cut(address, ".")
	service, ok := live[*corev1.Service](&w.api.store, services, host)
	if !ok {
		return nil, false
	}
	for _, o := range w.api.now(statefulSets) {
		set := o.(*appsv1.StatefulSet)
		if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(set.Spec.Template.Labels)) {
			return set, true
		}
	}
	return nil, false
}

// note writes down a value and tells whether it is news.
func note(o client.Object, key, value string) bool {
	notes := o.GetAnnotations()
	if notes[key] == value {
		return false
	}
	if notes == nil {
		notes = map[string]string{}
	}
	notes[key] = value
	o.SetAnnotations(notes)
	return true
}

// hash tells values apart without showing them.
func hash(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("hashing %T: %v", value, err))
	}
	h := fnv.New64a()
	h.Write(text)
	return fmt.Sprintf("%x", h.Sum64())
}

func labelSet(o client.Object) labels.Set { return labels.Set(o.GetLabels()) }

// deleteFlagCache is the user deleting the FlagCache.
func (w *World) deleteFlagCache() {
	w.userRemoves(flagCaches, name)
}

// respecify is the user asking for something that needs new pods.
func (w *World) respecify() {
	w.respec(func(spec *v1alpha1.FlagCacheSpec) {
		spec.Service.PodLabels = map[string]v1alpha1.LabelValue{"respecified": "true"}
	})
}

// respec is the user changing the spec.
func (w *World) respec(change func(*v1alpha1.FlagCacheSpec)) {
	edit(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { change(&fc.Spec) })
}
