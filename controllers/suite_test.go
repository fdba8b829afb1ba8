// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/test/leak"
)

// TestMain sets the log before any test runs, because controller-runtime discards the log of
// a program for good that has not set one within its first 30 seconds.
func TestMain(m *testing.M) {
	ctrl.SetLogger(zap.New(zap.WriteTo(io.MultiWriter(GinkgoWriter, &produced)), zap.UseDevMode(true)))
	os.Exit(m.Run())
}

func TestControllers(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "The FlagCache operator against a real API server")
}

var (
	server     *envtest.Environment
	config     *rest.Config
	k8s        client.WithWatch
	scheme     = runtime.NewScheme()
	namespaces atomic.Int32
)

var _ = BeforeSuite(func() {
	Expect(os.Getenv("KUBEBUILDER_ASSETS")).NotTo(BeEmpty(),
		"KUBEBUILDER_ASSETS is not set: run `make test`, or `make envtest` and set it to bin/envtest, which contains etcd and kube-apiserver")
	server = &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	var err error
	config, err = server.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(server.Stop()).To(Succeed()) })
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	Expect(ack.AddToScheme(scheme)).To(Succeed())
	Expect(gatewayv1.Install(scheme)).To(Succeed())
	k8s, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	recording, err := leak.Record(config)
	Expect(err).NotTo(HaveOccurred())
	// The API server does not stop while it is watched.
	DeferCleanup(recording.Stop)
	DeferCleanup(func() { expectNoSecretLeaked(recording) })
})

// stage is a namespace with a reconciler that specs call directly.
type stage struct {
	*controllers.Reconciler
	// api is the Reconciler's client of the API server.
	api       client.WithWatch
	namespace string
	prober    *fakeProber
	sampler   *fakeSampler
	// writes are the writing calls in order, since they were last reset; history are all.
	writes, history []string
}

// fakeProber returns result for the connection in use and next for the next connection,
// and keeps the watched targets.
type fakeProber struct {
	result  *probe.Result
	next    *probe.Result
	watched map[types.NamespacedName]probe.Target
}

func (p *fakeProber) Watch(key types.NamespacedName, t probe.Target) { p.watched[key] = t }
func (p *fakeProber) Forget(key types.NamespacedName)                { delete(p.watched, key) }
func (p *fakeProber) Last(key types.NamespacedName) (probe.Result, bool) {
	last := p.result
	if controllers.FlagCacheOf(key) != key {
		last = p.next
	}
	if last == nil {
		return probe.Result{}, false
	}
	result := *last
	result.ID = p.watched[key].ID
	return result, true
}

// fakeSampler returns the last sample, and keeps the watched targets.
type fakeSampler struct {
	last    *canary.Evidence
	watched map[types.NamespacedName]evidence.Target
}

func (s *fakeSampler) Watch(key types.NamespacedName, t evidence.Target) { s.watched[key] = t }
func (s *fakeSampler) Forget(key types.NamespacedName)                   { delete(s.watched, key) }
func (s *fakeSampler) Last(types.NamespacedName) (canary.Evidence, bool) {
	if s.last == nil {
		return canary.Evidence{}, false
	}
	return *s.last, true
}

// newStage creates a namespace with valid flags in ConfigMap demo-flags.
func newStage(ctx context.Context) *stage {
	GinkgoHelper()
	s := &stage{
		namespace: fmt.Sprintf("stage-%d", namespaces.Add(1)),
		prober:    &fakeProber{watched: map[types.NamespacedName]probe.Target{}},
		sampler:   &fakeSampler{watched: map[types.NamespacedName]evidence.Target{}},
	}
	recorder := events.NewFakeRecorder(100)
	DeferCleanup(func() { produced.keepEvents(recorder) })
	s.api = interceptor.NewClient(k8s, s.countWrites())
	s.Reconciler = &controllers.Reconciler{
		Client:    bodies.New(selecting{s.api, controllers.CacheOptions(nil)}, k8s),
		Allowed:   bodies.New(selecting{k8s, controllers.AllowedCacheOptions(nil)}, k8s),
		Live:      k8s,
		FlagFiles: &controllers.FlagFiles{Metadata: k8s, Validate: validJSON},
		Prober:    s.prober,
		Sampler:   s.sampler,
		Events:    recorder,
		Clock:     clocktesting.NewFakePassiveClock(time.Now()),
		Operator:  observed.Operator{Namespace: "flagcache-system", ClusterID: "cluster-1", FlagServiceImage: "flag-service:v1"},
	}
	s.Policy.Store(permittingElastiCache())
	Expect(k8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}})).To(Succeed())
	s.create(ctx, s.flags(`{"flags": {}}`))
	return s
}

// selecting is a client that finds the Secrets which a cache selects.
type selecting struct {
	client.Client
	cache cache.Options
}

func (c selecting) selects(o client.Object) bool {
	for kind, options := range c.cache.ByObject {
		if _, ok := kind.(*corev1.Secret); ok {
			return options.Label.Matches(labels.Set(o.GetLabels()))
		}
	}
	return false
}

func (c selecting) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	m, ok := o.(*metav1.PartialObjectMetadata)
	if err := c.Client.Get(ctx, key, o, opts...); err != nil || !ok || m.Kind != "Secret" || c.selects(m) {
		return err
	}
	return apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
}

