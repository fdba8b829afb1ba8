// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// CreateNamespace creates a namespace and returns when pods can be created in it:
// when it has the ServiceAccount and the CA bundle that Kubernetes gives each
// namespace a moment after it was created.
func (c *Cluster) CreateNamespace(ctx context.Context, namespace *corev1.Namespace) error {
	if err := c.Client.Create(ctx, namespace); err != nil {
		return fmt.Errorf("creating a namespace: %w", err)
	}
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, deployLimit, true, func(ctx context.Context) (bool, error) {
		for name, o := range map[string]client.Object{"default": &corev1.ServiceAccount{}, "kube-root-ca.crt": &corev1.ConfigMap{}} {
			err := c.Client.Get(ctx, client.ObjectKey{Namespace: namespace.Name, Name: name}, o)
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the ServiceAccount and the CA bundle of namespace %s: %w", namespace.Name, err)
	}
	return nil
}
