// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/test/leak"
)

var _ = Describe("A FlagCache", func() {
	var s *stage
	BeforeEach(func(ctx context.Context) {
		s = newStage(ctx)
		s.create(ctx, s.aFlagCache())
	})

	It("reports that it is being reconciled before children are created", func(ctx context.Context) {
		s.reconcile(ctx)
		Expect(s.writes).To(Equal([]string{"patch *v1alpha1.FlagCache demo", "patch status *v1alpha1.FlagCache demo"}))
		s.expect(ctx, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonInitializing)
	})

	It("creates a Redis, its credentials, and a flag service", func(ctx context.Context) {
		s.ready(ctx)
		fc := get(ctx, s, &v1alpha1.FlagCache{}, "demo")
		stable := fc.Status.Revisions.Stable
		for name, o := range map[string]client.Object{
			"demo-redis":      &appsv1.StatefulSet{},
			"demo-connection": &corev1.Secret{},
			"demo-integrity":  &corev1.Secret{},
			"demo-client":     &corev1.ConfigMap{},
			"demo-" + stable:  &appsv1.Deployment{},
			"demo":            &corev1.Service{},
		} {
			get(ctx, s, o, name)
			Expect(metav1.IsControlledBy(o, fc)).To(BeTrue(), name)
		}
		get(ctx, s, &policyv1.PodDisruptionBudget{}, "demo-"+stable)
		get(ctx, s, &networkingv1.NetworkPolicy{}, "demo")
		get(ctx, s, &networkingv1.NetworkPolicy{}, "demo-redis")
		Expect(get(ctx, s, &corev1.Service{}, "demo").Spec.Selector).To(HaveKeyWithValue(v1alpha1.LabelRevision, stable))
		Expect(fc.Status.Service.OFREPEndpoint).To(Equal("http://demo." + s.namespace + ".svc"))
		Expect(fc.Status.Binding.Name).To(Equal("demo-connection"))
	})

	It("probes the cache that it publishes as a user of its own", func(ctx context.Context) {
		s.ready(ctx)
		secret := get(ctx, s, &corev1.Secret{}, "demo-redis")
		target := s.prober.watched[types.NamespacedName{Namespace: s.namespace, Name: "demo"}]
		Expect(target.Addr).To(Equal("demo-redis." + s.namespace + ".svc:6379"))
		Expect(target.Username).To(Equal("probe"))
		Expect([]byte(target.Password.Reveal())).To(Equal(secret.Data["probe-password"]))
		Expect(target.Password.IsEmpty()).To(BeFalse())
		Expect(get(ctx, s, &corev1.Secret{}, "demo-connection").Data["password"]).To(Equal(secret.Data["password"]))
	})

	It("hints at a cache of the wrong size", func(ctx context.Context) {
		s.ready(ctx)
		hint := func() string { return get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Cache.Hint }
		Expect(hint()).To(BeEmpty())

		s.prober.result.Load = probe.LoadHighMemory
		s.settle(ctx)
		Expect(hint()).To(Equal("Memory stays over 80 %: raise spec.cache.inCluster.resources.limits.memory"))
		s.prober.result.Load = ""
		s.settle(ctx)
		Expect(hint()).NotTo(BeEmpty(), "the hint remains while the load is unknown")
		s.prober.result.Load = probe.LoadNormal
		s.settle(ctx)
		Expect(hint()).To(BeEmpty())
	})

	It("writes nothing in steady state", func(ctx context.Context) {
		s.ready(ctx)
		for range 10 {
			s.reconcile(ctx)
			Expect(s.writes).To(BeEmpty())
		}
	})

	It("needs one write for each child, and few for its status", func(ctx context.Context) {
		var all []string
		settle := func() {
			for range 20 {
				if s.reconcile(ctx); len(s.writes) == 0 {
					return
				}
				all = append(all, s.writes...)
			}
		}
		settle()
		s.podsAvailable(ctx)
		settle()
		s.prober.result = &probe.Result{Outcome: probe.Healthy}
		settle()
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(len(all)).To(BeNumerically("<=", 21), "%v", all)
	})

	It("reverts changes of its fields and keeps fields of others", func(ctx context.Context) {
		s.ready(ctx)
		edit(ctx, s, &corev1.ConfigMap{}, "demo-client", func(o *corev1.ConfigMap) {
			o.Data["OFREP_ENDPOINT"] = "http://elsewhere"
			o.Data["OTHER"] = "kept"
			o.Labels["team"] = "other"
		})
		edit(ctx, s, &corev1.Service{}, "demo", func(o *corev1.Service) { o.Spec.Selector = map[string]string{"app": "other"} })
		s.settle(ctx)
		configMap := get(ctx, s, &corev1.ConfigMap{}, "demo-client")
		Expect(configMap.Data).To(HaveKeyWithValue("OFREP_ENDPOINT", "http://demo."+s.namespace+".svc"))
		Expect(configMap.Data).To(HaveKeyWithValue("OTHER", "kept"))
		Expect(configMap.Labels).To(HaveKeyWithValue("team", "other"))
		Expect(get(ctx, s, &corev1.Service{}, "demo").Spec.Selector).NotTo(HaveKey("app"))
	})

	It("recreates a deleted child", func(ctx context.Context) {
		s.ready(ctx)
		password := get(ctx, s, &corev1.Secret{}, "demo-redis").Data["password"]
		Expect(k8s.Delete(ctx, get(ctx, s, &corev1.Secret{}, "demo-redis"))).To(Succeed())
		stable := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable
		Expect(k8s.Delete(ctx, get(ctx, s, &policyv1.PodDisruptionBudget{}, "demo-"+stable))).To(Succeed())
		s.settle(ctx)
		get(ctx, s, &policyv1.PodDisruptionBudget{}, "demo-"+stable)
		Expect(get(ctx, s, &corev1.Secret{}, "demo-redis").Data["password"]).To(Equal(password))
	})

	It("removes a field that is no longer desired", func(ctx context.Context) {
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Spec.Cache.InCluster = &v1alpha1.InClusterSpec{Resources: &v1alpha1.ResourceRequirements{
				Limits: corev1.ResourceList{corev1.ResourceCPU: quantity("1"), corev1.ResourceMemory: quantity("64Mi")},
			}}
		})
		s.ready(ctx)
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			delete(fc.Spec.Cache.InCluster.Resources.Limits, corev1.ResourceCPU)
		})
		s.settle(ctx)
		limits := get(ctx, s, &appsv1.StatefulSet{}, "demo-redis").Spec.Template.Spec.Containers[0].Resources.Limits
		Expect(limits).NotTo(HaveKey(corev1.ResourceCPU))
		Expect(limits).To(HaveKey(corev1.ResourceMemory))
	})

	It("moves traffic to a new revision only when its pods are available", func(ctx context.Context) {
		s.ready(ctx)
		before := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Environment = "production" })
		s.settle(ctx)
		Expect(get(ctx, s, &corev1.Service{}, "demo").Spec.Selector).To(HaveKeyWithValue(v1alpha1.LabelRevision, before))
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing)
		candidate := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Candidate
		get(ctx, s, &appsv1.Deployment{}, "demo-"+before)

		s.podsAvailable(ctx)
		s.settle(ctx)
		Expect(get(ctx, s, &corev1.Service{}, "demo").Spec.Selector).To(HaveKeyWithValue(v1alpha1.LabelRevision, candidate))
		s.expectGone(ctx, &appsv1.Deployment{}, "demo-"+before)
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("keeps the replicas set by its HorizontalPodAutoscaler", func(ctx context.Context) {
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Spec.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 2, MaxReplicas: 5, TargetCPUPercent: 50}
		})
		s.ready(ctx)
		name := get(ctx, s, &autoscalingv2.HorizontalPodAutoscaler{}, "demo").Spec.ScaleTargetRef.Name
		edit(ctx, s, &appsv1.Deployment{}, name, func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](4) })
		s.podsAvailable(ctx)
		s.settle(ctx)
		Expect(*get(ctx, s, &appsv1.Deployment{}, name).Spec.Replicas).To(Equal(int32(4)))
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Service.Autoscaling = nil })
		s.settle(ctx)
		s.expectGone(ctx, &autoscalingv2.HorizontalPodAutoscaler{}, "demo")
		Expect(*get(ctx, s, &appsv1.Deployment{}, name).Spec.Replicas).To(Equal(int32(2)))
	})

	It("echoes the annotation that requests a reconcile", func(ctx context.Context) {
		s.ready(ctx)
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationReconcileAt: "2026-06-01T12:00:00Z"}
		})
		s.settle(ctx)
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.LastHandledReconcileAt).To(Equal("2026-06-01T12:00:00Z"))
	})

	It("deletes all children when it is deleted", func(ctx context.Context) {
		s.ready(ctx)
		fc := get(ctx, s, &v1alpha1.FlagCache{}, "demo")
		Expect(k8s.Delete(ctx, fc)).To(Succeed())
		s.settle(ctx)
		s.expectGone(ctx, &v1alpha1.FlagCache{}, "demo")
		for _, list := range []client.ObjectList{
			&corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.ServiceList{}, &appsv1.DeploymentList{}, &appsv1.StatefulSetList{},
			&policyv1.PodDisruptionBudgetList{}, &networkingv1.NetworkPolicyList{},
		} {
			Expect(k8s.List(ctx, list, client.InNamespace(s.namespace), client.HasLabels{v1alpha1.LabelName})).To(Succeed())
			Expect(list).To(HaveField("Items", BeEmpty()))
		}
		Expect(s.prober.watched).To(BeEmpty())
	})

	It("is no longer probed after its finalizer was removed by a user", func(ctx context.Context) {
		s.ready(ctx)
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Finalizers = nil })
		Expect(k8s.Delete(ctx, get(ctx, s, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
		s.reconcile(ctx)
		Expect(s.prober.watched).To(BeEmpty())
	})
})

