// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
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
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/event"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/ackkinds"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
)

// On an API server of their own, because they bring kinds that other specs go
// without.
var _ = Describe("The kinds of ACK", Ordered, func() {
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

	It("may all be missing", func(ctx SpecContext) {
		Expect(o.kinds.Installed(ctx)).To(HaveLen(len(ack.Kinds())))
		Expect(o.kinds.Installed(ctx)).NotTo(ContainElement(true))
		o.expectChild(ctx)
	})

	It("are watched when they come, left when they go, and watched when they come again", func(ctx SpecContext) {
		flat := 0
		for toggle := range 5 {
			o.expectLooked(ctx, "elasticache", func() { o.bring(ctx, replicationGroups(), metricAlarms()) })
			o.expectInstalled(ctx, true, "ReplicationGroup", "MetricAlarm")
			Expect(o.kinds.Installed(ctx)).To(HaveKeyWithValue("SecurityGroup", false))

			group := o.groupOf(ctx, "elasticache")
			o.expectLooked(ctx, "elasticache", func() {
				Expect(o.routed.Create(ctx, group)).To(Succeed())
			})
			groups := &ack.ReplicationGroupList{}
			Expect(o.routed.List(ctx, groups, client.InNamespace("default"))).To(Succeed(), "what was written is read at once")
			Expect(groups.Items).To(HaveLen(1))
			Expect(groups.Items[0].ManagedFields).To(BeEmpty(), "objects are cached as slim as others")

			o.expectLooked(ctx, "elasticache", func() { o.take(ctx, replicationGroups(), metricAlarms()) })
			o.expectInstalled(ctx, false, "ReplicationGroup", "MetricAlarm")
			Expect(meta.IsNoMatchError(o.routed.List(ctx, groups))).To(BeTrue(), "there is no such kind to the operator")
			if toggle == 0 {
				flat = runtime.NumGoroutine()
			}
		}
		Eventually(ctx, runtime.NumGoroutine).WithTimeout(time.Minute).Should(BeNumerically("<=", flat+2), "nothing is left of a kind that went")
	})

	It("go without taking anything along", func(ctx SpecContext) {
		o.bring(ctx, replicationGroups())
		o.expectInstalled(ctx, true, "ReplicationGroup")
		o.take(ctx, replicationGroups())
		o.expectInstalled(ctx, false, "ReplicationGroup")
		Expect(o.Client.Get(ctx, o.key("elasticache"), &v1alpha1.FlagCache{})).To(Succeed())
		Expect(o.Client.DeleteAllOf(ctx, &appsv1.StatefulSet{}, client.InNamespace("default"))).To(Succeed())
		o.expectChild(ctx)
	})

	It("are not gone because the API server does not say what it serves", func(ctx SpecContext) {
		o.bring(ctx, replicationGroups())
		o.expectInstalled(ctx, true, "ReplicationGroup")
		o.discovery.fails.Store(true)
		asked := o.discovery.asked.Load()
		Eventually(ctx, o.discovery.asked.Load).WithTimeout(time.Minute).Should(BeNumerically(">", asked+10), "it is asked again and again")
		Expect(o.kinds.Installed(ctx)).To(HaveKeyWithValue("ReplicationGroup", true))
		o.discovery.fails.Store(false)
	})

	It("that cannot be read hold up those that need them, for a while, and nobody else", func(ctx SpecContext) {
		o.bring(ctx, replicationGroups())
		o.expectInstalled(ctx, true, "ReplicationGroup")
		r := o.newReconciler(unreadable{o.routed})
		began := time.Now()
		_, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: o.key("elasticache")})
		Expect(err).To(MatchError(ContainSubstring("listing the children of kind ReplicationGroup")))
		_, err = r.Reconcile(ctx, ctrl.Request{NamespacedName: o.key("incluster")})
		Expect(err).NotTo(HaveOccurred())
		Expect(time.Since(began)).To(BeNumerically("<", 40*time.Second), "a look ends well before its time is over")
	})
})

