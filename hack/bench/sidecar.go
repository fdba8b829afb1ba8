// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/hack/bench/counter"
	"github.com/flagcache/flagcache/test/cluster"
)

// The counter as a sidecar of the operator.
const (
	counterCommand = "count"
	imageBench     = "ghcr.io/flagcache/bench"
	counterName    = "counter"
	counterListen  = "127.0.0.1:6443" // for the operator
	tallyPort      = "8090"           // for the benchmark
	accessDir      = "/counter"
)

// runCounter runs the counter in the operator's pod until ctx ends.
func runCounter(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	writes, err := counter.New(config)
	if err != nil {
		return err
	}
	access, err := readAccess(accessDir)
	if err != nil {
		return err
	}
	pair, err := access.KeyPair()
	if err != nil {
		return err
	}
	api, err := net.Listen("tcp", counterListen)
	if err != nil {
		return fmt.Errorf("listening for the operator: %w", err)
	}
	tally, err := net.Listen("tcp", ":"+tallyPort)
	if err != nil {
		return fmt.Errorf("listening for the benchmark: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 2)
	go func() { served <- counter.Serve(ctx, api, writes, pair) }()
	go func() { served <- counter.Serve(ctx, tally, writes.TallyHandler(), nil) }()
	first := <-served
	cancel()
	return errors.Join(first, <-served)
}

func readAccess(dir string) (counter.Access, error) {
	var access counter.Access
	for name, into := range map[string]*[]byte{corev1.TLSCertKey: &access.Certificate, corev1.TLSPrivateKeyKey: &access.Key} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return access, fmt.Errorf("reading the counter's access: %w", err)
		}
		*into = text
	}
	return access, nil
}

// addCounter adds a counter to the operator's pod, waits until the operator uses it, and
// returns a function that reads it.
func addCounter(ctx context.Context, c *cluster.Cluster) (readTally, error) {
	access, err := counter.NewAccess(counterListen)
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: cluster.OperatorNamespace, Name: counterName},
		Data: map[string][]byte{
			corev1.TLSCertKey: access.Certificate, corev1.TLSPrivateKeyKey: access.Key, "kubeconfig": access.Kubeconfig,
		},
	}
	if err := c.Client.Create(ctx, secret); err != nil {
		return nil, fmt.Errorf("creating the counter's Secret: %w", err)
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
		Namespace: cluster.OperatorNamespace, Name: cluster.OperatorDeployment,
	}}
	if err := c.Client.Patch(ctx, deployment, client.RawPatch(types.StrategicMergePatchType, []byte(counterPatch))); err != nil {
		return nil, fmt.Errorf("adding the counter to the operator's pod: %w", err)
	}
	if err := c.AwaitOperator(ctx, cluster.OperatorNamespace); err != nil {
		return nil, err
	}
	address, err := leaderAddress(ctx, c)
	if err != nil {
		return nil, err
	}
	url := "http://" + net.JoinHostPort(address, tallyPort)
	return func(ctx context.Context) (counter.Tally, error) { return fetchTally(ctx, c, url) }, nil
}

// counterPatch adds the counter as a sidecar that starts before the operator, and points
// the operator at it.
const counterPatch = `{"spec": {"template": {"spec": {
  "volumes": [{"name": "counter", "secret": {"secretName": "` + counterName + `"}}],
  "initContainers": [{
    "name": "counter", "image": "` + imageBench + `", "args": ["` + counterCommand + `"], "restartPolicy": "Always",
    "startupProbe": {"httpGet": {"path": "/", "port": ` + tallyPort + `}, "periodSeconds": 1, "failureThreshold": 60},
    "volumeMounts": [{"name": "counter", "mountPath": "` + accessDir + `"}],
    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}
  }],
  "containers": [{
    "name": "manager", "env": [{"name": "KUBECONFIG", "value": "` + accessDir + `/kubeconfig"}],
    "volumeMounts": [{"name": "counter", "mountPath": "` + accessDir + `"}]
  }]
}}}}`

// leaderAddress waits until the operator's pod with the counter is the leader and returns
// its IP.
func leaderAddress(ctx context.Context, c *cluster.Cluster) (address string, err error) {
	inNamespace := client.InNamespace(cluster.OperatorNamespace)
	err = poll(ctx, func(ctx context.Context) (bool, error) {
		leases, pods := &coordinationv1.LeaseList{}, &corev1.PodList{}
		if err := errors.Join(c.Client.List(ctx, leases, inNamespace), c.Client.List(ctx, pods, inNamespace)); err != nil {
			return false, err
		}
		for _, pod := range pods.Items {
			if len(pod.Spec.InitContainers) > 0 && holdsLease(leases.Items, pod.Name) {
				address = pod.Status.PodIP
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return "", fmt.Errorf("waiting for the operator to become the leader: %w", err)
	}
	return address, nil
}

func holdsLease(leases []coordinationv1.Lease, pod string) bool {
	for _, lease := range leases {
		if holder := lease.Spec.HolderIdentity; holder != nil && strings.HasPrefix(*holder, pod+"_") {
			return true
		}
	}
	return false
}

func fetchTally(ctx context.Context, c *cluster.Cluster, url string) (counter.Tally, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.HTTPClient(false).Do(request)
	if err != nil {
		return nil, fmt.Errorf("requesting the counter's tally: %w", err)
	}
	defer response.Body.Close()
	tally := counter.Tally{}
	if err := json.NewDecoder(response.Body).Decode(&tally); err != nil {
		return nil, fmt.Errorf("parsing the counter's tally: %w", err)
	}
	return tally, nil
}
