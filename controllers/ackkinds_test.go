// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/event"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/ackkinds"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/test/ackcrds"
)

// These specs use their own API server, because they install kinds that others do not
// expect.
var _ = Describe("ACK kinds", Ordered, func() {
	var o *operator

	BeforeAll(func(ctx SpecContext) {
		own := &envtest.Environment{
			CRDDirectoryPaths:     []string{filepath.Join("..", "config", "crd", "bases")},
			ErrorIfCRDPathMissing: true,
		}
		config, err := own.Start()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { Expect(own.Stop()).To(Succeed()) })
		o = startOperator(ctx, config)
	})

	It("hold back all reconciles until they were discovered once", func(ctx SpecContext) {
		Eventually(ctx, o.discovery.requests.Load).WithTimeout(time.Minute).Should(BeNumerically(">", 10), "discovery is repeated")
		Expect(o.reconciles.at("incluster")).To(BeZero())
		o.discovery.fails.Store(false)
		o.expectChild(ctx)
	})

	It("may all be missing", func(ctx SpecContext) {
		Expect(o.kinds.Installed()).To(HaveLen(len(ack.Kinds())))
		Expect(o.kinds.Installed()).NotTo(ContainElement(true))
		o.expectChild(ctx)
	})

	It("are watched while they are installed", func(ctx SpecContext) {
		baseline := 0
		for round := range 5 {
			o.expectReconciled(ctx, "elasticache", func() { o.install(ctx, crdOf("ReplicationGroup"), crdOf("MetricAlarm")) })
			o.expectInstalled(ctx, true, "ReplicationGroup", "MetricAlarm")
			Expect(o.kinds.Installed()).To(HaveKeyWithValue("SecurityGroup", false))

			group := o.groupOf(ctx, "elasticache")
			o.expectReconciled(ctx, "elasticache", func() {
				Expect(o.routed.Create(ctx, group)).To(Succeed())
			})
			groups := &ack.ReplicationGroupList{}
			Expect(o.routed.List(ctx, groups, client.InNamespace("default"))).To(Succeed(), "writes are read back immediately")
			Expect(groups.Items).To(HaveLen(1))
			Expect(groups.Items[0].ManagedFields).To(BeEmpty(), "managed fields are not cached")

			o.expectReconciled(ctx, "elasticache", func() { o.uninstall(ctx, crdOf("ReplicationGroup"), crdOf("MetricAlarm")) })
			o.expectInstalled(ctx, false, "ReplicationGroup", "MetricAlarm")
			Expect(meta.IsNoMatchError(o.routed.List(ctx, groups))).To(BeTrue(), "the kind is unknown to the operator")
			if round == 0 {
				baseline = runtime.NumGoroutine()
			}
		}
		Eventually(ctx, runtime.NumGoroutine).WithTimeout(time.Minute).Should(BeNumerically("<=", baseline+2), "no goroutine of an uninstalled kind remains")
	})

	It("can be uninstalled without affecting FlagCaches", func(ctx SpecContext) {
		o.install(ctx, crdOf("ReplicationGroup"))
		o.expectInstalled(ctx, true, "ReplicationGroup")
		o.uninstall(ctx, crdOf("ReplicationGroup"))
		o.expectInstalled(ctx, false, "ReplicationGroup")
		Expect(o.Client.Get(ctx, o.key("elasticache"), &v1alpha1.FlagCache{})).To(Succeed())
		Expect(o.Client.DeleteAllOf(ctx, &appsv1.StatefulSet{}, client.InNamespace("default"))).To(Succeed())
		o.expectChild(ctx)
	})

	It("stay installed while discovery fails", func(ctx SpecContext) {
		o.install(ctx, crdOf("ReplicationGroup"))
		o.expectInstalled(ctx, true, "ReplicationGroup")
		o.discovery.fails.Store(true)
		requests := o.discovery.requests.Load()
		Eventually(ctx, o.discovery.requests.Load).WithTimeout(time.Minute).Should(BeNumerically(">", requests+10), "discovery is repeated")
		Expect(o.kinds.Installed()).To(HaveKeyWithValue("ReplicationGroup", true))
		o.discovery.fails.Store(false)
	})

	It("are written with the fields that an older release of ACK has", func(ctx SpecContext) {
		kind := kindOf("ReplicationGroup")
		o.uninstall(ctx, crdOf(kind.Kind))
		o.expectInstalled(ctx, false, kind.Kind)
		older, err := ackcrds.OfRelease(ctx, kind, "v1.6.0")
		Expect(err).NotTo(HaveOccurred())
		o.install(ctx, older)
		Eventually(ctx, o.kinds.Lacking).WithTimeout(time.Minute).
			Should(Equal(map[string][]string{kind.Kind: ackcrds.Lacking("v1.6.0")[kind.Kind]}))

		fc := (&stage{namespace: "default"}).aFlagCache()
		fc.Name, fc.Spec.Cache.Type = "older", v1alpha1.CacheElastiCache
		fc.Spec.Cache.ElastiCache = &v1alpha1.ElastiCacheSpec{Replicas: 1}
		Expect(o.Client.Create(ctx, fc)).To(Succeed())
		group := o.expectGroup(ctx, fc.Name, func(g Gomega, group *ack.ReplicationGroup) {
			g.Expect(group.Spec.NetworkType).NotTo(BeNil())
		})
		Expect(group.Spec.Durability).To(BeNil())

		By("changing it, which the API server would reject together with a field that it does not know")
		before := fc.DeepCopy()
		fc.Spec.Cache.ElastiCache.Tags = map[string]v1alpha1.TagValue{"team": "shop"}
		Expect(o.Client.Patch(ctx, fc, client.MergeFrom(before))).To(Succeed())
		o.expectGroup(ctx, fc.Name, func(g Gomega, group *ack.ReplicationGroup) {
			g.Expect(group.Spec.Tags).To(ContainElement(&ack.Tag{Key: ptr.To("team"), Value: ptr.To("shop")}))
		})

		By("updating the CRD")
		Expect(o.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(crdOf(kind.Kind)), client.FieldOwner("test"), client.ForceOwnership)).To(Succeed())
		Eventually(ctx, o.kinds.Lacking).WithTimeout(time.Minute).Should(BeEmpty())
		o.expectGroup(ctx, fc.Name, func(g Gomega, group *ack.ReplicationGroup) {
			g.Expect(group.Spec.Durability).To(HaveValue(Equal("default")))
		})

		By("requiring a kind that lacks a field")
		for _, name := range []string{"User", "UserGroup"} {
			older, err := ackcrds.OfRelease(ctx, kindOf(name), "v1.3.4")
			Expect(err).NotTo(HaveOccurred())
			o.install(ctx, older)
		}
		Eventually(ctx, o.kinds.Lacking).WithTimeout(time.Minute).Should(HaveKey("User"))
		before = fc.DeepCopy()
		fc.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
		Expect(o.Client.Patch(ctx, fc, client.MergeFrom(before))).To(Succeed())
		o.expectProvisioned(ctx, fc.Name, v1alpha1.ReasonACKOutdated, "v1.3.5")
		Expect(o.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(crdOf("User")), client.FieldOwner("test"), client.ForceOwnership)).To(Succeed())
		o.expectProvisioned(ctx, fc.Name, v1alpha1.ReasonProvisioning, "Waiting for User")

		Expect(o.Client.Delete(ctx, fc)).To(Succeed())
		Eventually(ctx, func() bool {
			return apierrors.IsNotFound(o.Client.Get(ctx, o.key(fc.Name), fc))
		}).WithTimeout(time.Minute).Should(BeTrue(), "the FlagCache still exists")
	})

	It("delay only reconciles of FlagCaches that depend on them if they cannot be read", func(ctx SpecContext) {
		o.install(ctx, crdOf("ReplicationGroup"))
		o.expectInstalled(ctx, true, "ReplicationGroup")
		r := o.newReconciler(unreadableClient{o.routed})
		began := time.Now()
		result, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: o.key("elasticache")})
		Expect(err).NotTo(HaveOccurred(), "waiting for a cache is not an error")
		Expect(result.RequeueAfter).To(BeNumerically(">", 0))
		_, err = r.Reconcile(ctx, ctrl.Request{NamespacedName: o.key("incluster")})
		Expect(err).NotTo(HaveOccurred())
		Expect(time.Since(began)).To(BeNumerically("<", 40*time.Second), "a reconcile ends well before its timeout")
	})
})

