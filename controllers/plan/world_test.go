// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/test/golden"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// aFlagCache is a minimal one with the defaults of the API server.
func aFlagCache() *v1alpha1.FlagCache {
	return &v1alpha1.FlagCache{
		ObjectMeta: metav1.ObjectMeta{
			Name: "demo", Namespace: "shop", UID: "uid-1", Generation: 1,
			Finalizers: []string{v1alpha1.Finalizer},
		},
		Status: v1alpha1.FlagCacheStatus{Operator: "flagcache-system"},
		Spec: v1alpha1.FlagCacheSpec{
			Environment:    "default",
			DeletionPolicy: v1alpha1.DeletionDelete,
			Cache:          v1alpha1.CacheSpec{Type: v1alpha1.CacheInCluster, TTL: metav1.Duration{Duration: 5 * time.Minute}},
			Flags: v1alpha1.FlagsSpec{
				Type:      v1alpha1.FlagsConfigMap,
				ConfigMap: &v1alpha1.ConfigMapKey{Name: "demo-flags", Key: "flags.json"},
			},
			Service: v1alpha1.ServiceSpec{
				Redis: v1alpha1.RedisClientSpec{PoolSize: 10, DialTimeout: metav1.Duration{Duration: 2 * time.Second}},
			},
			Probe: v1alpha1.ProbeSpec{
				Interval: metav1.Duration{Duration: 10 * time.Second}, Timeout: metav1.Duration{Duration: 2 * time.Second},
				FailureThreshold: 3, SuccessThreshold: 2,
			},
		},
	}
}

// withExternal points a FlagCache at the Secret my-redis.
func withExternal(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Cache.Type = v1alpha1.CacheExternal
	fc.Spec.Cache.External = &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "my-redis"}}
	return fc
}

// world is a cluster that applies plans. Nothing in it becomes ready by itself.
type world struct {
	t        *testing.T
	fc       *v1alpha1.FlagCache
	secret   observed.ExternalSecret
	database observed.ExternalSecret
	flags    observed.Flags
	// document is the flags file, if there is one.
	document  string
	delivery  observed.Delivery
	broadcast observed.Broadcast
	probe     observed.Probe
	children  []observed.Object
	trace     []string
	now       time.Time
	evidence  canary.Evidence
	pods      map[string]observed.PodFailure
	cachePods observed.PodFailure
	loadTests map[types.UID]observed.LoadTest
	// autoscalers of others, by revision.
	autoscalers map[string]string
	routes      map[string]observed.Route
	// violations are what the policy does not permit.
	violations []policy.Violation
	// nextProbe is the result about the connection to verify, ack the installed kinds,
	// ackLacks the fields that their CRDs lack.
	nextProbe observed.Probe
	ack       map[string]bool
	ackLacks  map[string][]string
	// applied are the objects of ACK's kinds as the operator applied them last.
	applied map[string]observed.Object
	// clusterID is what the operator knows the cluster by.
	clusterID string
	// adoptionPermitted is what the administrator's policy says.
	adoptionPermitted bool
	// made counts the created children.
	made int
}

// aWorld holds one FlagCache with valid flags and, for an in-cluster Redis, the password
// that the first reconcile stored.
func aWorld(t *testing.T, fc *v1alpha1.FlagCache) *world {
	w := anEmptyWorld(t, fc)
	if fc.Spec.Cache.Type == v1alpha1.CacheInCluster {
		w.put(&corev1.Secret{ObjectMeta: observed.ChildMeta(fc, observed.RedisName(fc), v1alpha1.ComponentCache), Data: map[string][]byte{"password": []byte("password-0"), "probe-password": []byte("probe-0")}})
	}
	return w
}

// anEmptyWorld holds one FlagCache with valid flags and nothing else.
func anEmptyWorld(t *testing.T, fc *v1alpha1.FlagCache) *world {
	return &world{t: t, fc: fc, flags: observed.Flags{State: observed.FlagsLoaded}, document: "the first flags", now: noon, clusterID: "cluster-1"}
}

