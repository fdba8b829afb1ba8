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

// killRedis kills Redis in a way that lasts: the node takes no new pods, as one
// that is being drained, so Kubernetes cannot start Redis again at once.
func (d *demo) killRedis(ctx context.Context) error {
	d.chapter("Killing Redis")
	d.say("The node is closed to new pods first, so that Redis stays dead.")
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
	d.came("the operator noticed after %s, and says so on the FlagCache", round(took))
	if err := d.kubectl(ctx, "get", "flagcaches"); err != nil {
		return err
	}
	return d.serves(ctx, "Redis was killed", before.Succeeded)
}

// serves shows that evaluations go on since something happened: those of the
// background, and one more now.
func (d *demo) serves(ctx context.Context, happened string, succeededBefore int) error {
	if err := d.ask(ctx, questions[1]); err != nil {
		return err
	}
	tally := d.traffic.Tally()
	if tally.Failed > 0 {
		return fmt.Errorf("evaluations fail since %s: %s", happened, tally)
	}
	d.came("%d evaluations succeeded since %s, none failed", tally.Succeeded-succeededBefore, happened)
	return nil
}

// startRedis lets Kubernetes start Redis again.
func (d *demo) startRedis(ctx context.Context) error {
	d.chapter("Starting Redis again")
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
	d.came("CacheHealthy and Ready are True, after %s", round(took))
	return nil
}

// node is the name of the cluster's only node.
func (d *demo) node(ctx context.Context) (string, error) {
	nodes := &corev1.NodeList{}
	if err := d.cluster.Client.List(ctx, nodes); err != nil {
		return "", fmt.Errorf("listing nodes: %w", err)
	}
	if len(nodes.Items) != 1 {
		return "", fmt.Errorf("the cluster is to have one node, and has %d", len(nodes.Items))
	}
	return nodes.Items[0].Name, nil
}

// awaitCondition draws the FlagCache until a condition of it is as it should be.
func (d *demo) awaitCondition(ctx context.Context, kind string, status metav1.ConditionStatus, limit time.Duration) (time.Duration, error) {
	return d.await(ctx, fmt.Sprintf("%s is %s", kind, status), limit, d.drawCondition(kind, status))
}

// drawCondition draws the FlagCache, and is done when a condition of it is as it
// should be.
func (d *demo) drawCondition(kind string, status metav1.ConditionStatus) func(context.Context) (sight, error) {
	return func(ctx context.Context) (sight, error) {
		fc, picture, err := d.flagCache(ctx)
		if err != nil {
			return sight{}, err
		}
		c := meta.FindStatusCondition(fc.Status.Conditions, kind)
		return sight{picture: picture, done: c != nil && c.Status == status && c.ObservedGeneration == fc.Generation}, nil
	}
}
