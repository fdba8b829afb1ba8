// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/programs"
)

var _ = Describe("A canary with the Gateway API", Ordered, func() {
	var s *stage
	BeforeEach(func(ctx context.Context) {
		s = newStage(ctx)
		fc := s.aFlagCache()
		fc.Spec.Canary.Steps = []v1alpha1.CanaryStep{{Weight: 5, Duration: metav1.Duration{Duration: time.Hour}}}
		fc.Spec.Canary.Traffic = v1alpha1.TrafficSpec{Type: v1alpha1.TrafficGatewayAPI, HTTPRouteRef: &v1alpha1.LocalReference{Name: "shop"}}
		s.create(ctx, fc)
		s.ready(ctx)
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Service.Image = "flag-service:v2" })
		s.settle(ctx)
		s.podsAvailable(ctx)
	})

	It("waits for the Gateway API and for the route", func(ctx context.Context) {
		s.settle(ctx)
		held := s.expect(ctx, v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonCanaryHeld)
		Expect(held.Message).To(ContainSubstring("install the Gateway API"))
		Expect(s.reconcile(ctx).RequeueAfter).To(Equal(10*time.Second), "a reconcile at each interval, without a hot loop")

		installGatewayAPI(ctx)
		s.settle(ctx)
		held = s.expect(ctx, v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonCanaryHeld)
		Expect(held.Message).To(ContainSubstring("HTTPRoute shop does not exist"))
	})

	It("sets the candidate's weight, and removes the candidate from the route when it is rolled back", func(ctx context.Context) {
		s.startRoutedCanary(ctx)
		candidate := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Candidate
		Expect(s.weights(ctx)).To(Equal(map[string]int32{"demo": 95, "demo-" + candidate: 5}))
		s.expectGone(ctx, &corev1.ConfigMap{}, "demo-traffic")
		Expect(s.sampler.watched).To(HaveKey(requestFor(s).NamespacedName))
		Expect(s.sampler.watched[requestFor(s).NamespacedName].Split).To(BeFalse(), "the candidate's own pods count its requests")

		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationAbort: candidate}
		})
		s.reconcile(ctx)
		Expect(s.weights(ctx)).To(Equal(map[string]int32{"demo": 1}))
		get(ctx, s, &appsv1.Deployment{}, "demo-"+candidate)
		s.acceptRoute(ctx)
		s.settle(ctx)
		s.expectGone(ctx, &appsv1.Deployment{}, "demo-"+candidate)
		s.expectGone(ctx, &corev1.Service{}, "demo-"+candidate)
		route := get(ctx, s, &gatewayv1.HTTPRoute{}, "shop")
		Expect(route.OwnerReferences).To(BeEmpty(), "the route belongs to the user")
		Expect(route.Labels).To(BeEmpty(), "the route belongs to the user")
	})

	It("never overwrites a change that it has not observed", func(ctx context.Context) {
		s.startRoutedCanary(ctx)
		candidate := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Candidate
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationAbort: candidate}
		})
		s.Live = interceptor.NewClient(k8s, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				err := c.Get(ctx, key, o, opts...)
				if o.GetObjectKind().GroupVersionKind().Kind == "HTTPRoute" {
					edit(ctx, s, &gatewayv1.HTTPRoute{}, "shop", func(route *gatewayv1.HTTPRoute) {
						route.Spec.Hostnames = []gatewayv1.Hostname{"shop.example.com"}
					})
				}
				return err
			},
		})
		s.reconcile(ctx)
		Expect(s.weights(ctx)).To(HaveKey("demo-" + candidate))

		s.Live = k8s
		s.reconcile(ctx)
		Expect(s.weights(ctx)).To(Equal(map[string]int32{"demo": 1}))
		Expect(get(ctx, s, &gatewayv1.HTTPRoute{}, "shop").Spec.Hostnames).To(HaveLen(1))
	})

	It("is removed from the route before its Services are deleted", func(ctx context.Context) {
		s.startRoutedCanary(ctx)
		Expect(k8s.Delete(ctx, get(ctx, s, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
		s.reconcile(ctx)
		Expect(s.weights(ctx)).To(Equal(map[string]int32{"demo": 1}))
		get(ctx, s, &corev1.Service{}, "demo")
		s.settle(ctx)
		s.expectGone(ctx, &v1alpha1.FlagCache{}, "demo")
	})

	It("can be deleted after its route was deleted", func(ctx context.Context) {
		s.startRoutedCanary(ctx)
		Expect(k8s.Delete(ctx, get(ctx, s, &gatewayv1.HTTPRoute{}, "shop"))).To(Succeed())
		Expect(k8s.Delete(ctx, get(ctx, s, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
		s.settle(ctx)
		s.expectGone(ctx, &v1alpha1.FlagCache{}, "demo")
	})
})

// installGatewayAPI installs the kind HTTPRoute in the running cluster.
func installGatewayAPI(ctx context.Context) {
	GinkgoHelper()
	module, err := programs.Module(ctx, ".", "sigs.k8s.io/gateway-api")
	Expect(err).NotTo(HaveOccurred())
	crd := filepath.Join(module, "config", "crd", "standard", "gateway.networking.k8s.io_httproutes.yaml")
	_, err = envtest.InstallCRDs(config, envtest.CRDInstallOptions{Paths: []string{crd}, ErrorIfPathMissing: true})
	Expect(err).NotTo(HaveOccurred())
}

// startRoutedCanary starts the first step of a canary with the route shop.
func (s *stage) startRoutedCanary(ctx context.Context) {
	GinkgoHelper()
	installGatewayAPI(ctx)
	s.create(ctx, &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: s.namespace},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "public"}}},
			Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
				BackendObjectReference: gatewayv1.BackendObjectReference{Name: "demo", Port: ptr.To[gatewayv1.PortNumber](80)},
			}}}}},
		},
	})
	for range 3 {
		s.settle(ctx)
		s.acceptRoute(ctx)
	}
}

// acceptRoute acts as a gateway that accepts the route.
func (s *stage) acceptRoute(ctx context.Context) {
	GinkgoHelper()
	route := get(ctx, s, &gatewayv1.HTTPRoute{}, "shop")
	status := gatewayv1.RouteParentStatus{ParentRef: route.Spec.ParentRefs[0], ControllerName: "flagcache.dev/test"}
	for _, kind := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
		status.Conditions = append(status.Conditions, metav1.Condition{
			Type: string(kind), Status: metav1.ConditionTrue, Reason: "Accepted", LastTransitionTime: metav1.Now(), ObservedGeneration: route.Generation,
		})
	}
	route.Status.Parents = []gatewayv1.RouteParentStatus{status}
	Expect(k8s.Status().Update(ctx, route)).To(Succeed())
}

// weights returns the weights of the route's only rule.
func (s *stage) weights(ctx context.Context) map[string]int32 {
	GinkgoHelper()
	weights := map[string]int32{}
	for _, ref := range get(ctx, s, &gatewayv1.HTTPRoute{}, "shop").Spec.Rules[0].BackendRefs {
		weights[string(ref.Name)] = *ref.Weight
	}
	return weights
}