// operator is the operator as cmd/manager sets it up.
type operator struct {
	client.Client
	mgr       ctrl.Manager
	allowed   cluster.Cluster
	kinds     *ackkinds.Kinds
	discovery *flakyDiscovery
	// routed is the operator's client.
	routed     client.Client
	reconciles *reconciles
}

func (o *operator) newReconciler(c client.Client) *controllers.Reconciler {
	bodied := bodies.New(c, o.mgr.GetAPIReader())
	r := &controllers.Reconciler{
		Client:    bodied,
		Live:      o.mgr.GetAPIReader(),
		Allowed:   bodied.Beside(o.allowed.GetClient()),
		FlagFiles: &controllers.FlagFiles{Metadata: o.mgr.GetClient(), Validate: validJSON},
		Prober:    &fakeProber{watched: map[types.NamespacedName]probe.Target{}},
		Sampler:   &fakeSampler{watched: map[types.NamespacedName]evidence.Target{}},
		ACK:       o.kinds,
		Events:    events.NewFakeRecorder(10_000),
		Clock:     clock.RealClock{},
		Operator:  observed.Operator{Namespace: "flagcache-system", ClusterID: "cluster-1", FlagServiceImage: "flag-service:v1"},
	}
	r.Policy.Store(permittingElastiCache())
	return r
}

