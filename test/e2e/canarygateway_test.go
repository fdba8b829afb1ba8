// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/service/loadtest"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/programs"
)

// imageGateway is the image of test/e2e/gateway.
const imageGateway = "localhost/gateway"

var _ = Describe("A canary by a gateway", Ordered, Label("canary"), func() {
	const weight = 20
	var (
		fc      *v1alpha1.FlagCache
		route   *gatewayv1.HTTPRoute
		before  gatewayv1.HTTPRouteSpec
		address string
	)

	routed := func(trial v1alpha1.CanarySpec) v1alpha1.CanarySpec {
		trial.Steps = []v1alpha1.CanaryStep{{Weight: weight, Duration: trial.Steps[0].Duration}}
		trial.Traffic = v1alpha1.TrafficSpec{Type: v1alpha1.TrafficGatewayAPI, HTTPRouteRef: &v1alpha1.LocalReference{Name: "shop"}}
		return trial
	}

	BeforeAll(func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc = aFlagCache(namespace, "shop", triedBy(routed(shortTrial)))
		created(ctx, someFlags(namespace), fc)
		expectReady(ctx, fc)

		By("installing the Gateway API, while the operator runs, and a gateway")
		installGatewayAPI(ctx)
		route = aRoute(namespace, fc.Name)
		created(ctx, append(aGateway(namespace), route)...)
		address = "gateway." + namespace + ".svc:80"
		endpoint := cluster.Endpoint{URL: "http://" + address, HTTP: local.HTTPClient(false)}
		Eventually(ctx, func(ctx context.Context) error {
			_, err := endpoint.Evaluate(ctx, "colour", nil)
			return err
		}).WithTimeout(soon).Should(Succeed(), "the gateway accepts the route")
		before = *read(ctx, route).Spec.DeepCopy()
	})

	// expectShared waits until the candidate has its weight in the route, and the gateway
	// has accepted that.
	expectShared := func(ctx context.Context) (candidate string) {
		GinkgoHelper()
		Eventually(ctx, func(g Gomega) {
			status := read(ctx, fc).Status
			g.Expect(status.Canary).NotTo(BeNil())
			g.Expect(status.Canary.Weight).To(BeEquivalentTo(weight))
			candidate = status.Revisions.Candidate
			g.Expect(read(ctx, route).Status.Parents[0].Conditions).To(HaveEach(HaveField("ObservedGeneration", route.Generation)))
		}).WithTimeout(rolledOut).Should(Succeed())
		Expect(weightsOf(route)).To(Equal(map[string]int32{fc.Name: 7 * (100 - weight), fc.Name + "-" + candidate: 7 * weight}))
		return candidate
	}

	It("gives a good release its share, and promotes it", func(ctx context.Context) {
		load := startLoad(ctx, address, clientRate/2)
		stable := revisionOf(ctx, fc)
		changeRelease(ctx, fc, "none", routed(good(longTrial)))
		candidate := expectShared(ctx)

		By("measuring the share")
		options := load.options
		options.Duration, options.Rate, options.Seed = 5*time.Second, clientRate, 1
		measured, err := loadtest.Run(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		share := float64(measured.Revisions[candidate]) / float64(measured.Requests)
		AddReportEntry("Share of the candidate", fmt.Sprintf("%d of %d requests, %.1f %%; the operator reports %s, the route has %d %%",
			measured.Revisions[candidate], measured.Requests, 100*share, read(ctx, fc).Status.Canary.ActualWeight, weight), ReportEntryVisibilityAlways)
		Expect(share).To(BeNumerically("~", weight/100., 0.06))

		By("shortening the canary so that it passes")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Canary = ptr.To(routed(shortTrial)) })
		Eventually(ctx, func() string { return revisionOf(ctx, fc) }).WithTimeout(rolledOut).Should(Equal(candidate))
		Expect(candidate).NotTo(Equal(stable))
		expectReady(ctx, fc)
		expectRestored(ctx, route, before)
		load.expectNoClientAffected()
	}, SpecTimeout(rolledOut))

	It("removes a bad release from the route", func(ctx context.Context) {
		load := startLoad(ctx, address, clientRate/2)
		stable := revisionOf(ctx, fc)
		changeRelease(ctx, fc, "errors", routed(longTrial))
		expectRolledBack(ctx, fc, stable, "errorRate", ownFailures)
		expectRestored(ctx, route, before)

		report := load.end()
		Expect(report.Revisions).To(HaveKey(fc.Status.Revisions.Rejected), "it had a share before")
		delete(report.ErrorsByKind, "status 500")
		Expect(report.ErrorsByKind).To(BeEmpty(), "behind a gateway no stable pod answers instead of a failing candidate; nothing else fails")
	}, SpecTimeout(rolledOut))

	It("restores the route when it is deleted during a canary", func(ctx context.Context) {
		changeRelease(ctx, fc, "another good one", routed(good(longTrial)))
		expectShared(ctx)
		Expect(local.Client.Delete(ctx, fc)).To(Succeed())
		expectDeleted(ctx, fc)
		expectRestored(ctx, route, before)
		Expect(route.DeletionTimestamp).To(BeNil(), "the route is the user's")
	}, SpecTimeout(rolledOut))
})

