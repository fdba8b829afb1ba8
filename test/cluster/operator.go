// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The operator's namespace and Deployment in config/default.
const (
	OperatorNamespace  = "flagcache-system"
	OperatorDeployment = "flagcache-controller-manager"
	operatorLease      = "manager.flagcache.dev"
)

// deployLimit bounds the time until the operator is available.
const deployLimit = 2 * time.Minute

// Deploy installs the CRD and the operator with config/default and waits until the
// operator is available.
func (c *Cluster) Deploy(ctx context.Context) error {
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-k", "config/default"); err != nil {
		return fmt.Errorf("installing the operator: %w", err)
	}
	return c.AwaitOperator(ctx, OperatorNamespace)
}

// AwaitOperator waits until the operator in a namespace is available.
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
		return fmt.Errorf("waiting for Deployment %s: %w\n%s", key, err, c.describeOperator(ctx, namespace))
	}
	return nil
}

// ReleaseLease deletes the operator's lease, as an operator does that is terminated
// gracefully. The next one then starts immediately instead of waiting for the lease to
// expire.
func (c *Cluster) ReleaseLease(ctx context.Context) error {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: operatorLease}}
	if err := c.Client.Delete(ctx, lease); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting the operator's lease: %w", err)
	}
	return nil
}

// OperatorLog returns the end of the operator's log, or the error that prevents it.
func (c *Cluster) OperatorLog(ctx context.Context, lines int) string {
	return c.kubectlOutput(ctx, "logs", "--namespace", OperatorNamespace, "deployment/"+OperatorDeployment, "--tail", strconv.Itoa(lines))
}

// describeOperator describes the state of the operator for an error message.
func (c *Cluster) describeOperator(ctx context.Context, namespace string) string {
	return strings.Join([]string{
		c.kubectlOutput(ctx, "get", "pods", "--namespace", namespace, "--output", "wide"),
		lastLines(c.kubectlOutput(ctx, "events", "--namespace", namespace, "--types", "Warning"), 10),
		"The end of the operator's log:",
		c.kubectlOutput(ctx, "logs", "--namespace", namespace, "deployment/"+OperatorDeployment, "--tail", "20"),
	}, "\n")
}

// kubectlOutput returns the output of kubectl, or its error. It has its own timeout,
// because it is used to explain other timeouts.
func (c *Cluster) kubectlOutput(ctx context.Context, args ...string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	output, err := c.Kubectl(ctx, args...)
	if err != nil {
		return err.Error()
	}
	return output
}
