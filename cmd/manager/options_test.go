// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/controllers/quarantine"
)

func TestOptions(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	bundle := writeFile(t, certificate)

	type values struct {
		Namespaces       []string
		OwnNamespace     string
		FlagServiceImage string
		ElastiCacheCA    string
		HeapLimit        int64
		Prometheus       string
		ClusterID        string
	}
	defaults := values{OwnNamespace: "flagcache-system", FlagServiceImage: "ghcr.io/flagcache/flag-service:" + version}
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		want values
		// message that the error contains.
		message string
	}{
		"defaults": {want: defaults},
		"environment variables": {
			env:  map[string]string{envWatchNamespace: "shop, web", envPodNamespace: "operators", envFlagServiceImage: "flags:v1"},
			want: values{Namespaces: []string{"shop", "web"}, OwnNamespace: "operators", FlagServiceImage: "flags:v1"},
		},
		"CA bundle of ElastiCache": {
			args: []string{"--elasticache-ca-file", bundle},
			want: values{OwnNamespace: defaults.OwnNamespace, FlagServiceImage: defaults.FlagServiceImage, ElastiCacheCA: certificate},
		},
		"memory limit": {
			env:  map[string]string{envMemoryLimit: "268435456"},
			want: values{OwnNamespace: defaults.OwnNamespace, FlagServiceImage: defaults.FlagServiceImage, HeapLimit: 241591905},
		},
		"memory limit without a number": {
			env: map[string]string{envMemoryLimit: "256Mi"}, message: `MEMORY_LIMIT: "256Mi" is not a number of bytes`,
		},
		"own Prometheus": {
			args: []string{"--prometheus=http://prometheus.monitoring:9090"},
			want: values{OwnNamespace: defaults.OwnNamespace, FlagServiceImage: defaults.FlagServiceImage, Prometheus: "http://prometheus.monitoring:9090"},
		},
		"Prometheus with a password": {
			args: []string{"--prometheus=http://a:b@prometheus:9090"}, message: "without user, query and fragment",
		},
		"Prometheus without a scheme": {
			args: []string{"--prometheus=prometheus:9090"}, message: "--prometheus must be an address such as",
		},
		"name of the cluster": {
			args: []string{"--cluster-id=blue"},
			want: values{OwnNamespace: defaults.OwnNamespace, FlagServiceImage: defaults.FlagServiceImage, ClusterID: "blue"},
		},
		"invalid name of the cluster": {
			args: []string{"--cluster-id=blue and green"}, message: `--cluster-id: "blue and green" is not valid`,
		},
		"missing CA bundle": {
			args: []string{"--elasticache-ca-file", filepath.Join(t.TempDir(), "missing.pem")}, message: "--elasticache-ca-file: open ",
		},
		"CA bundle without a certificate": {
			args: []string{"--elasticache-ca-file", writeFile(t, "-----BEGIN NOTHING-----\n")}, message: "contains no PEM certificate",
		},
		"invalid namespace name": {
			env: map[string]string{envWatchNamespace: "Shop"}, message: `WATCH_NAMESPACE: "Shop" is not a valid namespace name`,
		},
		"keys that are replaced faster than pods learn them": {
			args: []string{"--integrity-key-period=1m"}, message: "--integrity-key-period must be 0 or at least 10m0s",
		},
		"no concurrent reconciles": {
			args: []string{"--max-concurrent-reconciles=0"}, message: "must be at least 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parseOptions(test.args, func(key string) string { return test.env[key] })
			if test.message != "" {
				if err == nil || !strings.Contains(err.Error(), test.message) {
					t.Errorf("error %v, want one that contains %q", err, test.message)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := values{o.namespaces, o.ownNamespace, o.flagServiceImage, o.elastiCacheCA, o.heapLimit, o.prometheus, o.clusterID}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

// TestManifestPassesTheMemoryLimit: without it the heap grows to twice what is in use, and the
// container is killed.
func TestManifestPassesTheMemoryLimit(t *testing.T) {
	container := managerPod(t).Containers[0]
	if container.Resources.Limits.Memory().IsZero() {
		t.Error("the container has no memory limit")
	}
	i := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == envMemoryLimit })
	if i < 0 {
		t.Fatalf("the container lacks %s", envMemoryLimit)
	}
	want := &corev1.ResourceFieldSelector{ContainerName: container.Name, Resource: "limits.memory"}
	if diff := cmp.Diff(want, container.Env[i].ValueFrom.ResourceFieldRef); diff != "" {
		t.Errorf("source of %s (-want +got):\n%s", envMemoryLimit, diff)
	}
}

// TestManifestKeepsTheState: flags that ended the operator are known after the restart of the
// container, whose root is read-only.
func TestManifestKeepsTheState(t *testing.T) {
	pod := managerPod(t)
	container := pod.Containers[0]
	o, err := parseOptions(container.Args, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == o.stateDir })
	if i < 0 || container.VolumeMounts[i].ReadOnly {
		t.Fatalf("nothing that can be written is mounted at %q", o.stateDir)
	}
	j := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == container.VolumeMounts[i].Name })
	if j < 0 || pod.Volumes[j].EmptyDir == nil || pod.Volumes[j].EmptyDir.SizeLimit.IsZero() {
		t.Errorf("the volume at %s is no emptyDir with a limit", o.stateDir)
	}
}

// TestStateRemembersFlags goes through what the operator does with --state-dir.
func TestStateRemembersFlags(t *testing.T) {
	document := []byte(`{"flags": {}}`)
	directory := t.TempDir()
	mark := fmt.Sprintf("%x", sha256.Sum256(document))
	for name, test := range map[string]struct {
		stateDir string
		want     error
	}{
		"without a directory":            {"", nil},
		"with the mark of another start": {directory, quarantine.ErrRefused},
	} {
		if err := os.WriteFile(filepath.Join(directory, mark), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		validate, err := validator(test.stateDir, logr.Discard())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := validate(t.Context(), document); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if _, err := validator(filepath.Join(directory, "missing"), logr.Discard()); err == nil || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("a missing directory: %v", err)
	}
}

// managerPod returns the pod of the manifest.
func managerPod(t *testing.T) corev1.PodSpec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "manager", "manager.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	deployment := appsv1.Deployment{}
	if err := yaml.UnmarshalStrict(text, &deployment); err != nil {
		t.Fatal(err)
	}
	return deployment.Spec.Template.Spec
}

// writeFile writes a file and returns its name.
func writeFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestMetricsEndpointSpeaksHTTP1Only(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	options := managerOptions(options{metricsSecure: true}, nil).Metrics
	if len(options.TLSOpts) == 0 {
		t.Fatal("the metrics endpoint has no options for TLS")
	}
	server.StartTLS()
	defer server.Close()
	for _, configure := range options.TLSOpts {
		configure(server.TLS)
	}
	client := server.Client()
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	response, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.ProtoMajor != 1 {
		t.Errorf("it speaks %s", response.Proto)
	}
}
