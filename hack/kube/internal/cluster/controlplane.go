// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	// serviceRange holds the addresses of Services.
	serviceRange = "10.96.0.0/16"
	// startTimeout bounds the time until a component is ready. That takes seconds, or
	// much longer on a machine that is busy with a build.
	startTimeout = 3 * time.Minute
)

// auditPolicy records who of the pods asked the API server for what, without the objects.
// The controllers of Kubernetes have ServiceAccounts in kube-system.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
- level: Metadata
  userGroups: ["system:serviceaccounts"]
`

// controlPlane is etcd and the Kubernetes control plane on the loopback address.
type controlPlane struct {
	*supervisor
	options  options
	users    []user
	endpoint string // host:port of the API server for clients outside
	etcd     string // host:port for clients of etcd
	peer     string // host:port for peers of etcd, which has none
	api      string // host:port the API server listens on
	report   progress
}

// start starts the components in the order of their dependencies. It
// returns when the API server is ready and its clients are started.
func (c *controlPlane) start(ctx context.Context) error {
	steps := []func(context.Context) error{c.startEtcd, c.startAPIServer, c.startControllers}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *controlPlane) startEtcd(ctx context.Context) error {
	client, peer := "http://"+c.etcd, "http://"+c.peer
	err := c.supervisor.start("etcd", "etcd", "--name=local", "--data-dir="+c.dir.state("etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=local="+peer,
		// The data is discarded with the cluster, so it need not survive a crash.
		"--unsafe-no-fsync",
		"--quota-backend-bytes=8589934592", "--log-level=warn")
	if err != nil {
		return err
	}
	return c.ready(ctx, "etcd", client+"/health")
}

func (c *controlPlane) startAPIServer(ctx context.Context) error {
	tokens, key := c.dir.state("tokens.csv"), c.dir.state("service-accounts.key")
	if err := os.WriteFile(tokens, []byte(tokenFile(c.users)), 0o600); err != nil {
		return fmt.Errorf("writing the tokens of users: %w", err)
	}
	if err := writeServiceAccountKey(key); err != nil {
		return err
	}
	audit := c.dir.state("audit.yaml")
	if err := os.WriteFile(audit, []byte(auditPolicy), 0o600); err != nil {
		return fmt.Errorf("writing the audit policy: %w", err)
	}
	host, port, err := net.SplitHostPort(c.api)
	if err != nil {
		return fmt.Errorf("reading the API server's address: %w", err)
	}
	err = c.supervisor.keep("kube-apiserver", "kube-apiserver",
		"--etcd-servers=http://"+c.etcd,
		"--bind-address="+host, "--secure-port="+port,
		"--cert-dir="+c.dir.state("apiserver"), // where it generates its certificate
		"--token-auth-file="+tokens,
		"--authorization-mode=Node,RBAC",
		"--audit-policy-file="+audit, "--audit-log-path="+c.dir.log("audit"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--service-cluster-ip-range="+serviceRange,
		// The proxy of the node serves the Service "kubernetes", because the API
		// does not allow a loopback address as its endpoint.
		"--endpoint-reconciler-type=none", "--advertise-address=10.96.255.254",
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true",
		"--enable-priority-and-fairness=false",
		"--profiling=false")
	if err != nil {
		return err
	}
	if err := c.ready(ctx, "kube-apiserver", "https://"+c.api+"/readyz"); err != nil {
		return err
	}
	return c.writeKubeconfigs()
}

// writeKubeconfigs gives every user a kubeconfig. The API server's own
// certificate is their CA certificate.
func (c *controlPlane) writeKubeconfigs() error {
	authority, err := os.ReadFile(c.authority())
	if err != nil {
		return fmt.Errorf("reading the API server's certificate: %w", err)
	}
	for _, u := range c.users {
		if err := writeKubeconfig(c.dir.client(u.file), c.options.Name, "https://"+c.api, authority, u); err != nil {
			return err
		}
	}
	return writeKubeconfig(c.dir.kubeconfig(), c.options.Name, "https://"+c.endpoint, authority, c.users[0])
}

func (c *controlPlane) authority() string { return c.dir.state("apiserver/apiserver.crt") }

func (c *controlPlane) startControllers(context.Context) error {
	err := c.supervisor.start("kube-controller-manager", "kube-controller-manager",
		"--kubeconfig="+c.dir.client("controller-manager"),
		"--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--use-service-account-credentials",
		"--service-account-private-key-file="+c.dir.state("service-accounts.key"),
		"--root-ca-file="+c.authority(),
		"--node-monitor-grace-period=20s",
		// With the default of 20, 500 pods take 24 s.
		"--kube-api-qps=500", "--kube-api-burst=1000")
	if err != nil {
		return err
	}
	return c.supervisor.start("kube-scheduler", "kube-scheduler",
		"--kubeconfig="+c.dir.client("scheduler"),
		"--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--kube-api-qps=500", "--kube-api-burst=1000")
}

// ready waits until the component responds at url with success.
func (c *controlPlane) ready(ctx context.Context, part, url string) error {
	done := c.report.begin(part)
	client := http.Client{
		Timeout: 5 * time.Second,
		// The certificate is not known yet, and nothing confidential is sent.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	}
	err := poll(ctx, startTimeout, func(ctx context.Context) error {
		select {
		case err := <-c.ended:
			return final{err}
		default:
			return get(ctx, &client, url)
		}
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w (its log is %s)", part, err, c.dir.log(part))
	}
	done()
	return nil
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("creating the request: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s responded %s", url, response.Status)
	}
	return nil
}