// digestOf returns the digest of a document of flags.
func digestOf(document string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(document))) }

// flagsFile is the flags file as it was read.
func (w *world) flagsFile() observed.Flags {
	file := w.flags
	if file.State == observed.FlagsLoaded {
		file.Digest = digestOf(w.document)
	}
	return file
}

func (w *world) snapshot() observed.Snapshot {
	return observed.Snapshot{
		Now:               w.now,
		FlagCache:         w.fc,
		Operator:          observed.Operator{Namespace: "flagcache-system", ClusterID: w.clusterID, FlagServiceImage: "flag-service:v1"},
		Fresh:             observed.Fresh{Password: secret.New(fmt.Sprintf("password-%d", len(w.trace))), ProbePassword: secret.New(fmt.Sprintf("probe-%d", len(w.trace))), IntegrityKey: secret.New("key"), Token: secret.New(fmt.Sprintf("token-%d", w.now.Unix()))},
		Violations:        w.violations,
		AdoptionPermitted: w.adoptionPermitted,
		ExternalSecret:    w.secret,
		DatabaseSecret:    w.database,
		Flags:             w.flagsFile(),
		Delivery:          w.delivery,
		Broadcast:         w.broadcast,
		Autoscalers:       w.autoscalers,
		Probe:             w.probe,
		NextProbe:         w.nextProbe,
		ACK:               w.ack,
		ACKLacks:          w.ackLacks,
		Evidence:          w.evidence,
		Pods:              w.pods,
		CachePods:         w.cachePods,
		LoadTests:         w.loadTests,
		Routes:            w.readRoutes(),
		Children:          w.children,
	}
}

// index is the snapshot with its children looked up.
func (w *world) index() *observed.Index { return observed.NewIndex(w.snapshot()) }

// reconcile applies the plan and returns it.
func (w *world) reconcile() Plan {
	p := Make(w.snapshot())
	if p.Publish != nil {
		document := []byte(w.document)
		if p.Publish.Content != nil {
			document = p.Publish.Content
		}
		w.put(p.Publish.ConfigMap(document))
	}
	for _, o := range p.Apply {
		w.put(o)
	}
	for _, route := range p.Routes {
		w.putRoute(route)
	}
	for _, o := range p.Delete {
		w.remove(o)
	}
	switch p.Finalizer {
	case AddFinalizer:
		w.fc.Finalizers = append(w.fc.Finalizers, v1alpha1.Finalizer)
	case RemoveFinalizer:
		w.fc.Finalizers = nil
	}
	w.fc.Status = p.Status
	w.trace = append(w.trace, w.frame())
	return p
}

// remove deletes an object as an API server does: finalizers delay it.
func (w *world) remove(o observed.Object) {
	i := slices.IndexFunc(w.children, func(c observed.Object) bool { return observed.Same(c, o) })
	if i < 0 || len(w.children[i].GetFinalizers()) == 0 {
		w.children = without(w.children, o)
		return
	}
	at := metav1.NewTime(w.now)
	w.children[i].SetDeletionTimestamp(&at)
	w.children[i].SetGeneration(w.children[i].GetGeneration() + 1)
}

