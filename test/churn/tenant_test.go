// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/kwok"
)

// Names in the namespace of every tenant.
const (
	flagsName = "flags"
	redisName = "redis"
)

// The variants of a tenant's FlagCaches.
type variant string

const (
	// simulated pods, with the Redis that the tenant's FlagCaches share.
	simulated variant = "simulated"
	// shared is the same with real pods.
	shared variant = "shared"
	// own is real pods with a Redis of their own.
	own variant = "own"
	// tried is shared, with a canary of a few seconds.
	tried variant = "tried"
)

// variantOf is the variant of the nth FlagCache of a tenant: one in twenty of each with real
// pods.
func variantOf(n int) variant {
	switch n % 20 {
	case 0:
		return own
	case 1:
		return shared
	case 2:
		return tried
	}
	return simulated
}

// variantNamed is the variant of a FlagCache by its name.
func variantNamed(name string) variant {
	v, _, _ := strings.Cut(name, "-")
	return variant(v)
}

// tenant is a namespace with a Redis, flags, and FlagCaches.
type tenant struct {
	namespace string
	// made is how many FlagCaches were created so far: a name is never used again, because
	// what another FlagCache has left in Redis would belong to another store.
	made int
}

// prepare creates everything but FlagCaches.
func (r *rig) prepare(namespace string) *tenant {
	r.t.Helper()
	r.createNamespace(namespace)
	t := &tenant{namespace: namespace}
	r.create(t.flags("blue"), t.secret(), t.redis(), t.service(redisName, redisName, 6379))
	r.await("waiting for Redis", t.redisReady(r.Client))
	return t
}

func (t *tenant) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: t.namespace, Name: name}
}

// flags is a ConfigMap with a flag.
func (t *tenant) flags(colour string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: t.meta(flagsName), Data: map[string]string{"flags.json": fmt.Sprintf(
		`{"flags": {"colour": {"state": "ENABLED", "variants": {"blue": "#00f", "red": "#f00"}, "defaultVariant": %q}}}`, colour)}}
}

// secret is the connection to the shared Redis.
func (t *tenant) secret() *corev1.Secret {
	o := &corev1.Secret{ObjectMeta: t.meta(redisName), StringData: map[string]string{
		"host": redisName + "." + t.namespace + ".svc.cluster.local", "port": "6379",
	}}
	o.Labels = map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue}
	return o
}

func (t *tenant) redis() *appsv1.Deployment {
	return t.deployment(redisName, corev1.Container{
		Name: redisName, Image: cluster.ImageRedis, Command: []string{"redis-server"},
		Args:           []string{"--save", "", "--protected-mode", "no"},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(6379)}}, PeriodSeconds: 1},
	})
}

// redisReady reports whether the shared Redis has a ready pod.
func (t *tenant) redisReady(c client.Client) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		d := &appsv1.Deployment{}
		err := c.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: redisName}, d)
		if err == nil && d.Status.ReadyReplicas == 0 {
			err = errors.New("no pod of Redis is ready")
		}
		return err == nil, err
	}
}

// deployment is one real pod with a container.
func (t *tenant) deployment(name string, container corev1.Container) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: t.meta(name), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{container}, TerminationGracePeriodSeconds: ptr.To[int64](1)},
		},
	}}
}

// service selects the pods of a deployment.
func (t *tenant) service(name, app string, port int32) *corev1.Service {
	return &corev1.Service{ObjectMeta: t.meta(name), Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: port}},
	}}
}

// flagCache is the tenant's next FlagCache.
func (t *tenant) flagCache(v variant) *v1alpha1.FlagCache {
	fc := &v1alpha1.FlagCache{ObjectMeta: t.meta(fmt.Sprintf("%s-%d", v, t.made))}
	t.made++
	second := metav1.Duration{Duration: time.Second}
	fc.Spec = v1alpha1.FlagCacheSpec{
		Environment: fc.Namespace + "-" + fc.Name,
		Flags:       v1alpha1.FlagsSpec{ConfigMap: &v1alpha1.ConfigMapKey{Name: flagsName}},
		Cache: v1alpha1.CacheSpec{
			Type: v1alpha1.CacheExternal, External: &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: redisName}},
		},
		Service: v1alpha1.ServiceSpec{Replicas: ptr.To[int32](1), Resources: small()},
		Canary:  &v1alpha1.CanarySpec{Steps: []v1alpha1.CanaryStep{}},
		Probe: v1alpha1.ProbeSpec{
			Interval: metav1.Duration{Duration: 5 * time.Second}, Timeout: metav1.Duration{Duration: 2 * time.Second}, SuccessThreshold: 1,
		},
	}
	switch v {
	case simulated:
		fc.Spec.Service.NodeSelector = map[string]v1alpha1.LabelValue{kwok.LabelSimulated: "true"}
		fc.Spec.Service.Tolerations = []corev1.Toleration{{Key: kwok.LabelSimulated, Operator: corev1.TolerationOpExists}}
	case own:
		fc.Spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheInCluster, InCluster: &v1alpha1.InClusterSpec{Resources: small()}}
	case tried:
		// What is measured is how long the operator takes, so that hardly any release is bad.
		fc.Spec.Canary = &v1alpha1.CanarySpec{
			Steps:   []v1alpha1.CanaryStep{{Weight: 50, Duration: metav1.Duration{Duration: 4 * time.Second}}},
			Metrics: v1alpha1.MetricsSpec{Interval: second},
			Thresholds: v1alpha1.ThresholdsSpec{
				ErrorRate: "99%", CacheHitRate: "0%", LatencyP95: second, LatencyP99: second, MissLatencyP95: second,
			},
			MinimumRequests: 0,
		}
	}
	return fc
}

// small lets many pods fit on the real node.
func small() *v1alpha1.ResourceRequirements {
	return &v1alpha1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("8Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
	}
}
