// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// Marks at the beginning of a line, so that color is never the only signal.
const (
	markGood = "✔"
	markBad  = "✖"
	markNone = "·"
)

// flagCache reads the FlagCache and describes its status in lines.
func (d *demo) flagCache(ctx context.Context) (*v1alpha1.FlagCache, []string, error) {
	fc := &v1alpha1.FlagCache{}
	if err := d.cluster.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, fc); err != nil {
		return nil, nil, err
	}
	pods, err := d.podLines(ctx)
	if err != nil {
		return nil, nil, err
	}
	return fc, slices.Concat(conditionLines(fc), factLines(fc), pods), nil
}

// displayedConditions are listed in the order in which they become True.
var displayedConditions = []string{
	v1alpha1.ConditionFlagsValid,
	v1alpha1.ConditionCacheProvisioned,
	v1alpha1.ConditionConnectionReady,
	v1alpha1.ConditionCacheHealthy,
	v1alpha1.ConditionServiceAvailable,
	v1alpha1.ConditionServing,
	v1alpha1.ConditionRolloutHealthy,
	v1alpha1.ConditionReady,
}

func conditionLines(fc *v1alpha1.FlagCache) []string {
	var lines []string
	for _, kind := range displayedConditions {
		c := meta.FindStatusCondition(fc.Status.Conditions, kind)
		if c == nil {
			lines = append(lines, fmt.Sprintf("%s %-16s", markNone, kind))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %-16s %-7s %s: %s", mark(c.Status), kind, c.Status, c.Reason, c.Message))
	}
	return lines
}

func mark(status metav1.ConditionStatus) string {
	switch status {
	case metav1.ConditionTrue:
		return markGood
	case metav1.ConditionFalse:
		return markBad
	default:
		return markNone
	}
}

func factLines(fc *v1alpha1.FlagCache) []string {
	var facts []string
	if c := fc.Status.Cache; c != nil {
		facts = append(facts, fmt.Sprintf("%s cache            %s %s", markNone, cmp.Or(c.State, "-"), c.Endpoint))
	}
	if r := fc.Status.Revisions; r != nil {
		facts = append(facts, fmt.Sprintf("%s revision         %s", markNone, cmp.Or(r.Stable, "-")))
	}
	return facts
}

// podLines describes the FlagCache's pods.
func (d *demo) podLines(ctx context.Context) ([]string, error) {
	pods := &corev1.PodList{}
	err := d.cluster.Client.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelName: name})
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	var lines []string
	for _, pod := range pods.Items {
		state := podState(pod)
		m := markNone
		if state == "Ready" {
			m = markGood
		}
		lines = append(lines, fmt.Sprintf("%s pod              %-30s %s", m, pod.Name, state))
	}
	return lines, nil
}

// podState summarizes the state of a pod.
func podState(pod corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "Terminating"
	}
	for _, status := range pod.Status.ContainerStatuses {
		if w := status.State.Waiting; w != nil {
			return w.Reason
		}
	}
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue:
			return "Ready"
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			return "Pending: " + c.Reason
		}
	}
	return string(pod.Status.Phase)
}

// observeRemaining shows the objects of the FlagCache that are left in its namespace and
// in AWS.
func (d *demo) observeRemaining(ctx context.Context) (observation, error) {
	now, err := d.cluster.Inventory(ctx, namespace)
	if err != nil {
		if apierrors.IsNotFound(err) {
			err = fmt.Errorf("an API resource was removed: %w", err)
		}
		return observation{}, err
	}
	left := now.NotIn(d.initial)
	if d.scenario.cloud {
		groups, err := d.cluster.CloudGroups(ctx)
		if err != nil {
			return observation{}, err
		}
		for _, id := range groups {
			left = append(left, "AWS/"+id)
		}
	}
	if len(left) == 0 {
		return observation{done: true, lines: []string{markGood + " nothing"}}, nil
	}
	return observation{lines: []string{fmt.Sprintf("%s %d left: %s", markNone, len(left), strings.Join(left, ", "))}}, nil
}
