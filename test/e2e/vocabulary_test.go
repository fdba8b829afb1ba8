// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

// soon is the limit for a FlagCache to get from one settled state to the next. It
// takes seconds; a busy machine may need more.
const soon = 2 * time.Minute

// ownNamespaces are those that this process created.
var ownNamespaces = []string{"none"}

// aNamespace creates a namespace under Pod Security's level "restricted", which is
// deleted after the spec.
func aNamespace(ctx context.Context) string {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-",
		Labels:       map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	Expect(local.CreateNamespace(ctx, namespace)).To(Succeed())
	ownNamespaces = append(ownNamespaces, namespace.Name)
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(local.Client.Delete(ctx, namespace))).To(Succeed())
	})
	return namespace.Name
}

// someFlags is a ConfigMap with flags for specs that are not about flags.
func someFlags(namespace string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "flags"},
		Data:       map[string]string{"flags.json": flagsJSON("blue")},
	}
}

// flagsJSON is a file with one flag, colour, with the given default.
func flagsJSON(colour string) string {
	return fmt.Sprintf(`{
  "flags": {
    "colour": {"state": "ENABLED", "variants": {"blue": "#00f", "red": "#f00"}, "defaultVariant": %q}
  }
}`, colour)
}

// aFlagCache uses someFlags, has one replica, is probed every second, and changes
// without a canary.
func aFlagCache(namespace, name string, with ...func(*v1alpha1.FlagCacheSpec)) *v1alpha1.FlagCache {
	fc := &v1alpha1.FlagCache{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.FlagCacheSpec{
			Flags:   v1alpha1.FlagsSpec{ConfigMap: &v1alpha1.ConfigMapKey{Name: "flags"}},
			Service: v1alpha1.ServiceSpec{Replicas: ptr.To[int32](1)},
			Canary:  &v1alpha1.CanarySpec{Steps: []v1alpha1.CanaryStep{}},
			Probe: v1alpha1.ProbeSpec{
				Interval: metav1.Duration{Duration: time.Second}, Timeout: metav1.Duration{Duration: time.Second},
				FailureThreshold: 2, SuccessThreshold: 1,
			},
		},
	}
	for _, change := range with {
		change(&fc.Spec)
	}
	return fc
}

// created creates objects.
func created(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, o := range objects {
		Expect(local.Client.Create(ctx, o)).To(Succeed())
	}
}

// read reads the present version of an object.
func read[T client.Object](ctx context.Context, o T) T {
	GinkgoHelper()
	Expect(local.Client.Get(ctx, client.ObjectKeyFromObject(o), o)).To(Succeed())
	return o
}

// changed changes the present version of an object.
func changed[T client.Object](ctx context.Context, o T, change func(T)) {
	GinkgoHelper()
	Expect(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if err := local.Client.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change(o)
		return local.Client.Update(ctx, o)
	})).To(Succeed())
}

// kubectl runs kubectl and returns its output.
func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	output, err := local.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return output
}

// haveCondition matches a FlagCache with this condition about its current spec.
func haveCondition(kind string, state metav1.ConditionStatus, reason string) types.GomegaMatcher {
	return WithTransform(func(fc *v1alpha1.FlagCache) string {
		c := meta.FindStatusCondition(fc.Status.Conditions, kind)
		if c == nil {
			return kind + " is missing"
		}
		if c.ObservedGeneration != fc.Generation {
			return kind + " is about an older spec"
		}
		return fmt.Sprintf("%s is %s: %s", kind, c.Status, c.Reason)
	}, Equal(fmt.Sprintf("%s is %s: %s", kind, state, reason)))
}

// messageOf is the message of a FlagCache's condition.
func messageOf(fc *v1alpha1.FlagCache, kind string) string {
	if c := meta.FindStatusCondition(fc.Status.Conditions, kind); c != nil {
		return c.Message
	}
	return ""
}

// expectCondition waits until a FlagCache has a condition, and returns it.
func expectCondition(ctx context.Context, fc *v1alpha1.FlagCache, kind string, state metav1.ConditionStatus, reason string) *v1alpha1.FlagCache {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) (*v1alpha1.FlagCache, error) {
		return fc, local.Client.Get(ctx, client.ObjectKeyFromObject(fc), fc)
	}).WithTimeout(soon).Should(haveCondition(kind, state, reason), "FlagCache %s", fc.Name)
	return fc
}

// expectReady waits until a FlagCache is Ready, and returns it.
func expectReady(ctx context.Context, fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	GinkgoHelper()
	return expectCondition(ctx, fc, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

// expectEditsUndone edits all children of some kinds that a FlagCache has, and waits until the
// operator has restored each.
func expectEditsUndone(ctx context.Context, fc *v1alpha1.FlagCache, lists ...client.ObjectList) {
	GinkgoHelper()
	for _, list := range lists {
		var children []runtime.Object
		Eventually(ctx, func(ctx context.Context) ([]runtime.Object, error) {
			if err := local.Client.List(ctx, list, client.InNamespace(fc.Namespace), client.MatchingLabels{v1alpha1.LabelName: fc.Name}); err != nil {
				return nil, err
			}
			var err error
			children, err = meta.ExtractList(list)
			return children, err
		}).WithTimeout(soon).ShouldNot(BeEmpty(), "%T", list)
		for _, child := range children {
			o := child.(client.Object)
			component := o.GetLabels()[v1alpha1.LabelComponent]
			changed(ctx, o, func(o client.Object) { o.GetLabels()[v1alpha1.LabelComponent] = "edited" })
			Eventually(ctx, func(ctx context.Context) string { return read(ctx, o).GetLabels()[v1alpha1.LabelComponent] }).
				WithTimeout(soon).Should(Equal(component), "%T %s", o, o.GetName())
		}
	}
}

// expectDeleted waits until an object does not exist.
func expectDeleted(ctx context.Context, o client.Object) {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) error {
		return local.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
	}).WithTimeout(soon).Should(MatchError(ContainSubstring("not found")), "%T %s is deleted", o, o.GetName())
}