// put stores an object as an API server does: it keeps the status, and a changed spec
// increments the generation.
func (w *world) put(o observed.Object) {
	o = o.DeepCopyObject().(observed.Object)
	if ack.Is(o) {
		o = w.merge(o)
	}
	i := slices.IndexFunc(w.children, func(c observed.Object) bool { return observed.Same(c, o) })
	if i < 0 {
		w.made++
		o.SetUID(types.UID(fmt.Sprintf("%s-child-%d", w.fc.UID, w.made)))
		o.SetCreationTimestamp(metav1.NewTime(w.now))
		o.SetGeneration(1)
		w.children = append(w.children, o)
		return
	}
	o.SetUID(w.children[i].GetUID())
	o.SetCreationTimestamp(w.children[i].GetCreationTimestamp())
	o.SetGeneration(w.children[i].GetGeneration())
	switch o := o.(type) {
	case *appsv1.Deployment:
		old := w.children[i].(*appsv1.Deployment)
		o.Status = old.Status
		if !cmp.Equal(old.Spec, o.Spec) {
			o.Generation++
		}
	case *batchv1.Job:
		o.Status = w.children[i].(*batchv1.Job).Status
	case *appsv1.StatefulSet:
		old := w.children[i].(*appsv1.StatefulSet)
		o.Status = old.Status
		if !cmp.Equal(old.Spec, o.Spec) {
			o.Generation++
		}
	default:
		if ack.Is(o) && !sameSpec(o, w.children[i]) {
			o.SetGeneration(o.GetGeneration() + 1)
		}
	}
	w.children[i] = o
}

// merge returns the result of a server-side apply of an object of ACK's kinds, which ACK writes too:
// its fields stay, and those that were applied before and are not any more are removed.
func (w *world) merge(o observed.Object) observed.Object {
	before := w.applied[name(o)]
	if w.applied == nil {
		w.applied = map[string]observed.Object{}
	}
	w.applied[name(o)] = o.DeepCopyObject().(observed.Object)
	i := slices.IndexFunc(w.children, func(c observed.Object) bool { return observed.Same(c, o) })
	if i < 0 {
		return o
	}
	merged := w.children[i].DeepCopyObject().(observed.Object)
	spec, was, is := specOf(merged), specOf(before), specOf(o)
	for f := range spec.NumField() {
		if !was.Field(f).IsZero() || !is.Field(f).IsZero() {
			spec.Field(f).Set(is.Field(f))
		}
	}
	annotations := map[string]string{}
	for key, value := range w.children[i].GetAnnotations() {
		if _, ours := before.GetAnnotations()[key]; !ours {
			annotations[key] = value
		}
	}
	maps.Copy(annotations, o.GetAnnotations())
	merged.SetAnnotations(annotations)
	merged.SetLabels(o.GetLabels())
	merged.SetOwnerReferences(o.GetOwnerReferences())
	return merged
}

func specOf(o observed.Object) reflect.Value { return reflect.ValueOf(o).Elem().FieldByName("Spec") }

func sameSpec(a, b observed.Object) bool {
	return equality.Semantic.DeepEqual(specOf(a).Interface(), specOf(b).Interface())
}

