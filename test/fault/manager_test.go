// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
)

// soon is how long a busy machine may take for what an idle one does at once. A
// mutant, which is expected to fail, gets less.
var soon = func() time.Duration {
	if os.Getenv("FAULT_MUTANT") != "" {
		return 10 * time.Second
	}
	return time.Minute
}()

// TestManager runs the operator as cmd/manager does, with one worker, against a
// real API server: what the World only plays is the real thing here, the
// workqueue and its back-off, and the watches that SetupWithManager wires.
func TestManager(t *testing.T) {
	m := startManager(t)
	t.Run("a poisoned FlagCache holds up no other", m.isolation)
	t.Run("every watch wakes the operator", m.watches)
}

// manager is a running operator, and the kubelet, which the test plays.
type manager struct {
	client.Client
	space  string
	looks  *looks
	probes chan event.GenericEvent
}

func startManager(t *testing.T) *manager {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	config := realServer(t)
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatalf("connecting to the API server: %v", err)
	}
	m := &manager{Client: c, space: "managed", looks: &looks{count: map[string]int{}}, probes: make(chan event.GenericEvent, 1)}
	m.make(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: m.space}})
	m.make(t, flagsFile(goodFlags))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	wired := m.wire(t, config)
	go func() { ended <- wired.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("running the manager: %v", err)
		}
	})
	return m
}

func (m *manager) wire(t *testing.T, config *rest.Config) ctrl.Manager {
	t.Helper()
	wired, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: controllers.CacheOptions(nil), Metrics: metricsserver.Options{BindAddress: "0"},
		Client: client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: ptr.To(true)}},
	})
	if err != nil {
		t.Fatalf("setting up the manager: %v", err)
	}
	options := controllers.FlagFilesCacheOptions(nil)
	options.Scheme, options.Mapper, options.HTTPClient = scheme, wired.GetRESTMapper(), wired.GetHTTPClient()
	flagFiles, err := cache.New(config, options)
	if err != nil {
		t.Fatalf("setting up the cache of flag files: %v", err)
	}
	if err := wired.Add(flagFiles); err != nil {
		t.Fatalf("adding the cache of flag files: %v", err)
	}
	r := &controllers.Reconciler{
		Client:    poisoned{wired.GetClient(), m.looks},
		Live:      wired.GetAPIReader(),
		FlagFiles: &controllers.FlagFiles{Metadata: flagFiles, Validate: validate},
		Prober:    &content{},
		Sampler:   &sampler{},
		Events:    wired.GetEventRecorder("flagcache"),
		Clock:     clock.RealClock{},
		Operator:  observed.Operator{Namespace: "flagcache-system", FlagServiceImage: "flag-service:v1"},
	}
	if err := r.SetupWithManager(wired, flagFiles, m.probes, 1); err != nil {
		t.Fatalf("setting up the controller: %v", err)
	}
	return wired
}

// looks counts how often each FlagCache was looked at.
type looks struct {
	mu    sync.Mutex
	count map[string]int
}

func (l *looks) add(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[name]++
}

func (l *looks) at(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[name]
}

// poisoned is the operator's client, which fails and panics at some FlagCaches.
type poisoned struct {
	client.Client
	looks *looks
}

// What is wrong with FlagCaches that are called so.
const (
	failing   = "failing"
	panicking = "panicking"
)

func (p poisoned) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if _, ok := o.(*v1alpha1.FlagCache); ok {
		p.looks.add(key.Name)
		switch key.Name {
		case failing:
			return errors.New("poisoned")
		case panicking:
			panic("poisoned")
		}
	}
	return p.Client.Get(ctx, key, o, options...)
}

// content is a prober to which every cache is healthy.
type content struct{ ids sync.Map }

// Watch keeps what an answer says that it is about.
func (c *content) Watch(key types.NamespacedName, t probe.Target) { c.ids.Store(key, t.ID) }