var _ = Describe("A kind that the operator may not list", func() {
	It("is reported if it persists, and holds back all changes", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(o *v1alpha1.FlagCache) { o.Spec.Service.Replicas = ptr.To[int32](5) })
		s.Backoff = workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](time.Millisecond, time.Second)
		allowed := s.Client
		s.Client = interceptor.NewClient(s.api, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if _, ok := list.(*appsv1.DeploymentList); ok {
					return apierrors.NewForbidden(appsv1.Resource("deployments"), "", errors.New("the operator cannot list resource \"deployments\""))
				}
				return c.List(ctx, list, opts...)
			},
		})
		reconcile := func() error {
			s.writes = nil
			_, err := s.Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: s.namespace, Name: "demo"}})
			return err
		}
		for range 5 {
			Expect(reconcile()).To(MatchError(apierrors.IsForbidden, "IsForbidden"))
			Expect(s.writes).To(BeEmpty(), "a short disruption is not reported")
		}
		Expect(reconcile()).To(MatchError(apierrors.IsForbidden, "IsForbidden"))
		c := s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonForbidden)
		Expect(c.Message).To(ContainSubstring(`cannot list resource "deployments"`))
		Expect(reconcile()).To(MatchError(apierrors.IsForbidden, "IsForbidden"))
		Expect(s.writes).To(BeEmpty(), "it is reported once")

		s.Client = allowed
		s.settle(ctx)
		s.podsAvailable(ctx)
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})
})

