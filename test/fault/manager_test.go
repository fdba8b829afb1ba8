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
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/service/flags"
)

// eventuallyTimeout is generous because the machine may be busy. Mutants, which are expected to
// fail, get less time.
var eventuallyTimeout = func() time.Duration {
	if os.Getenv("FAULT_MUTANT") != "" {
		return 10 * time.Second
	}
	return time.Minute
}()

// TestManager runs the operator like cmd/manager, with one worker and a real API server. It covers
// what the World only simulates: the workqueue, its back-off, and the watches of SetupWithManager.
func TestManager(t *testing.T) {
	m := startManager(t)
	t.Run("a failing FlagCache does not block others", m.testIsolation)
	t.Run("every watch triggers the operator", m.testWatches)
}

// manager is a running operator; the test acts as the kubelet.
type manager struct {
	client.Client
	space      string
	reconciles *reconcileCounts
	probes     chan event.GenericEvent
}

func startManager(t *testing.T) *manager {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	config := realServer(t)
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatalf("connecting to the API server: %v", err)
	}
	m := &manager{Client: c, space: "managed", reconciles: &reconcileCounts{count: map[string]int{}}, probes: make(chan event.GenericEvent, 1)}
	m.mustCreate(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: m.space}})
	m.mustCreate(t, flagsFile(goodFlags))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	mgr := m.wire(t, config)
	go func() { ended <- mgr.Start(ctx) }()
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
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: controllers.CacheOptions(nil), Metrics: metricsserver.Options{BindAddress: "0"},
		Client: controllers.ClientOptions(),
	})
	if err != nil {
		t.Fatalf("setting up the manager: %v", err)
	}
	allowed, err := controllers.AddAllowed(mgr, nil)
	if err != nil {
		t.Fatalf("setting up the cache of the Secrets of others: %v", err)
	}
	c := bodies.New(faultyClient{mgr.GetClient(), m.reconciles}, mgr.GetAPIReader())
	r := &controllers.Reconciler{
		Client:    c,
		Live:      mgr.GetAPIReader(),
		Allowed:   c.Beside(allowed.GetClient()),
		FlagFiles: &controllers.FlagFiles{Metadata: mgr.GetClient(), Validate: flags.Validate},
		Prober:    &healthyProber{},
		Sampler:   &sampler{},
		Events:    mgr.GetEventRecorder("flagcache"),
		Clock:     clock.RealClock{},
		Operator:  observed.Operator{Namespace: "flagcache-system", ClusterID: "cluster-1", FlagServiceImage: "flag-service:v1"},
	}
	if err := r.SetupWithManager(mgr, allowed.GetCache(), m.probes, 1); err != nil {
		t.Fatalf("setting up the controller: %v", err)
	}
	return mgr
}

// reconcileCounts counts the reconciliations of each FlagCache.
type reconcileCounts struct {
	mu    sync.Mutex
	count map[string]int
}

func (l *reconcileCounts) add(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[name]++
}

func (l *reconcileCounts) of(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[name]
}

// faultyClient is a client whose reads of some FlagCaches fail or panic.
type faultyClient struct {
	client.Client
	reconciles *reconcileCounts
}

// Names of the FlagCaches whose reads fail or panic.
const (
	failing   = "failing"
	panicking = "panicking"
)

func (p faultyClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if _, ok := o.(*v1alpha1.FlagCache); ok {
		p.reconciles.add(key.Name)
		switch key.Name {
		case failing:
			return errors.New("injected")
		case panicking:
			panic("injected")
		}
	}
	return p.Client.Get(ctx, key, o, options...)
}

// healthyProber is a prober for which every cache is healthy.
type healthyProber struct{ ids sync.Map }

// Watch remembers the ID of the target.
func (c *healthyProber) Watch(key types.NamespacedName, t probe.Target) { c.ids.Store(key, t.ID) }

// Forget removes the ID of the target.
func (c *healthyProber) Forget(key types.NamespacedName) { c.ids.Delete(key) }

// Last returns a healthy result.
func (c *healthyProber) Last(key types.NamespacedName) (probe.Result, bool) {
	id, watched := c.ids.Load(key)
	if !watched {
		return probe.Result{}, false
	}
	return probe.Result{ID: id.(string), Outcome: probe.Healthy, Reason: probe.ReasonHealthy, Role: "master", Latency: time.Millisecond}, true
}

// testIsolation verifies L5: FlagCaches whose reconciliation always fails or panics are retried
// with back-off, and five others become Ready with a single worker.
func (m *manager) testIsolation(t *testing.T) {
	start := time.Now()
	for _, failed := range []string{failing, panicking} {
		m.mustCreate(t, withName(failed, aFlagCache()))
	}
	g := NewWithT(t)
	for _, failed := range []string{failing, panicking} {
		g.Eventually(func() int { return m.reconciles.of(failed) }, eventuallyTimeout).Should(BeNumerically(">", 2), "the queue retries")
	}
	for i := range 5 {
		m.mustCreate(t, withName(fmt.Sprintf("healthy-%d", i), withAutoscaling(aFlagCache())))
	}
	for i := range 5 {
		m.awaitReady(t, fmt.Sprintf("healthy-%d", i))
	}
	for _, failed := range []string{failing, panicking} {
		n := m.reconciles.of(failed)
		limit := 2 + math.Log2(1+float64(time.Since(start))/float64(firstBackoff))
		g.Expect(float64(n)).To(BeNumerically("<=", limit), "the back-off of %s doubles each time", failed)
	}
}

