// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// clusterID identifies the cluster: as configured, or by the UID of namespace kube-system,
// which exists as long as the cluster. It is "" if the operator may not get that, which
// only matters to FlagCaches that request a cache in ElastiCache, and they report it.
func clusterID(ctx context.Context, reader client.Reader, configured string, log logr.Logger) (string, error) {
	if configured != "" {
		return configured, nil
	}
	system := &corev1.Namespace{}
	err := reader.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, system)
	switch {
	case apierrors.IsForbidden(err) || apierrors.IsNotFound(err):
		log.Info("The cluster is not identified, so no cache in ElastiCache can be created: set --cluster-id", "cause", err.Error())
		return "", nil
	case err != nil:
		return "", fmt.Errorf("identifying the cluster: getting namespace %s: %w", metav1.NamespaceSystem, err)
	}
	return string(system.UID), nil
}
