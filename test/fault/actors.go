// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// Annotations in which actors keep their state, like the real ones.
const (
	// annotationTemplate is the hash of the pod template of the running pods.
	annotationTemplate = "deployment.kubernetes.io/revision"
	// annotationLogins has the logins of a Redis pod that the probe can use.
	annotationLogins = "world.test/logins"
)

// unstartableImage is in the names of images that never start.
const unstartableImage = "broken"

// act runs a step of each actor. They act again as long as any of them changes something.
func (w kube) act() {
	w.nextTick, w.alarm = time.Time{}, time.Time{}
	actors := []func(){w.deploymentController, w.statefulSetController, w.garbageCollector, w.autoscaler, w.namespaceController, w.prober, w.broadcaster, w.canaryOracle().sampler, w.jobController, w.kubelet, w.gateway, w.ackControllers().act}
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

// deploymentController creates pods, and the kubelet starts them: one step observes the spec,
// another one makes the pods available.
func (w kube) deploymentController() {
	for _, o := range w.api.now(deployments) {
		updateAs(&w.api, deployments, o.GetName(), func(d *appsv1.Deployment) { w.stepDeployment(d) })
	}
}

func (w kube) stepDeployment(d *appsv1.Deployment) {
	desired, s := ptr.Deref(d.Spec.Replicas, 1), &d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		s.ObservedGeneration = d.Generation
		if setAnnotation(d, annotationTemplate, hash(d.Spec.Template)) {
			s.UpdatedReplicas = 0
			s.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, LastUpdateTime: metav1.NewTime(w.time)}}
		}
		s.Replicas = desired
		s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = min(s.UpdatedReplicas, desired), min(s.ReadyReplicas, desired), min(s.AvailableReplicas, desired)
	case s.AvailableReplicas == desired && s.UpdatedReplicas == desired:
	case w.canStart(d.Spec.Template.Spec):
		started := w.load().started(d.Spec.Template.Spec.Containers[0].Image, desired)
		s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = desired, started, started
	default:
		w.exceedDeadline(d)
	}
}

// exceedDeadline sets ProgressDeadlineExceeded when the deadline of a Deployment has passed.
func (w kube) exceedDeadline(d *appsv1.Deployment) {
	progress := &d.Status.Conditions[0]
	deadline := progress.LastUpdateTime.Add(time.Duration(ptr.Deref(d.Spec.ProgressDeadlineSeconds, 600)) * time.Second)
	if progress.Status == corev1.ConditionFalse {
		return
	}
	if w.time.Before(deadline) {
		w.setAlarm(deadline)
		return
	}
	progress.Status, progress.Reason = corev1.ConditionFalse, "ProgressDeadlineExceeded"
}

func (w kube) setAlarm(t time.Time) {
	if w.alarm.IsZero() || t.Before(w.alarm) {
		w.alarm = t
	}
}

// canStart reports whether a pod starts: its image works, what it mounts exists, and the flags file
// is valid.
func (w kube) canStart(pod corev1.PodSpec) bool {
	if !w.load().starts(pod.Containers[0].Image) {
		return false
	}
	for _, v := range pod.Volumes {
		if v.Secret != nil && find(w.api.now(secrets), v.Secret.SecretName) == nil {
			return false
		}
		if v.ConfigMap == nil || ptr.Deref(v.ConfigMap.Optional, false) {
			continue
		}
		if !w.readsFlags(v.ConfigMap.Name) {
			return false
		}
	}
	return true
}

// statefulSetController runs the in-cluster Redis, with the users in its Secret when the pod
// starts.
func (w kube) statefulSetController() {
	for _, o := range w.api.now(statefulSets) {
		updateAs(&w.api, statefulSets, o.GetName(), func(d *appsv1.StatefulSet) { w.stepStatefulSet(d) })
	}
}

func (w kube) stepStatefulSet(d *appsv1.StatefulSet) {
	s := &d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		s.ObservedGeneration, s.Replicas = d.Generation, 1
		if setAnnotation(d, annotationTemplate, hash(d.Spec.Template)) {
			s.ReadyReplicas, s.AvailableReplicas = 0, 0
			s.UpdateRevision = d.Annotations[annotationTemplate]
			s.CurrentRevision = cmp.Or(s.CurrentRevision, s.UpdateRevision)
		}
	case s.ReadyReplicas == 0 && w.canStart(d.Spec.Template.Spec):
		secret, _ := live[*corev1.Secret](&w.api.store, secrets, d.Spec.Template.Spec.Volumes[0].Secret.SecretName)
		setAnnotation(d, annotationLogins, probeLogins(string(secret.Data["redis.conf"])))
		s.ReadyReplicas, s.AvailableReplicas, s.CurrentRevision = 1, 1, s.UpdateRevision
	}
}

