// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/flagcache/flagcache/hack/kube/internal/gateway"
)

// workingTimeout bounds the time from the API server being reachable until the cluster
// is ready.
const workingTimeout = 3 * time.Minute

// waitUntilWorking returns when the cluster is ready. It checks the behavior of the
// cluster: health endpoints report ok seconds before controllers act.
func waitUntilWorking(ctx context.Context, dir directory, withNode bool, report progress) error {
	client, err := connect(ctx, dir)
	if err != nil {
		return err
	}
	checks := []struct {
		part  string
		skip  bool
		check func(context.Context) error
	}{
		{part: "default service account", check: client.serviceAccountExists},
		{part: "controllers", check: client.controllersAct},
		{part: "node", check: client.nodeReady, skip: !withNode},
		{part: "cluster network", check: dir.networkReaches, skip: !withNode},
	}
	for _, c := range checks {
		if c.skip {
			continue
		}
		done := report.begin(c.part)
		if err := poll(ctx, workingTimeout, c.check); err != nil {
			return fmt.Errorf("waiting for the %s: %w", c.part, err)
		}
		done()
	}
	return nil
}

// observer reads the cluster as its admin.
type observer struct {
	kubernetes.Interface
}

// connect returns an observer as soon as the admin's kubeconfig exists.
func connect(ctx context.Context, dir directory) (*observer, error) {
	err := poll(ctx, 2*startTimeout, func(context.Context) error {
		_, err := os.Stat(dir.kubeconfig())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return final{err}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the kubeconfig: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", dir.kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS = -1 // no client-side rate limit
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	return &observer{client}, nil
}

func (o *observer) serviceAccountExists(ctx context.Context) error {
	_, err := o.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}

// controllersAct verifies, with a Deployment without pods, that a controller and the
// garbage collector are working.
func (o *observer) controllersAct(ctx context.Context) error {
	const name = "kube-start"
	deployments := o.AppsV1().Deployments(metav1.NamespaceSystem)
	sets := o.AppsV1().ReplicaSets(metav1.NamespaceSystem)
	selector := metav1.ListOptions{LabelSelector: "app=" + name}
	if _, err := deployments.Create(ctx, emptyDeployment(name), metav1.CreateOptions{}); err != nil {
		return err
	}
	err := poll(ctx, workingTimeout, func(ctx context.Context) error {
		list, err := sets.List(ctx, selector)
		if err == nil && len(list.Items) == 0 {
			err = errors.New("a Deployment has no ReplicaSet yet")
		}
		return err
	})
	if err != nil {
		return final{err}
	}
	background := metav1.DeletePropagationBackground
	if err := deployments.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		return final{err}
	}
	err = poll(ctx, workingTimeout, func(ctx context.Context) error {
		list, err := sets.List(ctx, selector)
		if err == nil && len(list.Items) > 0 {
			err = errors.New("the ReplicaSet of a deleted Deployment still exists")
		}
		return err
	})
	if err != nil {
		return final{err}
	}
	return nil
}

func emptyDeployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "none", Image: "none"}}},
			},
		},
	}
}

func (o *observer) nodeReady(ctx context.Context) error {
	nodes, err := o.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
	}
	return errors.New("the node is not Ready")
}

// networkReaches verifies the gateway, the cluster DNS and the Service proxy with one
// connection.
func (d directory) networkReaches(ctx context.Context) error {
	connection, err := gateway.Dial(ctx, d.gateway(), net.JoinHostPort("kubernetes.default.svc.cluster.local", "443"))
	if err != nil {
		return err
	}
	return connection.Close()
}
