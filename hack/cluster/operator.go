// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Where the manifests of config put the operator.
const (
	OperatorNamespace  = "flagcache-system"
	OperatorDeployment = "flagcache-controller-manager"
)

// deployLimit is how long the operator may take to become available.
const deployLimit = time.Minute

// Deploy installs the CRD and the operator as config/default has them, and
// returns when the operator is available.
func (c *Cluster) Deploy(ctx context.Context) error {
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-k", "config/default"); err != nil {
		return fmt.Errorf("installing the operator: %w", err)
	}
	return c.AwaitOperator(ctx, OperatorNamespace)
}

// AwaitOperator returns when the operator in the namespace is available.
func (c *Cluster) AwaitOperator(ctx context.Context, namespace string) error {
	deployment := &appsv1.Deployment{}
	key := client.ObjectKey{Namespace: namespace, Name: OperatorDeployment}
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, deployLimit, true, func(ctx context.Context) (bool, error) {
		if err := c.Client.Get(ctx, key, deployment); err != nil {
			return false, err
		}
		status := deployment.Status
		return status.ObservedGeneration == deployment.Generation && status.AvailableReplicas > 0 &&
			status.UpdatedReplicas == status.Replicas && status.UnavailableReplicas == 0, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for Deployment %s: %w\n%s", key, err, c.describePods(ctx, namespace))
	}
	return nil
}

// OperatorLog is the end of the operator's log, or why there is none.
func (c *Cluster) OperatorLog(ctx context.Context, lines int) string {
	log, err := c.Kubectl(ctx, "logs", "--namespace", OperatorNamespace, "deployment/"+OperatorDeployment, "--tail", strconv.Itoa(lines))
	if err != nil {
		return err.Error()
	}
	return log
}

// describePods says how the pods of a namespace are, for an error message.
func (c *Cluster) describePods(ctx context.Context, namespace string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	pods, podsErr := c.Kubectl(ctx, "get", "pods", "--namespace", namespace, "--output", "wide")
	events, eventsErr := c.Kubectl(ctx, "events", "--namespace", namespace, "--types", "Warning")
	if err := errors.Join(podsErr, eventsErr); err != nil {
		return err.Error()
	}
	return pods + lastLines(events, 10)
}