func startOperator(ctx SpecContext, config *rest.Config) *operator {
	GinkgoHelper()
	c, err := client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	o := &operator{Client: c, reconciles: &reconciles{count: map[string]int{}}}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: controllers.CacheOptions(nil), Metrics: metricsserver.Options{BindAddress: "0"},
		Client: controllers.ClientOptions(),
	})
	Expect(err).NotTo(HaveOccurred())
	o.mgr = mgr
	o.allowed, err = controllers.AddAllowed(mgr, nil)
	Expect(err).NotTo(HaveOccurred())
	o.kinds, err = ackkinds.New(mgr, controllers.ACKCacheOptions(nil))
	Expect(err).NotTo(HaveOccurred())
	o.discovery = &flakyDiscovery{Discovery: o.kinds.Discovery}
	o.discovery.fails.Store(true)
	o.kinds.Discovery, o.kinds.Interval = o.discovery, 100*time.Millisecond
	o.routed = o.kinds.Client(mgr.GetClient())
	Expect(o.newReconciler(countingClient{o.routed, o.reconciles}).SetupWithManager(mgr, o.allowed.GetCache(), make(chan event.GenericEvent), 1, o.kinds)).To(Succeed())
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(running) }()
	DeferCleanup(func() {
		stop()
		Expect(<-ended).To(Succeed())
	})
	for name, kind := range map[string]v1alpha1.CacheType{"incluster": v1alpha1.CacheInCluster, "elasticache": v1alpha1.CacheElastiCache} {
		fc := (&stage{namespace: "default"}).aFlagCache()
		fc.Name, fc.Spec.Cache.Type = name, kind
		if kind == v1alpha1.CacheElastiCache {
			fc.Spec.Cache.ElastiCache = &v1alpha1.ElastiCacheSpec{Replicas: 1}
			// These specs do not test the children of the kinds.
			fc.Spec.Suspend = true
		}
		Expect(o.Client.Create(ctx, fc)).To(Succeed())
	}
	return o
}

func (o *operator) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: "default", Name: name}
}

// install installs kinds.
func (o *operator) install(ctx context.Context, definitions ...*unstructured.Unstructured) {
	GinkgoHelper()
	for _, d := range definitions {
		Expect(client.IgnoreAlreadyExists(o.Client.Create(ctx, d.DeepCopy()))).To(Succeed())
	}
}

// uninstall uninstalls kinds and waits until they are deleted.
func (o *operator) uninstall(ctx context.Context, definitions ...*unstructured.Unstructured) {
	GinkgoHelper()
	for _, d := range definitions {
		Expect(o.Client.Delete(ctx, d.DeepCopy())).To(Succeed())
	}
	for _, d := range definitions {
		Eventually(ctx, func() bool {
			return apierrors.IsNotFound(o.Client.Get(ctx, client.ObjectKeyFromObject(d), d.DeepCopy()))
		}).WithTimeout(time.Minute).Should(BeTrue(), "%s still exists", d.GetName())
	}
}

func (o *operator) expectInstalled(ctx context.Context, want bool, kinds ...string) {
	GinkgoHelper()
	for _, kind := range kinds {
		Eventually(ctx, o.kinds.Installed).WithTimeout(time.Minute).
			Should(HaveKeyWithValue(kind, want))
	}
}

// expectReconciled waits until the action triggers a reconcile of a FlagCache.
func (o *operator) expectReconciled(ctx context.Context, name string, action func()) {
	GinkgoHelper()
	before := o.rest(ctx, name)
	action()
	Eventually(ctx, func() int { return o.reconciles.at(name) }).WithTimeout(time.Minute).Should(BeNumerically(">", before), "%s is reconciled", name)
}

// expectChild waits until the FlagCache that does not depend on ACK has its Redis.
func (o *operator) expectChild(ctx context.Context) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		sets := &appsv1.StatefulSetList{}
		g.Expect(o.Client.List(ctx, sets, client.MatchingLabels{v1alpha1.LabelName: "incluster"})).To(Succeed())
		g.Expect(sets.Items).To(HaveLen(1))
	}).WithTimeout(time.Minute).Should(Succeed())
}

