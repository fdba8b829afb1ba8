// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/pem"
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
	authorities := file(t, certificate)

	type wanted struct {
		Namespaces       []string
		OwnNamespace     string
		FlagServiceImage string
		ElastiCacheCA    string
	}
	standard := wanted{OwnNamespace: "flagcache-system", FlagServiceImage: "ghcr.io/flagcache/flag-service:" + version}
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		want wanted
		// problem is what the error says.
		problem string
	}{
		"has a default for everything": {want: standard},
		"reads the environment": {
			env:  map[string]string{envWatchNamespace: "shop, web", envPodNamespace: "operators", envFlagServiceImage: "flags:v1"},
			want: wanted{Namespaces: []string{"shop", "web"}, OwnNamespace: "operators", FlagServiceImage: "flags:v1"},
		},
		"reads the authorities of ElastiCache": {
			args: []string{"--elasticache-ca-file", authorities},
			want: wanted{OwnNamespace: standard.OwnNamespace, FlagServiceImage: standard.FlagServiceImage, ElastiCacheCA: certificate},
		},
		"refuses a file of authorities that is not there": {
			args: []string{"--elasticache-ca-file", filepath.Join(t.TempDir(), "missing.pem")}, problem: "--elasticache-ca-file: open ",
		},
		"refuses a file without a certificate": {
			args: []string{"--elasticache-ca-file", file(t, "-----BEGIN NOTHING-----\n")}, problem: "holds no certificate in PEM",
		},
		"refuses what is not a namespace": {
			env: map[string]string{envWatchNamespace: "Shop"}, problem: `WATCH_NAMESPACE: "Shop" is not the name of a namespace`,
		},
		"refuses to do nothing at a time": {
			args: []string{"--max-concurrent-reconciles=0"}, problem: "must be at least 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parseOptions(test.args, func(key string) string { return test.env[key] })
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want one that says %q", err, test.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := wanted{o.namespaces, o.ownNamespace, o.flagServiceImage, o.elastiCacheCA}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

// file is a file with a content.
func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "authorities.pem")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