// expectRestored waits until a route has its previous spec.
func expectRestored(ctx context.Context, route *gatewayv1.HTTPRoute, before gatewayv1.HTTPRouteSpec) {
	GinkgoHelper()
	Eventually(ctx, func() gatewayv1.HTTPRouteSpec { return read(ctx, route).Spec }).WithTimeout(soon).Should(Equal(before))
	Expect(route.OwnerReferences).To(BeEmpty())
	Expect(route.Labels).To(BeEmpty())
}

// weightsOf are the weights of a route's backends.
func weightsOf(route *gatewayv1.HTTPRoute) map[string]int32 {
	weights := map[string]int32{}
	for _, ref := range route.Spec.Rules[0].BackendRefs {
		weights[string(ref.Name)] = ptr.Deref(ref.Weight, 1)
	}
	return weights
}

// installGatewayAPI installs the CRDs of the Gateway API from its Go module.
func installGatewayAPI(ctx context.Context) {
	GinkgoHelper()
	module, err := programs.Module(ctx, ".", "sigs.k8s.io/gateway-api")
	Expect(err).NotTo(HaveOccurred())
	crds := filepath.Join(module, "config", "crd", "standard")
	kubectl(ctx, "apply", "--server-side", "--filename", crds)
	kubectl(ctx, "wait", "--for=condition=Established", "--timeout=1m", "crd/httproutes.gateway.networking.k8s.io")
}

// aRoute has a weight that is no default, which shows whether it is restored.
func aRoute(namespace, service string) *gatewayv1.HTTPRoute {
	backend := gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{
		BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(service), Port: ptr.To[gatewayv1.PortNumber](80)},
		Weight:                 ptr.To[int32](7),
	}}
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shop"},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "public"}}},
			Rules:           []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{backend}}},
		},
	}
}

// aGateway is a gateway for the routes of its namespace.
func aGateway(namespace string) []client.Object {
	const port = 8080
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "gateway", Labels: map[string]string{"app": "gateway"}}
	account := &corev1.ServiceAccount{ObjectMeta: meta}
	role := &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{gatewayv1.GroupName}, Resources: []string{"httproutes"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{gatewayv1.GroupName}, Resources: []string{"httproutes/status"}, Verbs: []string{"update"}},
		{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"get", "list", "watch"}},
	}}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account.Name}},
	}
	service := &corev1.Service{
		ObjectMeta: meta,
		Spec:       corev1.ServiceSpec{Selector: meta.Labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(port)}}},
	}
	pod := &corev1.Pod{
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			ServiceAccountName: account.Name,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](65532),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "gateway", Image: imageGateway,
				Env: []corev1.EnvVar{{Name: "GATEWAY", Value: namespace + "/public"}, {Name: "PORT", Value: fmt.Sprint(port)}},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
					TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)},
				}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	return []client.Object{account, role, binding, service, pod}
}
