// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/programs"
)

// Names in every namespace of the benchmark.
const (
	flagsName = "flags"
	redisName = "shared-redis"
)

// probeInterval is the default interval, which the targets are defined for.
const probeInterval = 10 * time.Second

// sampleFlags returns the flags of config/samples.
func sampleFlags() (map[string]string, error) {
	root, err := programs.Root()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "config", "samples", "flagcache.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading the sample's flags: %w", err)
	}
	sample := &corev1.ConfigMap{} // the first document of the file
	if err := yaml.Unmarshal(text, sample); err != nil {
		return nil, fmt.Errorf("reading the sample's flags: %w", err)
	}
	return sample.Data, nil
}

// redis is a server that FlagCaches share.
type redis struct{ address, password string }

// tenant is a namespace of the benchmark with its flags and Redis.
type tenant struct {
	namespace string
	flags     map[string]string
	redis     redis
}

func (t tenant) objectMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: t.namespace, Name: name}
}

func (t tenant) configMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: t.objectMeta(flagsName), Data: t.flags}
}

// secret is the connection Secret of the shared Redis.
func (t tenant) secret() (*corev1.Secret, error) {
	host, port, err := net.SplitHostPort(t.redis.address)
	if err != nil {
		return nil, fmt.Errorf("reading Redis's address: %w", err)
	}
	secret := &corev1.Secret{ObjectMeta: t.objectMeta(redisName), StringData: map[string]string{
		"host": host, "port": port, "password": t.redis.password,
	}}
	secret.Labels = map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue}
	return secret, nil
}

// flagCache is a minimal FlagCache. It sets an environment, because its Redis may be
// shared.
func (t tenant) flagCache(name string, cache v1alpha1.CacheType) *v1alpha1.FlagCache {
	fc := &v1alpha1.FlagCache{ObjectMeta: t.objectMeta(name)}
	fc.Spec.Environment = t.namespace + "-" + name
	fc.Spec.Flags.ConfigMap = &v1alpha1.ConfigMapKey{Name: flagsName}
	fc.Spec.Probe.Interval = metav1.Duration{Duration: probeInterval}
	fc.Spec.Cache.Type = cache
	if cache == v1alpha1.CacheExternal {
		fc.Spec.Cache.External = &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: redisName}}
	}
	return fc
}

// createNamespace creates the namespace and waits until it accepts pods.
func (t tenant) createNamespace(ctx context.Context, c client.Client) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: t.namespace}}
	if err := c.Create(ctx, namespace); err != nil {
		return fmt.Errorf("creating namespace %s: %w", t.namespace, err)
	}
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, client.IgnoreNotFound(err)
	})
	if err != nil {
		return fmt.Errorf("waiting for the ServiceAccount of namespace %s: %w", t.namespace, err)
	}
	return nil
}

// poll waits for a condition, up to waitLimit.
func poll(ctx context.Context, condition wait.ConditionWithContextFunc) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, waitLimit, true, condition)
}

// isReady reports whether a FlagCache is Ready in its current generation.
func isReady(fc *v1alpha1.FlagCache) bool {
	ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == fc.Generation
}
