// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/flags"
)

func flagsOf(namespace, content string) (*v1alpha1.FlagCache, *corev1.ConfigMap) {
	fc := &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo"}}
	fc.Spec.Flags.ConfigMap = &v1alpha1.ConfigMapKey{Name: "flags", Key: "flags.json"}
	return fc, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "flags"}, Data: map[string]string{"flags.json": content}}
}

func mustRead(t *testing.T, f *FlagFiles, live client.Client, fc *v1alpha1.FlagCache) observed.Flags {
	t.Helper()
	read, err := f.read(t.Context(), live, fc)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func TestFileIsValidatedOncePerContent(t *testing.T) {
	fc, configMap := flagsOf("shop", `{"flags": {}}`)
	live := fake.NewClientBuilder().WithObjects(configMap).Build()
	validated := 0
	f := &FlagFiles{Metadata: live, Validate: func(ctx context.Context, data []byte) ([]string, error) {
		validated++
		return flags.Validate(ctx, data)
	}}
	change := func(edit func()) observed.Flags {
		t.Helper()
		edit()
		if err := live.Update(t.Context(), configMap); err != nil {
			t.Fatal(err)
		}
		return mustRead(t, f, live, fc)
	}
	first := mustRead(t, f, live, fc)
	for _, content := range []string{`{"flags": {}}`, "{"} {
		before := change(func() { configMap.Data["flags.json"] = content })
		done := validated
		for i := range 3 {
			if after := change(func() { configMap.Labels = map[string]string{"n": fmt.Sprint(i)} }); after.State != before.State || after.Digest != before.Digest {
				t.Errorf("%v after a change of labels, %v before", after, before)
			}
		}
		if validated != done {
			t.Errorf("%q was validated %d times again for a change of labels", content, validated-done)
		}
	}
	if fixed := change(func() { configMap.Data["flags.json"] = `{"flags": {}}` }); fixed.State != first.State || fixed.Digest != first.Digest {
		t.Errorf("%v after a repair, %v before", fixed, first)
	}
}

func TestOneFileAtATimeIsValidated(t *testing.T) {
	const files = 8
	var now, most, validated atomic.Int32
	var objects []client.Object
	var all []*v1alpha1.FlagCache
	for i := range files {
		fc, configMap := flagsOf(fmt.Sprint("shop-", i), fmt.Sprintf(`{"flags": {}, "$schema": "%d"}`, i))
		all, objects = append(all, fc), append(objects, configMap)
	}
	live := fake.NewClientBuilder().WithObjects(objects...).Build()
	f := &FlagFiles{Metadata: live, Validate: func(context.Context, []byte) ([]string, error) {
		most.Store(max(most.Load(), now.Add(1)))
		validated.Add(1)
		now.Add(-1)
		return nil, nil
	}}
	var readers sync.WaitGroup
	for _, fc := range all {
		readers.Go(func() {
			if _, err := f.read(t.Context(), live, fc); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	if most.Load() != 1 || validated.Load() != files {
		t.Errorf("%d of %d files were validated, up to %d at a time", validated.Load(), files, most.Load())
	}
}

// TestIdenticalFilesAreValidatedOnce, at the same time and later, until nobody uses them.
func TestIdenticalFilesAreValidatedOnce(t *testing.T) {
	const files = 8
	var validated atomic.Int64
	var objects []client.Object
	var all []*v1alpha1.FlagCache
	for i := range files {
		fc, configMap := flagsOf(fmt.Sprint("shop-", i), `{"flags": {"f": 0}}`)
		all, objects = append(all, fc), append(objects, configMap)
	}
	live := fake.NewClientBuilder().WithObjects(objects...).Build()
	f := &FlagFiles{Metadata: live, Validate: func(ctx context.Context, data []byte) ([]string, error) {
		validated.Add(1)
		return flags.Validate(ctx, data)
	}}
	var readers sync.WaitGroup
	for _, fc := range all[1:] {
		readers.Go(func() {
			if _, err := f.read(t.Context(), live, fc); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	last := mustRead(t, f, live, all[0])
	if validated.Load() != 1 || len(last.Problems) != 1 || last.Digest == "" {
		t.Errorf("%d identical files were validated %d times, and the last one is %+v", files, validated.Load(), last)
	}
	for _, fc := range all {
		f.Forget(client.ObjectKeyFromObject(fc))
	}
	if mustRead(t, f, live, all[0]); validated.Load() != 2 {
		t.Errorf("validated %d times after nobody used it", validated.Load())
	}
}

func TestValidationEndsWithItsDeadline(t *testing.T) {
	fc, configMap := flagsOf("shop", `{"flags": {}}`)
	live := fake.NewClientBuilder().WithObjects(configMap).Build()
	f := &FlagFiles{Metadata: live, Validate: func(context.Context, []byte) ([]string, error) {
		return nil, fmt.Errorf("validating: %w", context.DeadlineExceeded)
	}}
	read := mustRead(t, f, live, fc)
	if read.State != observed.FlagsUnparseable || !strings.Contains(read.Error, "takes longer than 30s") {
		t.Errorf("%+v after the deadline", read)
	}
	stopped, stop := context.WithCancel(t.Context())
	f = &FlagFiles{Metadata: live, Validate: func(ctx context.Context, _ []byte) ([]string, error) {
		stop()
		return nil, ctx.Err()
	}}
	if read, err := f.read(stopped, live, fc); err == nil {
		t.Errorf("a result of a reconcile that was stopped: %+v", read)
	}
}
