// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/policy"
)

const policyHead = "apiVersion: policy.flagcache.dev/v1alpha1\nkind: Policy\n"

// TestPolicyIsReadAgain goes through the states of the file.
func TestPolicyIsReadAgain(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	changes, elected := make(chan event.GenericEvent, 10), make(chan struct{})
	f := &policyFile{
		path: filepath.Join(t.TempDir(), "policy.yaml"), reconciler: &controllers.Reconciler{}, log: logr.Discard(),
		reader:  fake.NewClientBuilder().WithScheme(scheme).WithObjects(&v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "flags"}}).Build(),
		changes: changes, elected: elected, valid: prometheus.NewGauge(prometheus.GaugeOpts{Name: "valid"}),
	}
	f.reconciler.Policy.Store(policy.Default())
	current := func() string {
		if images := f.reconciler.Policy.Load().Images; images != nil {
			return strings.Join(*images, " ")
		}
		return "any"
	}
	steps := []struct {
		name, file string
		leads      bool
		want       string
		valid      float64
		reconciles int
	}{
		{name: "no file yet", leads: true, want: "any", valid: 1},
		{name: "a file", leads: true, file: policyHead + "images: [a/]", want: "a/", valid: 1, reconciles: 1},
		{name: "the same", leads: true, file: policyHead + "images: [a/] # unchanged", want: "a/", valid: 1},
		{name: "a mistake", leads: true, file: policyHead + "image: [b/]", want: "a/"},
		{name: "mended", leads: true, file: policyHead + "images: [b/]", want: "b/", valid: 1, reconciles: 1},
		{name: "deleted", leads: true, want: "b/"},
		{name: "of a replica that does not lead", file: policyHead + "images: [c/]", want: "c/", valid: 1},
	}
	close(elected)
	for _, step := range steps {
		if !step.leads {
			f.elected = make(chan struct{})
		}
		if err := os.Remove(f.path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if step.file != "" {
			if err := os.WriteFile(f.path, []byte(step.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f.reload(t.Context())
		if got := current(); got != step.want || testutil.ToFloat64(f.valid) != step.valid || len(changes) != step.reconciles {
			t.Errorf("%s: permits %s, valid %v, %d reconciles; want %s, %v, %d", step.name, got, testutil.ToFloat64(f.valid), len(changes), step.want, step.valid, step.reconciles)
		}
		for len(changes) > 0 {
			<-changes
		}
	}
}