// expectNothingLeft waits until a namespace has no objects but those of an inventory.
func expectNothingLeft(ctx context.Context, namespace string, before cluster.Inventory) {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) ([]string, error) {
		now, err := local.Inventory(ctx, namespace)
		return now.NotIn(before), err
	}).WithTimeout(soon).Should(BeEmpty(), "objects left in namespace %s", namespace)
}

// inventory lists the objects of a namespace.
func inventory(ctx context.Context, namespace string) cluster.Inventory {
	GinkgoHelper()
	objects, err := local.Inventory(ctx, namespace)
	Expect(err).NotTo(HaveOccurred())
	return objects
}

// endpointOf is the flag service of a FlagCache, for a client that opens a connection
// for each request.
func endpointOf(ctx context.Context, fc *v1alpha1.FlagCache) cluster.Endpoint {
	GinkgoHelper()
	return cluster.Endpoint{URL: read(ctx, fc).Status.Service.OFREPEndpoint, HTTP: local.HTTPClient(false)}
}

// expectEveryPodServes waits until every pod serves a variant of a flag: until so many
// answers in a row have it that each pod gave some.
func expectEveryPodServes(ctx context.Context, fc *v1alpha1.FlagCache, flag, variant string) {
	GinkgoHelper()
	endpoint := endpointOf(ctx, fc)
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		for range 8 {
			answer, err := endpoint.Evaluate(ctx, flag, nil)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(answer.Variant).To(Equal(variant))
		}
	}).Should(Succeed(), "the variant of flag %s", flag)
}

// withTraffic starts two applications that evaluate a flag repeatedly: one opens a
// connection for each request, one keeps its connections. The function that it returns
// expects that no evaluation has failed so far.
func withTraffic(ctx context.Context, fc *v1alpha1.FlagCache, flag string) (expectNoneFailed func()) {
	GinkgoHelper()
	url := read(ctx, fc).Status.Service.OFREPEndpoint
	var all []*cluster.Traffic
	for _, keepAlive := range []bool{false, true} {
		endpoint := cluster.Endpoint{URL: url, HTTP: local.HTTPClient(keepAlive)}
		traffic := cluster.StartTraffic(endpoint, flag, nil, 20*time.Millisecond)
		DeferCleanup(func() {
			traffic.Stop()
			endpoint.HTTP.CloseIdleConnections()
		})
		all = append(all, traffic)
	}
	return func() {
		GinkgoHelper()
		for _, traffic := range all {
			tally := traffic.Tally()
			Expect(tally.Failure).NotTo(HaveOccurred(), "%s", tally)
			Expect(tally.Succeeded).To(BeNumerically(">", 0), "%s", tally)
		}
	}
}

// revisionOf is the revision behind the Service of a FlagCache.
func revisionOf(ctx context.Context, fc *v1alpha1.FlagCache) string {
	GinkgoHelper()
	Expect(read(ctx, fc).Status.Revisions).NotTo(BeNil())
	return fc.Status.Revisions.Stable
}

// podsOf are the pods of a FlagCache's component.
func podsOf(ctx context.Context, fc *v1alpha1.FlagCache, component string) []corev1.Pod {
	GinkgoHelper()
	pods := &corev1.PodList{}
	Expect(local.Client.List(ctx, pods, client.InNamespace(fc.Namespace), client.MatchingLabels{
		v1alpha1.LabelName: fc.Name, v1alpha1.LabelComponent: component,
	})).To(Succeed())
	return pods.Items
}

// deploymentsOf are the Deployments of a FlagCache: one for each revision.
func deploymentsOf(ctx context.Context, fc *v1alpha1.FlagCache) []appsv1.Deployment {
	GinkgoHelper()
	deployments := &appsv1.DeploymentList{}
	Expect(local.Client.List(ctx, deployments, client.InNamespace(fc.Namespace), client.MatchingLabels{
		v1alpha1.LabelName: fc.Name,
	})).To(Succeed())
	return deployments.Items
}

// stopOperator stops the operator gracefully, as a drain of its node does.
func stopOperator(ctx context.Context) {
	GinkgoHelper()
	scaleOperator(ctx, 0)
	Eventually(ctx, func() string {
		return kubectl(ctx, "get", "pods", "--namespace", cluster.OperatorNamespace, "--output", "name")
	}).Should(BeEmpty(), "pods of the operator")
}

// startOperator starts the operator again.
func startOperator(ctx context.Context) {
	GinkgoHelper()
	scaleOperator(ctx, 1)
	Expect(local.AwaitOperator(ctx, cluster.OperatorNamespace)).To(Succeed())
}

func scaleOperator(ctx context.Context, replicas int) {
	GinkgoHelper()
	kubectl(ctx, "scale", "--namespace", cluster.OperatorNamespace, "deployment", cluster.OperatorDeployment, fmt.Sprintf("--replicas=%d", replicas))
}

// killOperator kills the operator's process: it can neither finish what it does nor
// release its lease. It is frozen, and the kubelet kills it with its pod: a container
// that is killed otherwise would be restarted, at once or after a delay that doubles
// each time, and that operator would be one whose pod is deleted. Specs that use it
// are Serial.
func killOperator(ctx context.Context) {
	GinkgoHelper()
	Eventually(ctx, func() error { return local.Signal("manager", syscall.SIGSTOP) }).WithTimeout(soon).Should(Succeed())
	kubectl(ctx, "delete", "pods", "--namespace", cluster.OperatorNamespace, "--all", "--grace-period=1")
}
