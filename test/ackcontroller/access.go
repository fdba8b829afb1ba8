// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcontroller

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Namespace and ServiceAccount are those of the controller in its module's manifests.
const (
	Namespace      = "ack-system"
	ServiceAccount = "ack-elasticache-controller"
)

// tokenLifetime is longer than any test.
const tokenLifetime = 24 * time.Hour

// grant creates the controller's service account with the ClusterRole of its module.
func grant(ctx context.Context, c client.Client) error {
	dir, err := Dir(ctx)
	if err != nil {
		return err
	}
	manifests := []string{"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + Namespace}
	for _, name := range []string{"service-account.yaml", "cluster-role-controller.yaml", "cluster-role-binding.yaml"} {
		text, err := os.ReadFile(filepath.Join(dir, "config", "rbac", name))
		if err != nil {
			return fmt.Errorf("reading the manifests of ACK: %w", err)
		}
		manifests = append(manifests, string(text))
	}
	for _, manifest := range manifests {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(manifest), object); err != nil {
			return fmt.Errorf("reading the manifests of ACK: %w", err)
		}
		apply := client.ApplyConfigurationFromUnstructured(object)
		if err := c.Apply(ctx, apply, client.FieldOwner("ackcontroller"), client.ForceOwnership); err != nil {
			return fmt.Errorf("creating %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// kubeconfig returns a kubeconfig with a token of the controller's service account.
func kubeconfig(ctx context.Context, config *rest.Config, c client.Client) ([]byte, error) {
	account := &corev1.ServiceAccount{}
	account.Namespace, account.Name = Namespace, ServiceAccount
	request := &authenticationv1.TokenRequest{}
	request.Spec.ExpirationSeconds = ptr.To(int64(tokenLifetime / time.Second))
	if err := c.SubResource("token").Create(ctx, account, request); err != nil {
		return nil, fmt.Errorf("creating a token for ACK: %w", err)
	}
	server := config.Host
	if u, _, err := rest.DefaultServerUrlFor(config); err == nil {
		server = u.String()
	}
	ca := config.CAData
	if len(ca) == 0 && config.CAFile != "" {
		var err error
		if ca, err = os.ReadFile(config.CAFile); err != nil {
			return nil, fmt.Errorf("reading the CA bundle of the API server: %w", err)
		}
	}
	const name = "ack"
	text, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server, CertificateAuthorityData: ca, InsecureSkipTLSVerify: config.Insecure}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: request.Status.Token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})
	if err != nil {
		return nil, fmt.Errorf("writing a kubeconfig for ACK: %w", err)
	}
	return text, nil
}