// operator runs as cmd/manager wires it.
type operator struct {
	client.Client
	mgr       ctrl.Manager
	flagFiles cache.Cache
	kinds     *ackkinds.Kinds
	discovery *flaky
	// routed is the operator's own client.
	routed client.Client
	looks  *looks
}

func (o *operator) newReconciler(c client.Client) *controllers.Reconciler {
	return &controllers.Reconciler{
		Client:    c,
		Live:      o.mgr.GetAPIReader(),
		FlagFiles: &controllers.FlagFiles{Metadata: o.flagFiles, Validate: validJSON},
		Prober:    &answers{watched: map[types.NamespacedName]probe.Target{}},
		Sampler:   &samples{watched: map[types.NamespacedName]evidence.Target{}},
		ACK:       o.kinds,
		Events:    events.NewFakeRecorder(10_000),
		Clock:     clock.RealClock{},
		Operator:  observed.Operator{Namespace: "flagcache-system", FlagServiceImage: "flag-service:v1"},
	}
}

func startOperator(ctx SpecContext, config *rest.Config) *operator {
	GinkgoHelper()
	c, err := client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	o := &operator{Client: c, looks: &looks{count: map[string]int{}}}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: controllers.CacheOptions(nil), Metrics: metricsserver.Options{BindAddress: "0"},
		Client: client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: ptr.To(true)}},
	})
	Expect(err).NotTo(HaveOccurred())
	options := controllers.FlagFilesCacheOptions(nil)
	options.Scheme, options.Mapper, options.HTTPClient = scheme, mgr.GetRESTMapper(), mgr.GetHTTPClient()
	flagFiles, err := cache.New(config, options)
	Expect(err).NotTo(HaveOccurred())
	Expect(mgr.Add(flagFiles)).To(Succeed())
	o.mgr, o.flagFiles = mgr, flagFiles
	o.kinds, err = ackkinds.New(mgr, controllers.ACKCacheOptions(nil))
	Expect(err).NotTo(HaveOccurred())
	o.discovery = &flaky{Discovery: o.kinds.Discovery}
	o.kinds.Discovery, o.kinds.Interval = o.discovery, 100*time.Millisecond
	o.routed = o.kinds.Client(mgr.GetClient())
	Expect(o.newReconciler(watchful{o.routed, o.looks}).SetupWithManager(mgr, flagFiles, make(chan event.GenericEvent), 1, o.kinds)).To(Succeed())
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
			// What is made of the kinds is none of these specs' business.
			fc.Spec.Suspend = true
		}
		Expect(o.Client.Create(ctx, fc)).To(Succeed())
	}
	return o
}

func (o *operator) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: "default", Name: name}
}

// bring installs kinds.
func (o *operator) bring(ctx context.Context, definitions ...*unstructured.Unstructured) {
	GinkgoHelper()
	for _, d := range definitions {
		Expect(client.IgnoreAlreadyExists(o.Client.Create(ctx, d.DeepCopy()))).To(Succeed())
	}
}

// take uninstalls kinds and waits until they are gone.
func (o *operator) take(ctx context.Context, definitions ...*unstructured.Unstructured) {
	GinkgoHelper()
	for _, d := range definitions {
		Expect(o.Client.Delete(ctx, d.DeepCopy())).To(Succeed())
	}
	for _, d := range definitions {
		Eventually(ctx, func() bool {
			return apierrors.IsNotFound(o.Client.Get(ctx, client.ObjectKeyFromObject(d), d.DeepCopy()))
		}).WithTimeout(time.Minute).Should(BeTrue(), "%s is still there", d.GetName())
	}
}

func (o *operator) expectInstalled(ctx context.Context, want bool, kinds ...string) {
	GinkgoHelper()
	for _, kind := range kinds {
		Eventually(ctx, func() (map[string]bool, error) { return o.kinds.Installed(ctx) }).WithTimeout(time.Minute).
			Should(HaveKeyWithValue(kind, want))
	}
}