var _ = Describe("An operator that is stopped during a reconcile", func() {
	It("writes nothing more and reports no error", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		running, stop := context.WithCancel(ctx)
		s.Client = interceptor.NewClient(s.api, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				stop()
				return errors.Join(ctx.Err(), c.List(ctx, list, opts...))
			},
		})
		s.writes = nil
		result, err := s.Reconcile(running, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: s.namespace, Name: "demo"}})
		Expect(err).NotTo(HaveOccurred())
		Expect(result.RequeueAfter).To(BeNumerically(">", 0), "the reconcile is not done")
		Expect(s.writes).To(BeEmpty())
	})
})

var _ = Describe("A name that is taken by another owner", func() {
	It("is never taken over, and used when it becomes free", func(ctx context.Context) {
		s := newStage(ctx)
		taken := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "demo-connection", Namespace: s.namespace},
			Data:       map[string][]byte{"password": []byte(leak.Marked("of another owner"))},
		}
		s.create(ctx, taken)
		s.create(ctx, s.aFlagCache())
		s.reconcile(ctx)
		s.reconcile(ctx)
		result := s.reconcile(ctx)

		c := s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
		Expect(c.Message).To(ContainSubstring("Secret demo-connection exists and is not controlled by this FlagCache"))
		s.expect(ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)
		Expect(result.RequeueAfter).To(BeNumerically(">", 0), "no watch reports when the name becomes free")
		Expect(get(ctx, s, &corev1.Secret{}, "demo-connection").ResourceVersion).To(Equal(taken.ResourceVersion))

		Expect(k8s.Delete(ctx, taken)).To(Succeed())
		s.ready(ctx)
	})
})

