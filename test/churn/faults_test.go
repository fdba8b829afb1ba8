// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

// roundLength is the time for one fault of each kind.
const roundLength = 50 * time.Second

// saboteur injects faults.
type saboteur struct {
	*rig
	memory *memoryWatch
	random *rand.Rand
	teams  []*tenant
	beacon *v1alpha1.FlagCache
	// requests to reconcile the beacon so far.
	requests int
}

// run injects rounds of faults, one of each kind, at regular times within the duration. It
// returns when all have ended, which may take longer.
func (s *saboteur) run(ctx context.Context, duration time.Duration, rounds int) {
	kinds := []func(context.Context) error{s.killOperator, s.killAPIServer, s.killRedis}
	pause := duration / time.Duration(rounds*len(kinds)+1)
	for range rounds {
		for _, inject := range kinds {
			s.wait(ctx, pause)
			if err := errors.Join(inject(ctx), s.awaitBeacon(ctx)); err != nil && ctx.Err() == nil {
				s.t.Errorf("injecting a fault: %v", err)
			}
		}
	}
}

func (s *saboteur) wait(ctx context.Context, duration time.Duration) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// lightBeacon creates a FlagCache for which the operator only answers requests to reconcile.
func (r *rig) lightBeacon() *v1alpha1.FlagCache {
	r.t.Helper()
	fc := (&tenant{namespace: "default"}).flagCache(simulated)
	fc.Name, fc.Spec.Suspend = "beacon", true
	r.create(fc)
	return fc
}

// awaitBeacon waits until the operator has reconciled the beacon, on request.
func (s *saboteur) awaitBeacon(ctx context.Context) error {
	s.requests++
	request := fmt.Sprint(s.requests)
	return try(ctx, func(ctx context.Context) (bool, error) {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(s.beacon), s.beacon); err != nil {
			return false, err
		}
		if s.beacon.Annotations[v1alpha1.AnnotationReconcileAt] != request {
			s.beacon.Annotations = map[string]string{v1alpha1.AnnotationReconcileAt: request}
			return false, s.Client.Update(ctx, s.beacon)
		}
		return s.beacon.Status.LastHandledReconcileAt == request, nil
	})
}

// killOperator kills the operator's process, which can neither finish what it does nor release
// its lease: it is frozen, and the kubelet kills it with its pod. A container that is killed
// otherwise is restarted after a delay that doubles each time. The lease is deleted, because it
// takes longer to expire than a short test lasts.
func (s *saboteur) killOperator(ctx context.Context) error {
	s.log("killing the operator")
	frozen := func(context.Context) (bool, error) { return true, s.Signal("manager", syscall.SIGSTOP) }
	if err := try(ctx, frozen); err != nil {
		return err
	}
	if err := s.memory.read(); err != nil {
		return err
	}
	err := try(ctx, func(ctx context.Context) (bool, error) {
		return true, s.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(cluster.OperatorNamespace), client.GracePeriodSeconds(1))
	})
	if err != nil {
		return err
	}
	if err := try(ctx, s.operatorStarts); err != nil {
		return err
	}
	return try(ctx, func(ctx context.Context) (bool, error) { return true, s.ReleaseLease(ctx) })
}

// operatorStarts reports whether the operator has one pod, which runs.
func (s *saboteur) operatorStarts(ctx context.Context) (bool, error) {
	pods := &corev1.PodList{}
	err := s.Client.List(ctx, pods, client.InNamespace(cluster.OperatorNamespace))
	return len(pods.Items) == 1 && pods.Items[0].Status.Phase == corev1.PodRunning, err
}

// killAPIServer kills the API server and waits until another one responds.
func (s *saboteur) killAPIServer(ctx context.Context) error {
	s.log("killing the API server")
	if err := s.Signal("kube-apiserver", syscall.SIGKILL); err != nil {
		return err
	}
	return try(ctx, func(ctx context.Context) (bool, error) {
		return true, s.Client.List(ctx, &v1alpha1.FlagCacheList{}, client.Limit(1))
	})
}

// killRedis deletes the pod of the Redis that a team's FlagCaches share, without a chance to end
// gracefully, and waits for the next one.
func (s *saboteur) killRedis(ctx context.Context) error {
	t := s.teams[s.random.IntN(len(s.teams))]
	s.log("killing Redis of %s", t.namespace)
	pods := client.MatchingLabels{"app": redisName}
	err := try(ctx, func(ctx context.Context) (bool, error) {
		return true, s.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(t.namespace), pods, client.GracePeriodSeconds(0))
	})
	if err != nil {
		return err
	}
	return try(ctx, t.redisReady(s.Client))
}
