// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/hack/bench/page"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/machine"
)

// waitLimit bounds every single wait: a kubelet takes up to 90 seconds to update a mount.
const waitLimit = 5 * time.Minute

// bench measures and writes the report. A missed target is reported, not an error.
func bench(ctx context.Context, o options) (err error) {
	r := report{Started: time.Now(), Options: o}
	if r.Machine, err = machine.This(); err != nil {
		return err
	}
	progress("starting a cluster")
	c, err := cluster.Start(ctx, cluster.Options{Kube: o.programs.Kube, Images: o.programs.Images()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if err := c.Deploy(ctx); err != nil {
		return err
	}
	for _, pods := range o.pods {
		results, err := measureFleet(ctx, c, o, pods)
		if err != nil {
			return fmt.Errorf("measuring %d pods: %w", pods, err)
		}
		r.Results = append(r.Results, results...)
	}
	text := r.render()
	fmt.Print("\n", text, "\n")
	if o.output == "" {
		return nil
	}
	return page.Write(o.output, text)
}

// progress prints a message about what is being done.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// fleet is a FlagCache with a number of pods.
type fleet struct {
	*cluster.Cluster
	options
	size      int
	namespace string
	pods      []*watched
	// value is the value of the flag in the latest change.
	value int
}

// Names in the namespace of a fleet.
const (
	flagCacheName = "demo"
	flagsName     = "flags"
	flagsKey      = "flags.json"
)

// measureFleet measures all cases with a number of pods.
func measureFleet(ctx context.Context, c *cluster.Cluster, o options, pods int) ([]result, error) {
	f := &fleet{Cluster: c, options: o, size: pods, namespace: fmt.Sprintf("delivery-%d", pods)}
	progress("starting %d pods", pods)
	if err := f.create(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer f.unwatch()
	defer cancel()
	if err := f.watch(ctx); err != nil {
		return nil, err
	}
	var results []result
	for _, m := range []struct {
		name    string
		changes int
		around  func(context.Context, func() error) error
		apply   func(context.Context, string) error
	}{
		{caseAll, o.changes, nil, f.apply},
		{caseKilled, o.kills, nil, f.applyAndKill},
		{caseMount, o.mountChanges, f.withoutRedis, f.apply},
	} {
		if m.changes == 0 {
			continue
		}
		progress("%d pods, %s: %d changes", pods, m.name, m.changes)
		one := result{Pods: pods, Case: m.name}
		measure := func() error { return f.measure(ctx, &one, m.changes, m.apply) }
		err := error(nil)
		if m.around != nil {
			err = m.around(ctx, measure)
		} else {
			err = measure()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		results = append(results, one)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}
	if err := c.Client.Delete(ctx, namespace); err != nil {
		return nil, fmt.Errorf("deleting the namespace: %w", err)
	}
	return results, nil
}

// document returns the flags with a value.
func document(value int) string {
	return fmt.Sprintf(`{"flags":{"flag":{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}}}`, value)
}

// create creates the FlagCache and waits until it is ready.
func (f *fleet) create(ctx context.Context) error {
	if err := f.CreateNamespace(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}); err != nil {
		return err
	}
	flags := &corev1.ConfigMap{ObjectMeta: f.meta(flagsName), Data: map[string]string{flagsKey: document(f.value)}}
	replicas := int32(f.size)
	fc := &v1alpha1.FlagCache{ObjectMeta: f.meta(flagCacheName)}
	fc.Spec.Flags.ConfigMap = &v1alpha1.ConfigMapKey{Name: flagsName}
	fc.Spec.Cache.Type = v1alpha1.CacheInCluster
	fc.Spec.Service.Replicas = &replicas
	// All pods run on the cores of this machine, and each event is to be sent at once.
	fc.Spec.Service.Resources = &v1alpha1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5m")}}
	fc.Spec.Service.Env = []v1alpha1.EnvVar{{Name: config.EnvEventStreamsSpread, Value: "0s"}}
	for _, object := range []client.Object{flags, fc} {
		if err := f.Client.Create(ctx, object); err != nil {
			return fmt.Errorf("creating %T: %w", object, err)
		}
	}
	return f.await(ctx, "the FlagCache is ready", func(ctx context.Context) (bool, error) {
		if err := f.Client.Get(ctx, client.ObjectKeyFromObject(fc), fc); err != nil {
			return false, err
		}
		ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady)
		return ready != nil && ready.Status == metav1.ConditionTrue && fc.Status.Service != nil && int(fc.Status.Service.ReadyReplicas) == f.size, nil
	})
}

func (f *fleet) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: f.namespace, Name: name}
}