// podsAvailable has the pods of every Deployment and StatefulSet available.
func (w *world) podsAvailable() {
	for _, c := range w.children {
		switch o := c.(type) {
		case *appsv1.Deployment:
			n := ptr.Deref(o.Spec.Replicas, 1)
			o.Status = appsv1.DeploymentStatus{ObservedGeneration: o.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
		case *appsv1.StatefulSet:
			o.Status = appsv1.StatefulSetStatus{ObservedGeneration: o.Generation, Replicas: 1, ReadyReplicas: 1}
		}
	}
}

// candidateStuck lets the newest Deployment exceed its progress deadline.
func (w *world) candidateStuck() {
	d := mustFind[*appsv1.Deployment](w, w.fc.Name+"-"+w.fc.Status.Revisions.Candidate)
	d.Status.ObservedGeneration = d.Generation
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
}

// edit changes the spec as a user does.
func (w *world) edit(change func(*v1alpha1.FlagCacheSpec)) {
	change(&w.fc.Spec)
	w.fc.Generation++
}

// ready brings a new world to Ready.
func (w *world) ready() *world {
	w.reconcile()
	w.podsAvailable()
	w.probe = observed.Probe{Health: observed.Healthy, Latency: "1ms", Role: "master"}
	w.reconcile()
	w.reconcile()
	w.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	w.trace = nil
	return w
}

func (w *world) condition(kind string) metav1.Condition {
	w.t.Helper()
	c := meta.FindStatusCondition(w.fc.Status.Conditions, kind)
	if c == nil {
		w.t.Fatalf("condition %s does not exist", kind)
	}
	return *c
}

func (w *world) expect(kind string, status metav1.ConditionStatus, reason string) {
	w.t.Helper()
	if c := w.condition(kind); c.Status != status || c.Reason != reason {
		w.t.Errorf("%s is %s (%s: %s), want %s (%s)", kind, c.Status, c.Reason, c.Message, status, reason)
	}
}

func (w *world) expectMessage(kind string, parts ...string) {
	w.t.Helper()
	for _, part := range parts {
		if c := w.condition(kind); !strings.Contains(c.Message, part) {
			w.t.Errorf("the message of %s is %q, it lacks %q", kind, c.Message, part)
		}
	}
}

// expectSilence expects that another reconcile changes nothing.
func (w *world) expectSilence() {
	w.t.Helper()
	children, status := names(w.children), *w.fc.Status.DeepCopy()
	before := map[string]observed.Object{}
	for _, c := range w.children {
		before[name(c)] = c.DeepCopyObject().(observed.Object)
	}
	p := w.reconcile()
	if len(p.Delete) > 0 || p.Finalizer != KeepFinalizer {
		w.t.Errorf("the steady state is changed: deleting %v, finalizer %v", names(p.Delete), p.Finalizer)
	}
	if d := cmp.Diff(children, names(w.children)); d != "" {
		w.t.Errorf("the steady state changes (-before +after):\n%s", d)
	}
	for _, c := range w.children {
		if d := cmp.Diff(before[name(c)], c); d != "" {
			w.t.Errorf("%s still changes (-before +after):\n%s", name(c), d)
		}
	}
	if d := cmp.Diff(status, w.fc.Status); d != "" {
		w.t.Errorf("the status of the steady state changes (-before +after):\n%s", d)
	}
}

// frame is one line of a trace: what clients get and what a user reads.
func (w *world) frame() string {
	serves := "-"
	if svc, ok := observed.Get[*corev1.Service](w.index(), w.fc.Name); ok {
		serves = svc.Spec.Selector[v1alpha1.LabelRevision]
	}
	var revisions []string
	for _, c := range w.children {
		if d, ok := c.(*appsv1.Deployment); ok {
			revisions = append(revisions, fmt.Sprintf("%s(%d/%d)", d.Labels[v1alpha1.LabelRevision], d.Status.AvailableReplicas, ptr.Deref(d.Spec.Replicas, 1)))
		}
	}
	ready := meta.FindStatusCondition(w.fc.Status.Conditions, v1alpha1.ConditionReady)
	kstatus := ""
	for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if meta.IsStatusConditionTrue(w.fc.Status.Conditions, kind) {
			kstatus = " " + kind
		}
	}
	line := fmt.Sprintf("service→%s  pods %s  Ready=%s %s%s", serves, strings.Join(revisions, " "), ready.Status, ready.Reason, kstatus)
	return line
}

// note adds a comment to the trace.
func (w *world) note(text string) { w.trace = append(w.trace, "# "+text) }

func mustFind[T observed.Object](w *world, name string) T {
	w.t.Helper()
	o, ok := observed.Get[T](w.index(), name)
	if !ok {
		w.t.Fatalf("%T %s does not exist among %v", o, name, names(w.children))
	}
	return o
}

func name(o observed.Object) string { return observed.KindOf(o) + " " + o.GetName() }

func names(objects []observed.Object) []string {
	var names []string
	for _, o := range objects {
		names = append(names, name(o))
	}
	return names
}

// expectGolden compares with a golden file.
func expectGolden(t *testing.T, file, got string) {
	t.Helper()
	golden.Expect(t, file, got)
}
