// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// threeReplicas is for specs about all pods.
func threeReplicas(spec *v1alpha1.FlagCacheSpec) { spec.Service.Replicas = ptr.To[int32](3) }

// mountedNumber is the number of the flags in the mount of a pod, as its kubelet wrote it.
func mountedNumber(pod corev1.Pod) int64 {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(local.Dir, "kubelet", "pods", string(pod.UID), "volumes", "kubernetes.io~configmap", "flags", "manifest.json"))
	Expect(err).NotTo(HaveOccurred())
	var manifest struct{ Current struct{ Number int64 } }
	Expect(json.Unmarshal(text, &manifest)).To(Succeed())
	return manifest.Current.Number
}

// pushed changes the flags, waits until every pod serves them, and returns how many pods did
// before their mount had them.
func pushed(ctx context.Context, fc *v1alpha1.FlagCache, flags *corev1.ConfigMap, colour string) (ahead int) {
	GinkgoHelper()
	before := read(ctx, fc).Status.Flags.Number
	changed(ctx, flags, func(f *corev1.ConfigMap) { f.Data["flags.json"] = flagsJSON(colour) })
	expectEveryPodServes(ctx, fc, "colour", colour)
	for _, pod := range podsOf(ctx, fc, v1alpha1.ComponentService) {
		if mountedNumber(pod) <= before {
			ahead++
		}
	}
	return ahead
}

// expectDelivered waits until all pods of a FlagCache have reported to serve the flags.
func expectDelivered(ctx context.Context, fc *v1alpha1.FlagCache, number int64) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		status := read(ctx, fc).Status.Flags
		g.Expect(status.Number).To(Equal(number))
		g.Expect(status.ServingPods).To(HaveValue(Equal(status.Pods)))
		g.Expect(fc).To(haveCondition(v1alpha1.ConditionFlagsDelivered, metav1.ConditionTrue, v1alpha1.ReasonDelivered))
	}).WithTimeout(soon).Should(Succeed())
}

var _ = Describe("Changed flags", func() {
	It("reach every pod through Redis before the mounts have them, and by the mounts without Redis", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		flags, fc := someFlags(namespace), aFlagCache(namespace, "pushed", threeReplicas)
		created(ctx, flags, fc)
		expectReady(ctx, fc)
		expectNoneFailed := withTraffic(ctx, fc, "colour")
		number := read(ctx, fc).Status.Flags.Number
		expectDelivered(ctx, fc, number)

		By("changing them five times")
		ahead := 0
		for _, colour := range []string{"red", "blue", "red", "blue", "red"} {
			ahead += pushed(ctx, fc, flags, colour)
		}
		Expect(ahead).To(BeNumerically(">", 15/2), "pods that served a change before their mount had it, of 3 pods and 5 changes")
		expectDelivered(ctx, fc, number+5)

		By("changing them while Redis is down")
		quota := &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "no-pods"},
			Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
		}
		created(ctx, quota)
		kubectl(ctx, "delete", "pod", "pushed-redis-0", "--namespace", namespace, "--force", "--grace-period=0")
		expectCondition(ctx, fc, v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, "ConnectionRefused")
		pushed(ctx, fc, flags, "blue")
		expectDelivered(ctx, fc, number+6)

		By("changing them when Redis is back")
		Expect(local.Client.Delete(ctx, quota)).To(Succeed())
		expectReady(ctx, fc)
		pushed(ctx, fc, flags, "red")
		expectDelivered(ctx, fc, number+7)
		expectNoneFailed()
	})
})

// Serial, because other specs need Redis and the operator.
var _ = Describe("An operator that is killed between the ConfigMap and Redis", Serial, func() {
	It("writes the flags to Redis after its restart", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		flags, fc := someFlags(namespace), aFlagCache(namespace, "between", threeReplicas)
		created(ctx, flags, fc)
		expectReady(ctx, fc)
		expectNoneFailed := withTraffic(ctx, fc, "colour")
		number := read(ctx, fc).Status.Flags.Number
		expectDelivered(ctx, fc, number)

		By("freezing Redis, so that the flags are in the ConfigMap only")
		Expect(local.Signal("redis-server", syscall.SIGSTOP)).To(Succeed())
		thaw := func() error { return local.Signal("redis-server", syscall.SIGCONT) }
		DeferCleanup(thaw)
		changed(ctx, flags, func(f *corev1.ConfigMap) { f.Data["flags.json"] = flagsJSON("red") })
		Eventually(ctx, func() int64 { return read(ctx, fc).Status.Flags.Number }).WithTimeout(soon).Should(Equal(number + 1))
		killOperator(ctx)
		Expect(thaw()).To(Succeed())

		By("waiting for the next operator, after the lease has expired")
		expectEveryPodServes(ctx, fc, "colour", "red")
		expectDelivered(ctx, fc, number+1)
		expectReady(ctx, fc)
		expectNoneFailed()
	})
})
