// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The ConfigMap with the CA certificate of AWS, and its mount path in the operator.
const (
	awsCA     = "elasticache-ca"
	awsCAPath = "/etc/elasticache"
)

// TrustAWS permits ElastiCache in the operator's policy, makes it trust the CA of
// awsplayer, which must be deployed, and waits until it has restarted.
func (c *Cluster) TrustAWS(ctx context.Context) error {
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", "test/awsplayer/policy.yaml"); err != nil {
		return fmt.Errorf("permitting ElastiCache in the policy: %w", err)
	}
	if err := c.copyCA(ctx); err != nil {
		return fmt.Errorf("copying the CA certificate of awsplayer: %w", err)
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
		return fmt.Errorf("making the operator trust awsplayer: %w", err)
	}
	return c.AwaitOperator(ctx, OperatorNamespace)
}

// copyCA copies the certificate into the operator's namespace.
func (c *Cluster) copyCA(ctx context.Context) error {
	certificate, err := c.requestAWS(ctx, http.MethodGet, "/ca.crt")
	if err != nil {
		return err
	}
	mounted := &corev1.ConfigMap{Data: map[string]string{"ca.crt": string(certificate)}}
	mounted.Namespace, mounted.Name = OperatorNamespace, awsCA
	err = c.Client.Create(ctx, mounted)
	if apierrors.IsAlreadyExists(err) {
		return c.Client.Update(ctx, mounted)
	}
	return err
}

// trust mounts the certificate into the operator's pod and passes its path.
func trust(pod *corev1.PodSpec) {
	if slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == awsCA }) {
		return
	}
	source := &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: awsCA}}
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: awsCA, VolumeSource: corev1.VolumeSource{ConfigMap: source}})
	manager := &pod.Containers[0]
	manager.VolumeMounts = append(manager.VolumeMounts, corev1.VolumeMount{Name: awsCA, MountPath: awsCAPath, ReadOnly: true})
	manager.Args = append(manager.Args, "--elasticache-ca-file="+awsCAPath+"/ca.crt")
}
