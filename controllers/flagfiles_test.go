// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// A Prober and a Sampler that nothing was passed to.
type (
	nothingProbed  struct{ Prober }
	nothingSampled struct{ Sampler }
)

func (nothingProbed) Forget(types.NamespacedName)  {}
func (nothingSampled) Forget(types.NamespacedName) {}

func TestFailuresOfDeletedFlagCachesAreForgotten(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	r := &Reconciler{
		Client: fake.NewClientBuilder().WithScheme(scheme).Build(), FlagFiles: &FlagFiles{},
		Prober: nothingProbed{}, Sampler: nothingSampled{},
		Backoff: workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](minBackoff, maxBackoff),
	}
	deleted := ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "demo"}}
	r.Backoff.When(deleted)
	if _, err := r.Reconcile(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	if n := r.Backoff.NumRequeues(deleted); n != 0 {
		t.Errorf("%d failures are known", n)
	}
}

// A tenant can name ever other keys, and create and delete FlagCaches, without limit.
func TestResultsOfUnusedFlagFilesAreDropped(t *testing.T) {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "flags"}}
	live := fake.NewClientBuilder().WithObjects(object).Build()
	f := &FlagFiles{Metadata: live, Validate: func(context.Context, []byte) ([]string, error) { return nil, nil }}
	read := func(name, key string) {
		t.Helper()
		fc := &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		fc.Spec.Flags.ConfigMap = &v1alpha1.ConfigMapKey{Name: object.Name, Key: key}
		if _, err := f.read(t.Context(), live, fc); err != nil {
			t.Fatal(err)
		}
	}
	forget := func(name string) { f.Forget(client.ObjectKey{Namespace: "shop", Name: name}) }
	expect := func(results int, when string) {
		t.Helper()
		if len(f.results) != results || len(f.users) != results {
			t.Errorf("%s: %d results and %d files in use, want %d", when, len(f.results), len(f.users), results)
		}
	}
	for i := range 10 {
		read("demo", fmt.Sprintf("key-%d", i))
	}
	expect(1, "after changes of the key")
	read("other", "key-9")
	forget("demo")
	expect(1, "while another FlagCache uses the file")
	forget("other")
	forget("other")
	expect(0, "after the deletion of all")
	for i := range 10 {
		name := fmt.Sprintf("demo-%d", i)
		read(name, name)
		forget(name)
	}
	expect(0, "after the deletion of FlagCaches with files of their own")
	if len(f.used) > 0 {
		t.Errorf("%d deleted FlagCaches are known", len(f.used))
	}
}
