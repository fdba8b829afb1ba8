// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config tests the manifests beside it against a real API server, the
// way a person applies them: by a client-side kubectl apply, with every unknown
// field refused.
package config

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/flagcache/flagcache/service/flags"
)

// kubectl runs a command as cluster admin and returns what it wrote.
type kubectl func(t *testing.T, args ...string) (stdout, stderr string)

// startAPIServer starts an API server that ends with the test.
func startAPIServer(t *testing.T) *envtest.Environment {
	t.Helper()
	cluster := &envtest.Environment{}
	if _, err := cluster.Start(); err != nil {
		t.Fatalf("starting an API server (KUBEBUILDER_ASSETS says from where; make test sets it): %v", err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Errorf("stopping the API server: %v", err)
		}
	})
	return cluster
}

// startCluster returns the kubectl of an empty cluster that ends with the test, and the
// command line that runs it.
func startCluster(t *testing.T) (kubectl, string) {
	t.Helper()
	cluster := startAPIServer(t)
	admin, err := cluster.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatalf("adding an admin: %v", err)
	}
	command, err := admin.Kubectl()
	if err != nil {
		t.Fatalf("making a kubectl: %v", err)
	}
	commandLine := strings.Join(append([]string{command.Path}, command.Opts...), " ")
	return func(t *testing.T, args ...string) (string, string) {
		t.Helper()
		stdout, stderr, err := command.Run(args...)
		out, problems := readAll(t, stdout), readAll(t, stderr)
		if err != nil {
			t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, problems)
		}
		return out, problems
	}, commandLine
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	var text bytes.Buffer
	if _, err := text.ReadFrom(r); err != nil {
		t.Fatalf("reading what kubectl wrote: %v", err)
	}
	return text.String()
}

func TestManifests(t *testing.T) {
	kubectl, _ := startCluster(t)

	// In this order: the first brings the CRD and the namespace of the others.
	for _, apply := range []struct{ what, flag, path string }{
		{"the operator for a cluster", "-k", "default"},
		{"the network policy", "-k", "network-policy"},
		{"the operator for one namespace", "-k", "namespaced"},
		{"the samples", "-k", "samples"},
		{"the minimal sample", "-f", "samples/flagcache_minimal.yaml"},
		{"the external sample", "-f", "samples/flagcache_external.yaml"},
		{"the PostgreSQL sample", "-f", "samples/flagcache_postgres.yaml"},
		{"the ElastiCache sample", "-f", "samples/flagcache_elasticache.yaml"},
	} {
		t.Run(apply.what+" is accepted without a warning", func(t *testing.T) {
			_, warnings := kubectl(t, "apply", "--validate=strict", apply.flag, apply.path)
			if warnings != "" {
				t.Errorf("kubectl apply warns:\n%s", warnings)
			}
		})
	}

	t.Run("the examples of the pages are accepted without a warning", func(t *testing.T) {
		tryExamples(t, kubectl)
	})

	waitForServing(t, kubectl, "flagcache/minimal")

	t.Run("the flags of the samples are all valid", func(t *testing.T) {
		var sample corev1.ConfigMap
		read(t, kubectl, &sample, "configmap", "demo-flags")
		set, problems, err := flags.Parse([]byte(sample.Data["flags.json"]))
		if err != nil || len(problems) > 0 {
			t.Fatalf("parsing them: error %v, problems %v", err, problems)
		}
		if set.Len() < 10 {
			t.Errorf("there are %d flags; the samples are to show at least ten", set.Len())
		}
	})

	t.Run("the service monitor renders", func(t *testing.T) {
		kubectl(t, "kustomize", "prometheus")
	})

	t.Run("the operator for one namespace gets no right beyond it", func(t *testing.T) {
		manifests, _ := kubectl(t, "kustomize", "namespaced")
		if strings.Contains(manifests, "\nkind: Cluster") {
			t.Errorf("config/namespaced has cluster-wide objects:\n%s", manifests)
		}
	})

	t.Run("both operators have the same rules", func(t *testing.T) {
		inCluster := rulesOf(t, kubectl, "clusterrole")
		inNamespace := rulesOf(t, kubectl, "role")
		if diff := cmp.Diff(inCluster, inNamespace); diff != "" {
			t.Errorf("rules in the cluster (-) and in one namespace (+) differ:\n%s", diff)
		}
	})
}

// rulesOf reads the rules of the operator's Role or ClusterRole.
func rulesOf(t *testing.T, kubectl kubectl, kind string) []rbacv1.PolicyRule {
	t.Helper()
	var role rbacv1.ClusterRole
	read(t, kubectl, &role, kind, "flagcache-manager-role", "--namespace=flagcache-system")
	if len(role.Rules) == 0 {
		t.Errorf("the operator's %s has no rules", kind)
	}
	return role.Rules
}

// read decodes one object of the cluster.
func read(t *testing.T, kubectl kubectl, object any, args ...string) {
	t.Helper()
	text, _ := kubectl(t, append([]string{"get", "--output=json"}, args...)...)
	if err := json.Unmarshal([]byte(text), object); err != nil {
		t.Fatalf("decoding %s: %v", strings.Join(args, " "), err)
	}
}