// rest waits until a FlagCache is not reconciled any more, and returns the number of its
// reconciles.
func (o *operator) rest(ctx context.Context, name string) int {
	GinkgoHelper()
	last := -1
	Eventually(ctx, func() bool {
		before := last
		last = o.reconciles.at(name)
		return before == last
	}).WithTimeout(time.Minute).WithPolling(500*time.Millisecond).Should(BeTrue(), "%s is reconciled repeatedly", name)
	return last
}

// groupOf returns a replication group owned by a FlagCache.
func (o *operator) groupOf(ctx context.Context, name string) *ack.ReplicationGroup {
	GinkgoHelper()
	fc := &v1alpha1.FlagCache{}
	Expect(o.Client.Get(ctx, o.key(name), fc)).To(Succeed())
	group := &ack.ReplicationGroup{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fc.Namespace, Name: name, Labels: map[string]string{v1alpha1.LabelName: name, v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
		},
		Spec: ack.ReplicationGroupSpec{ReplicationGroupID: ptr.To("fc-" + name), Description: ptr.To("of FlagCache " + name)},
	}
	Expect(controllerutil.SetControllerReference(fc, group, scheme)).To(Succeed())
	return group
}

// expectGroup waits for a replication group of a FlagCache that meets the expectations.
func (o *operator) expectGroup(ctx context.Context, name string, expect func(Gomega, *ack.ReplicationGroup)) *ack.ReplicationGroup {
	GinkgoHelper()
	groups := &ack.ReplicationGroupList{}
	Eventually(ctx, func(g Gomega) {
		g.Expect(o.Client.List(ctx, groups, client.InNamespace("default"), client.MatchingLabels{v1alpha1.LabelName: name})).To(Succeed())
		g.Expect(groups.Items).To(HaveLen(1))
		expect(g, &groups.Items[0])
	}).WithTimeout(time.Minute).Should(Succeed())
	return &groups.Items[0]
}

// expectProvisioned waits until CacheProvisioned has a reason, and a message with a text.
func (o *operator) expectProvisioned(ctx context.Context, name, reason, text string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		fc := &v1alpha1.FlagCache{}
		g.Expect(o.Client.Get(ctx, o.key(name), fc)).To(Succeed())
		c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionCacheProvisioned)
		g.Expect(c).NotTo(BeNil())
		g.Expect(c.Reason).To(Equal(reason))
		g.Expect(c.Message).To(ContainSubstring(text))
	}).WithTimeout(time.Minute).Should(Succeed())
}

// kindOf returns an ACK kind by its name.
func kindOf(name string) ack.Kind {
	i := slices.IndexFunc(ack.Kinds(), func(k ack.Kind) bool { return k.Kind == name })
	return ack.Kinds()[i]
}

// crdOf returns the CRD of an ACK kind.
func crdOf(name string) *unstructured.Unstructured {
	GinkgoHelper()
	crd, err := ackcrds.Of(context.Background(), kindOf(name))
	Expect(err).NotTo(HaveOccurred())
	return crd
}

// reconciles counts the reconciles of each FlagCache.
type reconciles struct {
	mu    sync.Mutex
	count map[string]int
}

func (r *reconciles) at(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count[name]
}

// countingClient is a client that counts reconciles.
type countingClient struct {
	client.Client
	reconciles *reconciles
}

func (c countingClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if _, ok := o.(*v1alpha1.FlagCache); ok {
		c.reconciles.mu.Lock()
		c.reconciles.count[key.Name]++
		c.reconciles.mu.Unlock()
	}
	return c.Client.Get(ctx, key, o, options...)
}

// unreadableClient is a client of caches of ACK kinds that never sync.
type unreadableClient struct{ client.Client }

func (u unreadableClient) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if _, ok := list.(*ack.ReplicationGroupList); ok {
		<-ctx.Done()
		return ctx.Err()
	}
	return u.Client.List(ctx, list, options...)
}

// flakyDiscovery is a Discovery that can be made to fail.
type flakyDiscovery struct {
	ackkinds.Discovery
	fails    atomic.Bool
	requests atomic.Int64
}

func (f *flakyDiscovery) ServerResourcesForGroupVersionWithContext(ctx context.Context, gv string) (*metav1.APIResourceList, error) {
	f.requests.Add(1)
	if f.fails.Load() {
		return nil, errors.New("discovery failed")
	}
	return f.Discovery.ServerResourcesForGroupVersionWithContext(ctx, gv)
}
