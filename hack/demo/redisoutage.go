// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// killRedis kills Redis and keeps it down: the node is cordoned first, so that Kubernetes
// cannot start a new pod.
func (d *demo) killRedis(ctx context.Context) error {
	d.section("Killing Redis")
	d.print("The node is cordoned first, so that Redis is not restarted.")
	node, err := d.node(ctx)
	if err != nil {
		return err
	}
	if err := d.kubectl(ctx, "cordon", node); err != nil {
		return err
	}
	before := d.traffic.Tally()
	if err := d.kubectl(ctx, "delete", "pod", name+"-redis-0", "--force", "--grace-period=0"); err != nil {
		return err
	}
	took, err := d.awaitCondition(ctx, v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, time.Minute)
	if err != nil {
		return err
	}
	d.success("the operator detected it after %s and reports it on the FlagCache", round(took))
	if err := d.kubectl(ctx, "get", "flagcaches"); err != nil {
		return err
	}
	return d.expectNoFailures(ctx, "the kill", before.Succeeded)
}

// expectNoFailures verifies that no evaluation has failed since an event: neither in the
// background nor one that it makes now.
func (d *demo) expectNoFailures(ctx context.Context, event string, succeededBefore int) error {
	if err := d.evaluateOne(ctx, examples[1]); err != nil {
		return err
	}
	tally := d.traffic.Tally()
	if tally.Failed > 0 {
		return fmt.Errorf("evaluations failed since %s: %s", event, tally)
	}
	d.success("%d evaluations succeeded since %s, none failed", tally.Succeeded-succeededBefore, event)
	return nil
}

// startRedis lets Kubernetes restart Redis.
func (d *demo) startRedis(ctx context.Context) error {
	d.section("Restarting Redis")
	node, err := d.node(ctx)
	if err != nil {
		return err
	}
	if err := d.kubectl(ctx, "uncordon", node); err != nil {
		return err
	}
	took, err := d.awaitCondition(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, time.Minute)
	if err != nil {
		return err
	}
	d.success("CacheHealthy and Ready are True, after %s", round(took))
	return nil
}

// node returns the name of the cluster's only node.
func (d *demo) node(ctx context.Context) (string, error) {
	nodes := &corev1.NodeList{}
	if err := d.cluster.Client.List(ctx, nodes); err != nil {
		return "", fmt.Errorf("listing nodes: %w", err)
	}
	if len(nodes.Items) != 1 {
		return "", fmt.Errorf("the cluster must have one node, has %d", len(nodes.Items))
	}
	return nodes.Items[0].Name, nil
}

// awaitCondition shows the FlagCache until a condition has a status.
func (d *demo) awaitCondition(ctx context.Context, kind string, status metav1.ConditionStatus, limit time.Duration) (time.Duration, error) {
	return d.await(ctx, fmt.Sprintf("%s is %s", kind, status), limit, d.observeCondition(kind, status))
}

// observeCondition shows the FlagCache and is done when a condition has a status.
func (d *demo) observeCondition(kind string, status metav1.ConditionStatus) func(context.Context) (observation, error) {
	return func(ctx context.Context) (observation, error) {
		fc, lines, err := d.flagCache(ctx)
		if err != nil {
			return observation{}, err
		}
		c := meta.FindStatusCondition(fc.Status.Conditions, kind)
		return observation{lines: lines, done: c != nil && c.Status == status && c.ObservedGeneration == fc.Generation}, nil
	}
}