func (f *fleet) await(ctx context.Context, what string, condition wait.ConditionWithContextFunc) error {
	if err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, waitLimit, true, condition); err != nil {
		return fmt.Errorf("waiting until %s: %w\nThe end of the operator's log:\n%s", what, err, f.OperatorLog(ctx, 20))
	}
	return nil
}

// apply writes flags to the user's ConfigMap.
func (f *fleet) apply(ctx context.Context, document string) error {
	flags := &corev1.ConfigMap{ObjectMeta: f.meta(flagsName)}
	patch := fmt.Sprintf(`{"data":{%q:%q}}`, flagsKey, document)
	if err := f.Client.Patch(ctx, flags, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		return fmt.Errorf("changing the flags: %w", err)
	}
	return nil
}

// applyAndKill writes flags while the operator is frozen, which is then killed with its pod.
func (f *fleet) applyAndKill(ctx context.Context, document string) error {
	if err := f.Signal("manager", syscall.SIGSTOP); err != nil {
		return err
	}
	if err := f.apply(ctx, document); err != nil {
		return err
	}
	_, err := f.Kubectl(ctx, "delete", "pods", "--namespace", cluster.OperatorNamespace, "--all", "--grace-period=1", "--wait=false")
	return err
}

// withoutRedis measures while Redis is away, because a quota permits no pod.
func (f *fleet) withoutRedis(ctx context.Context, measure func() error) error {
	quota := &corev1.ResourceQuota{
		ObjectMeta: f.meta("no-pods"),
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
	}
	if err := f.Client.Create(ctx, quota); err != nil {
		return fmt.Errorf("stopping Redis: %w", err)
	}
	if _, err := f.Kubectl(ctx, "delete", "pod", flagCacheName+"-redis-0", "--namespace", f.namespace, "--force", "--grace-period=0"); err != nil {
		return fmt.Errorf("stopping Redis: %w", err)
	}
	fc := &v1alpha1.FlagCache{ObjectMeta: f.meta(flagCacheName)}
	err := f.await(ctx, "Redis is away", func(ctx context.Context) (bool, error) {
		if err := f.Client.Get(ctx, client.ObjectKeyFromObject(fc), fc); err != nil {
			return false, err
		}
		return meta.IsStatusConditionFalse(fc.Status.Conditions, v1alpha1.ConditionCacheHealthy), nil
	})
	if err != nil {
		return err
	}
	if err := measure(); err != nil {
		return err
	}
	if err := f.Client.Delete(ctx, quota); err != nil {
		return fmt.Errorf("starting Redis: %w", err)
	}
	return nil
}

// measure makes a number of changes, each once all pods have the one before.
func (f *fleet) measure(ctx context.Context, r *result, changes int, apply func(context.Context, string) error) error {
	start := time.Now()
	for range changes {
		f.value++
		text := document(f.value)
		began := time.Now()
		if err := apply(ctx, text); err != nil {
			return err
		}
		times, err := f.awaitEverywhere(ctx, text, began)
		if err != nil {
			return err
		}
		stale, err := f.ask(ctx)
		if err != nil {
			return err
		}
		r.record(times, stale)
		if err := sleep(ctx, f.pause); err != nil {
			return err
		}
	}
	// Status and Events follow within seconds.
	if err := sleep(ctx, 10*time.Second); err != nil {
		return err
	}
	var err error
	r.Writes, err = countWrites(f.Dir, f.namespace, start, time.Now())
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