// Forget has nothing more to say.
func (c *content) Forget(key types.NamespacedName) { c.ids.Delete(key) }

// Last is always the same.
func (c *content) Last(key types.NamespacedName) (probe.Result, bool) {
	id, watched := c.ids.Load(key)
	if !watched {
		return probe.Result{}, false
	}
	return probe.Result{ID: id.(string), Outcome: probe.Healthy, Reason: probe.ReasonHealthy, Role: "master", Latency: time.Millisecond}, true
}

// isolation: L5, FlagCaches at which every look fails or panics are retried
// with back-off, and five others become Ready beside them with a single worker.
func (m *manager) isolation(t *testing.T) {
	began := time.Now()
	for _, sick := range []string{failing, panicking} {
		m.make(t, called(sick, aFlagCache()))
	}
	g := NewWithT(t)
	for _, sick := range []string{failing, panicking} {
		g.Eventually(func() int { return m.looks.at(sick) }, soon).Should(BeNumerically(">", 2), "the queue tries again")
	}
	for i := range 5 {
		m.make(t, called(fmt.Sprintf("healthy-%d", i), autoscaled(aFlagCache())))
	}
	for i := range 5 {
		m.awaitReady(t, fmt.Sprintf("healthy-%d", i))
	}
	for _, sick := range []string{failing, panicking} {
		n := m.looks.at(sick)
		most := 2 + math.Log2(1+float64(time.Since(began))/float64(firstBackoff))
		g.Expect(float64(n)).To(BeNumerically("<=", most), "the back-off of %s doubles each time", sick)
	}
}

// watches: what the operator made comes back when it is deleted, and what it
// refers to is read again when it changes. It is at rest before each, so that
// nothing else wakes it.
func (m *manager) watches(t *testing.T) {
	const name = "watching"
	m.make(t, called(name, autoscaled(aFlagCache())))
	g := NewWithT(t)
	for k, children := range cacheSelectors {
		k := kind(k)
		if children == nil || k == jobs || k == serviceAccounts || ack.KindOf(facts[k].new()).Kind != "" {
			continue // a Job is there only while a candidate is tested under load, an account only for IAM, ACK not at all
		}
		m.awaitReady(t, name)
		m.awaitRest(t, name)
		gone := m.childOf(t, name, k)
		g.Expect(m.Delete(t.Context(), gone)).To(Succeed())
		g.Eventually(func() error { return m.Get(t.Context(), client.ObjectKeyFromObject(gone), facts[k].new()) }, soon).
			Should(Succeed(), "a deleted %s is made again", k)
	}
	m.awaitReady(t, name)
	m.awaitRest(t, name)
	before := m.looks.at(name)
	m.probes <- event.GenericEvent{Object: called(name, &v1alpha1.FlagCache{})}
	g.Eventually(func() int { return m.looks.at(name) }, soon).Should(BeNumerically(">", before), "news of the prober are looked at")

	m.awaitRest(t, name)
	m.edit(t, "demo-flags", &corev1.ConfigMap{}, func(o client.Object) { o.(*corev1.ConfigMap).Data["flags.json"] = "{" })
	m.await(t, name, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse)
	m.edit(t, "demo-flags", &corev1.ConfigMap{}, func(o client.Object) { o.(*corev1.ConfigMap).Data["flags.json"] = goodFlags })
	m.await(t, name, v1alpha1.ConditionFlagsValid, metav1.ConditionTrue)

	m.make(t, called("outside", external(aFlagCache())))
	m.await(t, "outside", v1alpha1.ConditionConnectionReady, metav1.ConditionFalse)
	m.awaitRest(t, "outside")
	m.make(t, externalSecret(externalHost))
	m.await(t, "outside", v1alpha1.ConditionConnectionReady, metav1.ConditionTrue)
}