func (c selecting) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	err := c.Client.List(ctx, list, opts...)
	if found, ok := list.(*metav1.PartialObjectMetadataList); ok && found.Kind == "SecretList" {
		found.Items = slices.DeleteFunc(found.Items, func(m metav1.PartialObjectMetadata) bool { return !c.selects(&m) })
	}
	return err
}

// permittingElastiCache is a policy that lets every namespace use ElastiCache.
func permittingElastiCache() *policy.Policy {
	return &policy.Policy{ElastiCache: []policy.ElastiCache{{Namespaces: []string{"*"}}}}
}

// validJSON is a minimal validation of a flags file; the flag service's has its own tests.
func validJSON(_ context.Context, data []byte) ([]string, error) {
	if len(data) == 0 || data[0] != '{' {
		return nil, fmt.Errorf("line 1, column 1: not a JSON object")
	}
	return nil, nil
}

func (s *stage) countWrites() interceptor.Funcs {
	count := func(verb string, o client.Object) {
		write := fmt.Sprintf("%s %T %s", verb, o, o.GetName())
		s.writes, s.history = append(s.writes, write), append(s.history, write)
	}
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			count("create", o)
			return c.Create(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			count("patch", o)
			return c.Patch(ctx, o, p, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			count("delete", o)
			return c.Delete(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			count("patch "+sub, o)
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
}

func (s *stage) flags(file string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "demo-flags", Namespace: s.namespace},
		Data:       map[string]string{"flags.json": file},
	}
}

// aFlagCache returns a minimal FlagCache whose changes are promoted as soon as their pods
// are available.
func (s *stage) aFlagCache() *v1alpha1.FlagCache {
	return &v1alpha1.FlagCache{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: s.namespace},
		Spec: v1alpha1.FlagCacheSpec{
			Flags:  v1alpha1.FlagsSpec{ConfigMap: &v1alpha1.ConfigMapKey{Name: "demo-flags"}},
			Canary: &v1alpha1.CanarySpec{Steps: []v1alpha1.CanaryStep{}},
		},
	}
}

func (s *stage) create(ctx context.Context, o client.Object) {
	GinkgoHelper()
	Expect(k8s.Create(ctx, o)).To(Succeed())
}

// get reads an object in the stage's namespace.
func get[T client.Object](ctx context.Context, s *stage, o T, name string) T {
	GinkgoHelper()
	Expect(k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, o)).To(Succeed())
	return o
}

// edit changes an object like a user.
func edit[T client.Object](ctx context.Context, s *stage, o T, name string, change func(T)) {
	GinkgoHelper()
	get(ctx, s, o, name)
	change(o)
	Expect(k8s.Update(ctx, o)).To(Succeed())
}

// reconcile reconciles once.
func (s *stage) reconcile(ctx context.Context) ctrl.Result {
	GinkgoHelper()
	s.writes = nil
	result, err := s.Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: s.namespace, Name: "demo"}})
	Expect(err).NotTo(HaveOccurred())
	return result
}

// settle reconciles until nothing is written any more.
func (s *stage) settle(ctx context.Context) {
	GinkgoHelper()
	for range 20 {
		if s.reconcile(ctx); len(s.writes) == 0 {
			return
		}
	}
	Fail(fmt.Sprintf("the operator does not stop writing, most recently %v", s.writes))
}

// podsAvailable acts as the kubelet: all desired pods become available.
func (s *stage) podsAvailable(ctx context.Context) {
	GinkgoHelper()
	deployments := &appsv1.DeploymentList{}
	Expect(k8s.List(ctx, deployments, client.InNamespace(s.namespace))).To(Succeed())
	for i := range deployments.Items {
		d := &deployments.Items[i]
		n := ptr.Deref(d.Spec.Replicas, 1)
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
		Expect(k8s.Status().Update(ctx, d)).To(Succeed())
	}
	sets := &appsv1.StatefulSetList{}
	Expect(k8s.List(ctx, sets, client.InNamespace(s.namespace))).To(Succeed())
	for i := range sets.Items {
		sets.Items[i].Status = appsv1.StatefulSetStatus{ObservedGeneration: sets.Items[i].Generation, Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
		Expect(k8s.Status().Update(ctx, &sets.Items[i])).To(Succeed())
	}
}

// ready settles a FlagCache until it is Ready.
func (s *stage) ready(ctx context.Context) {
	GinkgoHelper()
	s.settle(ctx)
	s.podsAvailable(ctx)
	s.prober.result = &probe.Result{Outcome: probe.Healthy, Role: "master", Latency: time.Millisecond}
	s.settle(ctx)
	s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

// expect checks a condition and that it was observed for the current generation.
func (s *stage) expect(ctx context.Context, kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	GinkgoHelper()
	fc := get(ctx, s, &v1alpha1.FlagCache{}, "demo")
	c := meta.FindStatusCondition(fc.Status.Conditions, kind)
	Expect(c).NotTo(BeNil(), "condition "+kind)
	Expect(fmt.Sprintf("%s %s", c.Status, c.Reason)).To(Equal(fmt.Sprintf("%s %s", status, reason)), c.Message)
	Expect(c.ObservedGeneration).To(Equal(fc.Generation))
	return *c
}

// expectGone checks that an object does not exist.
func (s *stage) expectGone(ctx context.Context, o client.Object, name string) {
	GinkgoHelper()
	err := k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, o)
	Expect(apierrors.IsNotFound(err)).To(BeTrue(), fmt.Sprintf("%T %s still exists (%v)", o, name, err))
}
