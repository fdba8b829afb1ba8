// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/hack/bench/counter"
	"github.com/flagcache/flagcache/test/cluster"
)

// creation measures one FlagCache from kubectl apply to Ready.
type creation struct {
	Cache v1alpha1.CacheType
	// Total is the time from the start of kubectl until Ready, Kubectl the run time of
	// kubectl, Pods the time during which at least one pod was starting.
	Total, Kubectl, Pods time.Duration
	// Writes are those of the operator until Ready.
	Writes counter.Tally
}

// podsBench measures on a cluster with real pods.
type podsBench struct {
	*cluster.Cluster
	progress progress
	// dir is the directory for manifests.
	dir   string
	tally readTally
	flags map[string]string
	redis redis
}

// benchPods measures the time from kubectl apply to Ready and the steady state after it.
func benchPods(ctx context.Context, o options, out progress, r *report) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	images := o.programs.Images()
	images[imageBench] = self
	out.log("starting a cluster with real pods")
	started := cluster.Options{Kube: o.programs.Kube, Images: images, Progress: func(line string) { out.log("  %s", line) }}
	return withCluster(ctx, started, func(ctx context.Context, c *cluster.Cluster, started *processes) error {
		b, err := newPodsBench(ctx, c, out, started.dir)
		if err != nil {
			return err
		}
		for _, cache := range []v1alpha1.CacheType{v1alpha1.CacheInCluster, v1alpha1.CacheExternal} {
			for run := range o.runs {
				created, err := b.measureCreation(ctx, cache, run+1)
				if err != nil {
					return err
				}
				r.Creations = append(r.Creations, created)
			}
		}
		r.PodsSteady, err = b.measureSteady(ctx, o.window)
		return err
	})
}

func newPodsBench(ctx context.Context, c *cluster.Cluster, out progress, dir string) (*podsBench, error) {
	out.log("deploying the operator with a counter")
	if err := c.Deploy(ctx); err != nil {
		return nil, err
	}
	b := &podsBench{Cluster: c, progress: out, dir: dir}
	var err error
	if b.tally, err = addCounter(ctx, c); err != nil {
		return nil, err
	}
	if b.flags, err = sampleFlags(); err != nil {
		return nil, err
	}
	b.redis, err = b.startRedis(ctx)
	return b, err
}

// startRedis runs Redis in a pod, for External caches.
func (b *podsBench) startRedis(ctx context.Context) (redis, error) {
	home := tenant{namespace: "redis"}
	if err := home.createNamespace(ctx, b.Client); err != nil {
		return redis{}, err
	}
	server := redis{password: rand.Text()}
	pod := &corev1.Pod{ObjectMeta: home.objectMeta(redisName), Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "redis", Image: cluster.ImageRedis,
		Command:      []string{"redis-server", "--save", "", "--dir", "/tmp", "--bind", "0.0.0.0", "--requirepass", server.password},
		VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
	}}, Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}}}
	if err := b.Client.Create(ctx, pod); err != nil {
		return redis{}, fmt.Errorf("starting Redis: %w", err)
	}
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		err := b.Client.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return podReady(pod), err
	})
	if err != nil {
		return redis{}, fmt.Errorf("waiting for Redis: %w", err)
	}
	server.address = pod.Status.PodIP + ":6379"
	return server, nil
}

// measureCreation applies a FlagCache with kubectl and waits until it is Ready.
func (b *podsBench) measureCreation(ctx context.Context, cache v1alpha1.CacheType, run int) (creation, error) {
	t := tenant{namespace: fmt.Sprintf("%s-%d", strings.ToLower(string(cache)), run), flags: b.flags, redis: b.redis}
	if err := t.createNamespace(ctx, b.Client); err != nil {
		return creation{}, err
	}
	manifest, err := b.manifest(t, cache)
	if err != nil {
		return creation{}, err
	}
	before, err := b.tally(ctx)
	if err != nil {
		return creation{}, err
	}
	a, err := b.awaitCreation(ctx, t.namespace, manifest)
	if err != nil {
		return a, fmt.Errorf("waiting for the FlagCache in namespace %s to be Ready: %w", t.namespace, err)
	}
	after, err := b.tally(ctx)
	if err != nil {
		return a, err
	}
	a.Cache, a.Writes = cache, after.Since(before).In(t.namespace)
	b.progress.log("%s, run %d: Ready after %.2f s with %d writes", cache, run, a.Total.Seconds(), a.Writes.Of(isCost))
	return a, nil
}