var _ = Describe("An external cache", func() {
	var s *stage
	BeforeEach(func(ctx context.Context) {
		s = newStage(ctx)
		fc := s.aFlagCache()
		fc.Spec.Cache = v1alpha1.CacheSpec{
			Type:     v1alpha1.CacheExternal,
			External: &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "my-redis"}},
		}
		s.create(ctx, fc)
	})
	secret := func(labels map[string]string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "my-redis", Namespace: s.namespace, Labels: labels},
			Data:       map[string][]byte{"uri": []byte("redis://:" + leak.Marked("first") + "@cache.example.com:7000")},
		}
	}

	It("waits for its Secret", func(ctx context.Context) {
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound)
		s.create(ctx, secret(map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue}))
		s.ready(ctx)
		Expect(string(get(ctx, s, &corev1.Secret{}, "demo-connection").Data["host"])).To(Equal("cache.example.com"))
		s.expectGone(ctx, &appsv1.StatefulSet{}, "demo-redis")
	})

	It("does not use the Secret of another FlagCache, with the label of consent or without", func(ctx context.Context) {
		owner := get(ctx, s, &v1alpha1.FlagCache{}, "demo").DeepCopy()
		owner.Name, owner.UID = "shop", "another"
		another := secret(map[string]string{v1alpha1.LabelName: "shop", v1alpha1.LabelAllow: v1alpha1.AllowTrue})
		another.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("FlagCache"))}
		s.create(ctx, another)
		for range 2 {
			s.settle(ctx)
			c := s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotPermitted)
			Expect(c.Message).To(HavePrefix("Secret my-redis belongs to FlagCache shop"))
			Expect(apierrors.IsNotFound(k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "demo-connection"}, &corev1.Secret{}))).To(BeTrue())
			edit(ctx, s, &corev1.Secret{}, "my-redis", func(o *corev1.Secret) { delete(o.Labels, v1alpha1.LabelAllow) })
		}
	})

	It("moves to a new revision when its Secret changes", func(ctx context.Context) {
		s.create(ctx, secret(map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue}))
		s.ready(ctx)
		before := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable
		edit(ctx, s, &corev1.Secret{}, "my-redis", func(o *corev1.Secret) {
			o.Data["uri"] = []byte("redis://:" + leak.Marked("second") + "@cache.example.com:7000")
		})
		s.ready(ctx)
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable).NotTo(Equal(before))
		Expect(string(get(ctx, s, &corev1.Secret{}, "demo-connection").Data["password"])).To(Equal(leak.Marked("second")))
	})
})

var _ = Describe("Flags", func() {
	It("are waited for and validated", func(ctx context.Context) {
		s := newStage(ctx)
		Expect(k8s.Delete(ctx, s.flags(""))).To(Succeed())
		s.create(ctx, s.aFlagCache())
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonConfigMapNotFound)

		s.create(ctx, s.flags("not JSON"))
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		deployments := &appsv1.DeploymentList{}
		Expect(k8s.List(ctx, deployments, client.InNamespace(s.namespace))).To(Succeed())
		Expect(deployments.Items).To(BeEmpty(), "pods without flags cannot become ready")

		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(o *corev1.ConfigMap) { o.Data["flags.json"] = `{"flags": {}}` })
		s.ready(ctx)
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(o *corev1.ConfigMap) { o.Data["flags.json"] = "broken" })
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		s.expect(ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		s.expect(ctx, v1alpha1.ConditionServiceAvailable, metav1.ConditionTrue, v1alpha1.ReasonAvailable)
	})
})

var _ = Describe("A namespace that is being deleted", func() {
	It("is reported and not retried in a hot loop", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.reconcile(ctx)
		Expect(k8s.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}})).To(Succeed())
		_, err := s.Reconcile(ctx, requestFor(s))
		Expect(apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)).To(BeTrue(), "an error, so that the queue backs off: %v", err)
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNamespaceTerminating)
	})
})