// testWatches verifies that deleted children are recreated, and that changes of referenced objects
// are observed. The operator is idle before each change, so that nothing else triggers it.
func (m *manager) testWatches(t *testing.T) {
	const name = "watching"
	m.mustCreate(t, withName(name, withAutoscaling(aFlagCache())))
	g := NewWithT(t)
	for k, children := range cacheSelectors {
		k := kind(k)
		if children == nil && k != configMaps || k == jobs || k == serviceAccounts || ack.KindOf(kindInfos[k].new()).Kind != "" {
			continue // a Job is there only while a candidate is tested under load, an account only for IAM, ACK not at all
		}
		m.awaitReady(t, name)
		m.awaitIdle(t, name)
		child := m.childOf(t, name, k)
		g.Expect(m.Delete(t.Context(), child)).To(Succeed())
		g.Eventually(func() error { return m.Get(t.Context(), client.ObjectKeyFromObject(child), kindInfos[k].new()) }, eventuallyTimeout).
			Should(Succeed(), "a deleted %s is recreated", k)
	}
	m.awaitReady(t, name)
	m.awaitIdle(t, name)
	before := m.reconciles.of(name)
	m.probes <- event.GenericEvent{Object: withName(name, &v1alpha1.FlagCache{})}
	g.Eventually(func() int { return m.reconciles.of(name) }, eventuallyTimeout).Should(BeNumerically(">", before), "a probe result triggers a reconciliation")

	m.awaitIdle(t, name)
	m.edit(t, "demo-flags", &corev1.ConfigMap{}, func(o client.Object) { o.(*corev1.ConfigMap).Data["flags.json"] = "{" })
	m.awaitCondition(t, name, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse)
	m.edit(t, "demo-flags", &corev1.ConfigMap{}, func(o client.Object) { o.(*corev1.ConfigMap).Data["flags.json"] = goodFlags })
	m.awaitCondition(t, name, v1alpha1.ConditionFlagsValid, metav1.ConditionTrue)

	m.mustCreate(t, withName("outside", external(aFlagCache())))
	m.awaitCondition(t, "outside", v1alpha1.ConditionConnectionReady, metav1.ConditionFalse)
	m.awaitIdle(t, "outside")
	m.mustCreate(t, externalSecret(externalHost))
	m.awaitCondition(t, "outside", v1alpha1.ConditionConnectionReady, metav1.ConditionTrue)
}

// mustCreate creates an object in the manager's namespace.
func (m *manager) mustCreate(t *testing.T, o client.Object) {
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

// awaitCondition acts as the kubelet until a condition of a FlagCache has a status.
func (m *manager) awaitCondition(t *testing.T, name, condition string, status metav1.ConditionStatus) {
	t.Helper()
	NewWithT(t).Eventually(func(g Gomega) {
		m.startPods(g, t.Context())
		fc := &v1alpha1.FlagCache{}
		g.Expect(m.Get(t.Context(), client.ObjectKey{Namespace: m.space, Name: name}, fc)).To(Succeed())
		c := meta.FindStatusCondition(fc.Status.Conditions, condition)
		g.Expect(c).NotTo(BeNil(), "condition %s of %s", condition, name)
		g.Expect(c.Status).To(Equal(status), "condition %s of %s is %s: %s", condition, name, c.Reason, c.Message)
	}, eventuallyTimeout).Should(Succeed())
}

func (m *manager) awaitReady(t *testing.T, name string) {
	t.Helper()
	m.awaitCondition(t, name, v1alpha1.ConditionReady, metav1.ConditionTrue)
}

// awaitIdle waits until a FlagCache is no longer reconciled.
func (m *manager) awaitIdle(t *testing.T, name string) {
	t.Helper()
	last := -1
	NewWithT(t).Eventually(func() bool {
		before := last
		last = m.reconciles.of(name)
		return before == last
	}, eventuallyTimeout, 300*time.Millisecond).Should(BeTrue(), "%s is reconciled repeatedly", name)
}

// startPods makes all requested pods available.
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

// childOf returns the first child of a kind by name.
func (m *manager) childOf(t *testing.T, owner string, k kind) client.Object {
	t.Helper()
	list, err := scheme.New(kindInfos[k].gvk.GroupVersion().WithKind(kindInfos[k].gvk.Kind + "List"))
	if err != nil {
		t.Fatalf("creating a list of %s: %v", k, err)
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

// withName renames a FlagCache.
func withName(name string, fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Name = name
	return fc
}

func withAutoscaling(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 2, MaxReplicas: 3, TargetCPUPercent: 70}
	return fc
}