// manifest writes the manifest to apply and returns its path.
func (b *podsBench) manifest(t tenant, cache v1alpha1.CacheType) (string, error) {
	objects := []client.Object{t.configMap()}
	if cache == v1alpha1.CacheExternal {
		secret, err := t.secret()
		if err != nil {
			return "", err
		}
		objects = append(objects, secret)
	}
	objects = append(objects, t.flagCache("demo", cache))
	var manifest strings.Builder
	encoder := json.NewEncoder(&manifest)
	for _, o := range objects {
		kind, err := apiutil.GVKForObject(o, b.Client.Scheme())
		if err != nil {
			return "", fmt.Errorf("writing the manifest: %w", err)
		}
		o.GetObjectKind().SetGroupVersionKind(kind)
		if err := encoder.Encode(o); err != nil {
			return "", fmt.Errorf("writing the manifest: %w", err)
		}
	}
	path := filepath.Join(b.dir, t.namespace+".json")
	if err := os.WriteFile(path, []byte(manifest.String()), 0o600); err != nil {
		return "", fmt.Errorf("writing the manifest: %w", err)
	}
	return path, nil
}

// awaitCreation applies a manifest and watches its FlagCache and pods until Ready.
func (b *podsBench) awaitCreation(ctx context.Context, namespace, manifest string) (creation, error) {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	flagCaches, err := b.Client.Watch(ctx, &v1alpha1.FlagCacheList{}, client.InNamespace(namespace))
	if err != nil {
		return creation{}, fmt.Errorf("watching FlagCaches: %w", err)
	}
	defer flagCaches.Stop()
	pods, err := b.Client.Watch(ctx, &corev1.PodList{}, client.InNamespace(namespace))
	if err != nil {
		return creation{}, fmt.Errorf("watching pods: %w", err)
	}
	defer pods.Stop()

	start := time.Now()
	applied := make(chan error, 1)
	go func() {
		_, err := b.Kubectl(ctx, "apply", "--filename", manifest)
		applied <- err
	}()
	var a creation
	var starting startupTimer
	for {
		select {
		case <-ctx.Done():
			return a, context.Cause(ctx)
		case err := <-applied:
			if err != nil {
				return a, err
			}
			a.Kubectl = time.Since(start)
		case event, ok := <-pods.ResultChan():
			pod, isPod := event.Object.(*corev1.Pod)
			if !ok || !isPod {
				return a, errWatchEnded
			}
			starting.record(pod.Name, event.Type != watch.Deleted && !podReady(pod), time.Now())
		case event, ok := <-flagCaches.ResultChan():
			fc, isFlagCache := event.Object.(*v1alpha1.FlagCache)
			if !ok || !isFlagCache {
				return a, errWatchEnded
			}
			if isReady(fc) {
				now := time.Now()
				a.Total, a.Pods = now.Sub(start), starting.total(now)
			}
		}
		if a.Total > 0 && a.Kubectl > 0 {
			return a, nil
		}
	}
}

var errWatchEnded = errors.New("the API server ended a watch")

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// measureSteady counts the writes of the operator in the steady state.
func (b *podsBench) measureSteady(ctx context.Context, window time.Duration) (counter.Tally, error) {
	b.progress.log("waiting for the steady state, then counting writes for %s", window)
	if err := awaitSteady(ctx, b.tally); err != nil {
		return nil, err
	}
	return measureSteadyWrites(ctx, b.tally, window)
}