// make creates an object in the manager's namespace.
func (m *manager) make(t *testing.T, o client.Object) {
	t.Helper()
	if _, isNamespace := o.(*corev1.Namespace); !isNamespace {
		o.SetNamespace(m.space)
	}
	if err := m.Create(t.Context(), o); err != nil {
		t.Fatalf("creating %T %s: %v", o, o.GetName(), err)
	}
}

func (m *manager) edit(t *testing.T, name string, o client.Object, change func(client.Object)) {
	t.Helper()
	NewWithT(t).Expect(m.Get(t.Context(), client.ObjectKey{Namespace: m.space, Name: name}, o)).To(Succeed())
	change(o)
	NewWithT(t).Expect(m.Update(t.Context(), o)).To(Succeed())
}

// await plays the kubelet until a condition of a FlagCache is so.
func (m *manager) await(t *testing.T, name, condition string, status metav1.ConditionStatus) {
	t.Helper()
	NewWithT(t).Eventually(func(g Gomega) {
		m.startPods(g, t.Context())
		fc := &v1alpha1.FlagCache{}
		g.Expect(m.Get(t.Context(), client.ObjectKey{Namespace: m.space, Name: name}, fc)).To(Succeed())
		c := meta.FindStatusCondition(fc.Status.Conditions, condition)
		g.Expect(c).NotTo(BeNil(), "condition %s of %s", condition, name)
		g.Expect(c.Status).To(Equal(status), "condition %s of %s is %s: %s", condition, name, c.Reason, c.Message)
	}, soon).Should(Succeed())
}

func (m *manager) awaitReady(t *testing.T, name string) {
	t.Helper()
	m.await(t, name, v1alpha1.ConditionReady, metav1.ConditionTrue)
}

// awaitRest waits until the operator has no more reason to look at a FlagCache.
func (m *manager) awaitRest(t *testing.T, name string) {
	t.Helper()
	last := -1
	NewWithT(t).Eventually(func() bool {
		before := last
		last = m.looks.at(name)
		return before == last
	}, soon, 300*time.Millisecond).Should(BeTrue(), "%s is looked at again and again", name)
}

// startPods makes every pod available that is asked for.
func (m *manager) startPods(g Gomega, ctx context.Context) {
	revisions, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
	g.Expect(m.List(ctx, revisions, client.InNamespace(m.space))).To(Succeed())
	for i := range revisions.Items {
		d := &revisions.Items[i]
		if n := ptr.Deref(d.Spec.Replicas, 1); d.Status.AvailableReplicas != n || d.Status.ObservedGeneration != d.Generation {
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			g.Expect(m.Status().Update(ctx, d)).To(Succeed())
		}
	}
	g.Expect(m.List(ctx, sets, client.InNamespace(m.space))).To(Succeed())
	for i := range sets.Items {
		if s := &sets.Items[i]; s.Status.AvailableReplicas != 1 || s.Status.ObservedGeneration != s.Generation {
			s.Status = appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
			g.Expect(m.Status().Update(ctx, s)).To(Succeed())
		}
	}
}

// childOf is a child of a kind, the first one by name.
func (m *manager) childOf(t *testing.T, owner string, k kind) client.Object {
	t.Helper()
	list, err := scheme.New(facts[k].gvk.GroupVersion().WithKind(facts[k].gvk.Kind + "List"))
	if err != nil {
		t.Fatalf("making a list of %s: %v", k, err)
	}
	if err := m.List(t.Context(), list.(client.ObjectList), client.InNamespace(m.space), client.MatchingLabels{v1alpha1.LabelName: owner}); err != nil {
		t.Fatalf("listing the children of kind %s: %v", k, err)
	}
	children, err := meta.ExtractList(list)
	if err != nil || len(children) == 0 {
		t.Fatalf("%s has no child of kind %s: %v", owner, k, err)
	}
	return children[0].(client.Object)
}

// called gives a FlagCache another name.
func called(name string, fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Name = name
	return fc
}

func autoscaled(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 2, MaxReplicas: 3, TargetCPUPercent: 70}
	return fc
}
