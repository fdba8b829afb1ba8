// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Of returns the connection that the pods of a revision use. Two Secrets hold it;
// the one that was not edited since counts.
func Of(x *observed.Index, d *appsv1.Deployment) (Connection, bool) {
	if d == nil {
		return Connection{}, false
	}
	for _, name := range []string{observed.PrivateConnectionName(x.FlagCache, HashOf(d)), observed.ConnectionName(x.FlagCache)} {
		secret, ok := observed.Get[*corev1.Secret](x, name)
		if !ok {
			continue
		}
		if c := read(secret.Data); c.Hash(x.FlagCache.UID) == HashOf(d) {
			return c, true
		}
	}
	return Connection{}, false
}

// HashOf returns the hash of the connection that the pods of a Deployment use.
func HashOf(d *appsv1.Deployment) string {
	return d.Spec.Template.Annotations[v1alpha1.AnnotationConnection]
}

// portsOf returns the ports of all connections with a Secret and of the desired
// one, the default port of Redis if there is none.
func portsOf(x *observed.Index, desired *Connection) []int32 {
	var ports []int32
	if desired != nil {
		ports = append(ports, int32(desired.Port))
	}
	for _, secret := range secretsOf(x) {
		if port, err := strconv.ParseInt(string(secret.Data["port"]), 10, 32); err == nil {
			ports = append(ports, int32(port))
		}
	}
	if len(ports) == 0 {
		ports = append(ports, DefaultPort)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// usesIAM reports whether the pods of any revision authenticate with AWS
// credentials, or will.
func usesIAM(x *observed.Index, desired *Connection) bool {
	return desired != nil && desired.IAMCache != "" || slices.ContainsFunc(secretsOf(x), func(secret *corev1.Secret) bool {
		return len(secret.Data[iamCacheKey]) > 0
	})
}

// secretsOf returns the Secrets of all connections.
func secretsOf(x *observed.Index) []*corev1.Secret {
	return slices.DeleteFunc(observed.All[*corev1.Secret](x), func(s *corev1.Secret) bool { return s.Type != SecretType })
}

func newSecret(fc *v1alpha1.FlagCache, name string, c Connection) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: observed.ChildMeta(fc, name, v1alpha1.ComponentService),
		Type:       SecretType,
		Data:       c.data(),
	}
}

// clientConfigMap has the variable that OFREP providers of OpenFeature read, for
// envFrom.
func clientConfigMap(fc *v1alpha1.FlagCache) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: observed.ChildMeta(fc, observed.ClientName(fc), v1alpha1.ComponentService),
		Data:       map[string]string{"OFREP_ENDPOINT": OFREPEndpoint(fc)},
	}
}

// OFREPEndpoint is the base URL of the flag service inside the cluster.
func OFREPEndpoint(fc *v1alpha1.FlagCache) string {
	return "http://" + observed.ServiceName(fc) + "." + fc.Namespace + ".svc"
}