// userPattern matches the users in the configuration file of Redis, with name and password,
// and probeUserPattern the one that has only the key of the probe.
var (
	userPattern      = regexp.MustCompile(`(?m)^user (\S+) on >(\S*) (.*)$`)
	probeUserPattern = regexp.MustCompile(`(?m)^user probe .*\n`)
)

// probeKeyPattern is how the key of the probe begins in the rules of a user.
const probeKeyPattern = "~flagcache_probe:"

// loginMarker replaces the marker of a credential in annotationLogins, which is no leak.
const loginMarker = "#"

// login returns a login as annotationLogins has it.
func login(user, password string) string {
	return user + ":" + strings.ReplaceAll(password, secretMarker, loginMarker)
}

// probeLogins returns the logins that may use the key of the probe.
func probeLogins(file string) string {
	var logins []string
	for _, user := range userPattern.FindAllStringSubmatch(file, -1) {
		if strings.Contains(user[3], probeKeyPattern) {
			logins = append(logins, login(user[1], user[2]))
		}
	}
	return strings.Join(logins, " ")
}

// garbageCollector deletes the children of a FlagCache that no longer exists.
func (w kube) garbageCollector() {
	owner := find(w.api.now(flagCaches), name)
	for k := secrets; k < kinds; k++ {
		for _, o := range w.api.now(k) {
			ref := metav1.GetControllerOf(o)
			if ref != nil && ref.Kind == "FlagCache" && (owner == nil || owner.GetUID() != ref.UID) {
				w.mustDelete(k, o.GetName())
			}
		}
	}
}

// autoscaler scales its target according to the load.
func (w kube) autoscaler() {
	for _, o := range w.api.now(autoscalers) {
		hpa := o.(*autoscalingv2.HorizontalPodAutoscaler)
		updateAs(&w.api, deployments, hpa.Spec.ScaleTargetRef.Name, func(d *appsv1.Deployment) {
			d.Spec.Replicas = ptr.To(min(max(w.desiredLoad, ptr.Deref(hpa.Spec.MinReplicas, 1)), hpa.Spec.MaxReplicas))
		})
	}
}

// namespaceController deletes the content of a terminating namespace.
func (w kube) namespaceController() {
	if !w.api.terminating {
		return
	}
	for k := range kinds {
		for _, o := range w.api.now(k) {
			w.mustDelete(k, o.GetName())
		}
	}
}

// mustDelete deletes an object, which must exist.
func (w kube) mustDelete(k kind, name string) {
	if err := w.api.remove(k, name, nil); err != nil {
		panic(fmt.Sprintf("removing %s %s: %v", k, name, err))
	}
}

// prober simulates the operator's prober, by key. It has a result one tick after Watch, and
// triggers the operator when the result changes.
type prober map[types.NamespacedName]probeState

// probeState is the state of one target.
type probeState struct {
	target probe.Target
	last   *probe.Result
	fresh  bool
}

// Watch starts or continues to probe a target.
func (p prober) Watch(key types.NamespacedName, t probe.Target) {
	if old, ok := p[key]; ok && hash(old.target) == hash(t) && old.target.Password == t.Password {
		return
	}
	p[key] = probeState{target: t, fresh: true}
}

// Forget stops probing.
func (p prober) Forget(key types.NamespacedName) { delete(p, key) }

// Last returns the latest result.
func (p prober) Last(key types.NamespacedName) (probe.Result, bool) {
	if p[key].last == nil {
		return probe.Result{}, false
	}
	return *p[key].last, true
}

// keys returns the sorted keys of all targets.
func (p prober) keys() []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(p), func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) })
}

// pending reports whether a result is outstanding.
func (p prober) pending() bool {
	for _, watched := range p {
		if watched.last == nil {
			return true
		}
	}
	return false
}

func (w kube) prober() {
	for _, key := range w.redis.keys() {
		w.redis[key] = w.probeOnce(w.redis[key])
	}
}

func (w kube) probeOnce(p probeState) probeState {
	if p.fresh {
		p.fresh = false
		w.nextTick = w.time.Add(tick)
		return p
	}
	result := w.probeResult(p.target)
	result.ID = p.target.ID
	if p.last == nil || *p.last != result {
		p.last = &result
		w.queue.enqueue(w.time)
	}
	return p
}

// probeResult returns the result of a probe of a target.
func (w kube) probeResult(t probe.Target) probe.Result {
	down := probe.Result{Outcome: probe.Unhealthy, Reason: probe.ReasonConnectionRefused, Message: "connection refused"}
	known, running := w.server(t.Addr)
	if set, ok := w.redisPod(t.Addr); ok {
		running = set.Status.ReadyReplicas > 0
		logins := strings.Fields(set.Annotations[annotationLogins])
		if slices.Contains(logins, login(cmp.Or(t.Username, "default"), t.Password.Reveal())) {
			known = ackmodel.AcceptOnly(t.Password.Reveal())
		}
	}
	switch {
	case !running:
		return down
	case !known.Accept(t.Password.Reveal()):
		return probe.Result{Outcome: probe.Unhealthy, Reason: probe.ReasonWrongPassword, Message: "the password is wrong"}
	default:
		w.cloudOracle().recordProbe(t.Addr, t.Password.Reveal())
		return probe.Result{Outcome: probe.Healthy, Reason: probe.ReasonHealthy, Role: "master", Latency: time.Millisecond}
	}
}

