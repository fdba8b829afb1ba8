// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		"missing CA bundle": {
			args: []string{"--elasticache-ca-file", filepath.Join(t.TempDir(), "missing.pem")}, message: "--elasticache-ca-file: open ",
		},
		"CA bundle without a certificate": {
			args: []string{"--elasticache-ca-file", writeFile(t, "-----BEGIN NOTHING-----\n")}, message: "contains no PEM certificate",
		},
		"invalid namespace name": {
			env: map[string]string{envWatchNamespace: "Shop"}, message: `WATCH_NAMESPACE: "Shop" is not a valid namespace name`,
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
			got := values{o.namespaces, o.ownNamespace, o.flagServiceImage, o.elastiCacheCA}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
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
