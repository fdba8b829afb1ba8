// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/leak"
)

// Passwords of the external Redis.
var (
	rightPassword = leak.Marked("the right one")
	wrongPassword = leak.Marked("a wrong one")
)

var _ = Describe("An external Redis", func() {
	It("is used as its Secret specifies, follows the Secret, and survives the FlagCache", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		created(ctx, someFlags(namespace))
		created(ctx, externalRedis(namespace)...)
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shared"},
			StringData: map[string]string{"host": "shared." + namespace + ".svc", "port": "6379", "password": wrongPassword},
		}
		created(ctx, secret)
		fc := aFlagCache(namespace, "external", func(spec *v1alpha1.FlagCacheSpec) {
			spec.Cache.Type = v1alpha1.CacheExternal
			spec.Cache.External = &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "shared"}}
		})

		By("naming a Secret that its owner has not labelled")
		created(ctx, fc)
		expectCondition(ctx, fc, v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonSecretNotPermitted)
		expectCondition(ctx, fc, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonSecretNotPermitted)

		By("labelling it, with a wrong password")
		changed(ctx, secret, func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue} })
		expectCondition(ctx, fc, v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, "WrongPassword")
		expectEveryPodServes(ctx, fc, "colour", "blue")

		By("setting the right password")
		expectNoneFailed := withTraffic(ctx, fc, "colour")
		changed(ctx, secret, func(s *corev1.Secret) { s.Data["password"] = []byte(rightPassword) })
		expectReady(ctx, fc)
		Expect(fc.Status.Cache.Endpoint).To(Equal("shared." + namespace + ".svc:6379"))
		expectNoneFailed()

		By("deleting the FlagCache")
		external := []string{"Service/shared", "Secret/shared", "Secret/shared-config", "ConfigMap/flags"}
		before := inventory(ctx, namespace)
		pod := read(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shared"}}).DeepCopy()
		Expect(local.Client.Delete(ctx, fc)).To(Succeed())
		expectDeleted(ctx, fc)
		left := inventory(ctx, namespace)
		for _, o := range external {
			Expect(left).To(HaveKeyWithValue(o, before[o]), "%s is not the operator's", o)
		}
		after := read(ctx, pod.DeepCopy()) // its status is the kubelet's
		Expect([]any{after.UID, after.DeletionTimestamp, after.Labels, after.Annotations, after.OwnerReferences, after.Spec}).
			To(Equal([]any{pod.UID, pod.DeletionTimestamp, pod.Labels, pod.Annotations, pod.OwnerReferences, pod.Spec}), "the external pod")
	})
})

// externalRedis is a Redis with a password that the operator does not manage.
func externalRedis(namespace string) []client.Object {
	labels := map[string]string{"app": "shared"}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shared-config"},
		StringData: map[string]string{"redis.conf": "dir /data\nsave \"\"\nrequirepass " + rightPassword + "\n"},
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shared"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 6379, TargetPort: intstr.FromInt32(6379)}}},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shared", Labels: labels},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](65532), FSGroup: ptr.To[int64](65532),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "redis", Image: cluster.ImageRedis, Command: []string{"redis-server", "/etc/redis/redis.conf"},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
					TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(6379)},
				}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/redis"}, {Name: "data", MountPath: "/data"}},
			}},
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "shared-config"}}},
				{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			},
		},
	}
	return []client.Object{secret, service, pod}
}