// redisPod returns the StatefulSet behind an address in the cluster, which requires a Service that
// selects its pods.
func (w kube) redisPod(address string) (*appsv1.StatefulSet, bool) {
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

// setAnnotation sets an annotation and reports whether it has changed.
func setAnnotation(o client.Object, key, value string) bool {
	annotations := o.GetAnnotations()
	if annotations[key] == value {
		return false
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = value
	o.SetAnnotations(annotations)
	return true
}

// hash returns a digest of a value, to compare values without exposing them.
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

// deleteFlagCache deletes the FlagCache as the user.
func (w user) deleteFlagCache() {
	w.userDeletes(flagCaches, name)
}

// changePodLabels makes a change of the spec that requires new pods.
func (w user) changePodLabels() {
	w.updateSpec(func(spec *v1alpha1.FlagCacheSpec) {
		spec.Service.PodLabels = map[string]v1alpha1.LabelValue{"changed": "true"}
	})
}

// updateSpec changes the spec as the user.
func (w user) updateSpec(change func(*v1alpha1.FlagCacheSpec)) {
	updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { change(&fc.Spec) })
}

// jobController runs load tests: it creates the pod of a Job and, when that has ended, sets the
// condition of the Job according to the result.
func (w kube) jobController() {
	for _, o := range w.api.now(jobs) {
		job := o.(*batchv1.Job)
		_, there := live[*corev1.Pod](&w.api.store, pods, job.Name)
		ends := job.CreationTimestamp.Add(loadTestDuration)
		switch {
		case !there:
			w.createPod(job.Name, map[string]string{batchv1.ControllerUidLabel: string(job.UID)}, metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job")))
			w.setAlarm(ends)
		case len(job.Status.Conditions) > 0:
		case w.time.Before(ends):
			w.setAlarm(ends)
		default:
			w.endLoadTest(job)
		}
	}
}

// endLoadTest ends the pod of a Job with its report.
func (w kube) endLoadTest(job *batchv1.Job) {
	report, code, end := goodReport, int32(0), batchv1.JobComplete
	if strings.Contains(w.load().imageOf(job.Labels[v1alpha1.LabelRevision]), slowImage) {
		report, code, end = badReport, 1, batchv1.JobFailed
	}
	updateAs(&w.api, pods, job.Name, func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: observed.LoadTestContainer, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: report},
		}}}
	})
	updateAs(&w.api, jobs, job.Name, func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: end, Status: corev1.ConditionTrue}}
	})
}

func (w kube) createPod(name string, labels map[string]string, owner *metav1.OwnerReference) {
	w.user().mustCreate(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels, OwnerReferences: []metav1.OwnerReference{*owner}}})
}

// kubelet runs the pods of images that crash. All other pods exist only in the status of their
// Deployments, since the operator does not read them.
func (w kube) kubelet() {
	for _, o := range w.api.now(deployments) {
		d := o.(*appsv1.Deployment)
		crashes := strings.Contains(d.Spec.Template.Spec.Containers[0].Image, crashingImage) && ptr.Deref(d.Spec.Replicas, 1) > 0
		_, there := live[*corev1.Pod](&w.api.store, pods, d.Name)
		switch {
		case crashes && !there:
			// There are no ReplicaSets in the World: this one has the UID of its Deployment.
			set := &metav1.ObjectMeta{Name: d.Name + replicaSetSuffix, UID: d.UID}
			w.createPod(d.Name, d.Spec.Template.Labels, metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet")))
			updateAs(&w.api, pods, d.Name, func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{
					Name: "flag-service", RestartCount: 2,
					State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
				}}
			})
		case !crashes && there:
			w.mustDelete(pods, d.Name)
		}
	}
	w.removeOrphans()
}

// replicaSetSuffix is what the name of a ReplicaSet has after that of its Deployment.
const replicaSetSuffix = "-7d9f"

// removeOrphans deletes pods whose Deployment or Job no longer exists.
func (w kube) removeOrphans() {
	for _, o := range w.api.now(pods) {
		owner := metav1.GetControllerOf(o)
		if owner == nil {
			continue
		}
		of, name := deployments, strings.TrimSuffix(owner.Name, replicaSetSuffix)
		if owner.Kind == "Job" {
			of = jobs
		}
		if there := find(w.api.now(of), name); there == nil || there.GetUID() != owner.UID {
			w.mustDelete(pods, o.GetName())
		}
	}
}
