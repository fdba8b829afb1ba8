// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// playerNamespace is the namespace of test/ackplayer/deploy.yaml.
const playerNamespace = "ack-system"

// The ConfigMap with ackplayer's CA certificate, and its mount path in the operator.
const (
	playerCA     = "ackplayer-ca"
	playerCAPath = "/etc/elasticache"
)

// TrustACKPlayer makes the operator trust the CA of ackplayer, which must be deployed, and
// waits until the operator has restarted.
func (c *Cluster) TrustACKPlayer(ctx context.Context) error {
	if err := c.copyPlayerCA(ctx); err != nil {
		return fmt.Errorf("copying the CA certificate of ackplayer: %w", err)
	}
	deployment := &appsv1.Deployment{}
	if err := c.Client.Get(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: OperatorDeployment}, deployment); err != nil {
		return fmt.Errorf("reading the operator's Deployment: %w", err)
	}
	before := deployment.DeepCopy()
	if trust(&deployment.Spec.Template.Spec); deployment.Spec.Template.String() == before.Spec.Template.String() {
		return nil
	}
	if err := c.Client.Patch(ctx, deployment, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("making the operator trust ackplayer: %w", err)
	}
	return c.AwaitOperator(ctx, OperatorNamespace)
}

// copyPlayerCA copies the certificate into the operator's namespace.
func (c *Cluster) copyPlayerCA(ctx context.Context) error {
	published := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: playerNamespace, Name: playerCA}
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, deployLimit, true, func(ctx context.Context) (bool, error) {
		err := c.Client.Get(ctx, key, published)
		return err == nil, client.IgnoreNotFound(err)
	})
	if err != nil {
		return err
	}
	mounted := &corev1.ConfigMap{Data: published.Data}
	mounted.Namespace, mounted.Name = OperatorNamespace, playerCA
	err = c.Client.Create(ctx, mounted)
	if apierrors.IsAlreadyExists(err) {
		return c.Client.Update(ctx, mounted)
	}
	return err
}

// trust mounts the certificate into the operator's pod and passes its path.
func trust(pod *corev1.PodSpec) {
	if slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == playerCA }) {
		return
	}
	source := &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: playerCA}}
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: playerCA, VolumeSource: corev1.VolumeSource{ConfigMap: source}})
	manager := &pod.Containers[0]
	manager.VolumeMounts = append(manager.VolumeMounts, corev1.VolumeMount{Name: playerCA, MountPath: playerCAPath, ReadOnly: true})
	manager.Args = append(manager.Args, "--elasticache-ca-file="+playerCAPath+"/ca.crt")
}