// expectLooked waits until something has the operator look at a FlagCache.
func (o *operator) expectLooked(ctx context.Context, name string, something func()) {
	GinkgoHelper()
	before := o.rest(ctx, name)
	something()
	Eventually(ctx, func() int { return o.looks.at(name) }).WithTimeout(time.Minute).Should(BeNumerically(">", before), "%s is looked at", name)
}

// expectChild waits until the FlagCache that needs nothing of ACK has its Redis.
func (o *operator) expectChild(ctx context.Context) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		sets := &appsv1.StatefulSetList{}
		g.Expect(o.Client.List(ctx, sets, client.MatchingLabels{v1alpha1.LabelName: "incluster"})).To(Succeed())
		g.Expect(sets.Items).To(HaveLen(1))
	}).WithTimeout(time.Minute).Should(Succeed())
}

// rest waits until nothing has the operator look any more, and counts its looks.
func (o *operator) rest(ctx context.Context, name string) int {
	GinkgoHelper()
	last := -1
	Eventually(ctx, func() bool {
		before := last
		last = o.looks.at(name)
		return before == last
	}).WithTimeout(time.Minute).WithPolling(500*time.Millisecond).Should(BeTrue(), "%s is looked at again and again", name)
	return last
}

// groupOf is a replication group of a FlagCache.
func (o *operator) groupOf(ctx context.Context, name string) *ack.ReplicationGroup {
	GinkgoHelper()
	fc := &v1alpha1.FlagCache{}
	Expect(o.Client.Get(ctx, o.key(name), fc)).To(Succeed())
	group := &ack.ReplicationGroup{ObjectMeta: metav1.ObjectMeta{
		Namespace: fc.Namespace, Name: name, Labels: map[string]string{v1alpha1.LabelName: name, v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
	}}
	Expect(controllerutil.SetControllerReference(fc, group, scheme)).To(Succeed())
	return group
}

func replicationGroups() *unstructured.Unstructured { return definition("ReplicationGroup") }
func metricAlarms() *unstructured.Unstructured      { return definition("MetricAlarm") }

// definition is the least CustomResourceDefinition of a kind of ACK.
func definition(name string) *unstructured.Unstructured {
	for _, kind := range ack.Kinds() {
		if kind.Kind != name {
			continue
		}
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": kind.CRD()},
			"spec": map[string]any{
				"group": kind.Group, "scope": "Namespaced",
				"names": map[string]any{"kind": kind.Kind, "plural": kind.Resource, "singular": strings.ToLower(kind.Kind), "listKind": kind.Kind + "List"},
				"versions": []any{map[string]any{
					"name": kind.Version, "served": true, "storage": true, "subresources": map[string]any{"status": map[string]any{}},
					"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
				}},
			},
		}}
	}
	panic("ACK has no kind " + name)
}

// looks counts how often the operator looked at each FlagCache.
type looks struct {
	mu    sync.Mutex
	count map[string]int
}

func (l *looks) at(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[name]
}

// watchful is a client that counts looks.
type watchful struct {
	client.Client
	looks *looks
}

func (w watchful) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if _, ok := o.(*v1alpha1.FlagCache); ok {
		w.looks.mu.Lock()
		w.looks.count[key.Name]++
		w.looks.mu.Unlock()
	}
	return w.Client.Get(ctx, key, o, options...)
}

// unreadable is a client of caches of ACK's kinds that never fill.
type unreadable struct{ client.Client }

func (u unreadable) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if _, ok := list.(*ack.ReplicationGroupList); ok {
		<-ctx.Done()
		return ctx.Err()
	}
	return u.Client.List(ctx, list, options...)
}

// flaky is a discovery that can be made to fail.
type flaky struct {
	ackkinds.Discovery
	fails atomic.Bool
	asked atomic.Int64
}

func (f *flaky) ServerResourcesForGroupVersionWithContext(ctx context.Context, gv string) (*metav1.APIResourceList, error) {
	f.asked.Add(1)
	if f.fails.Load() {
		return nil, errors.New("no discovery today")
	}
	return f.Discovery.ServerResourcesForGroupVersionWithContext(ctx, gv)
}
