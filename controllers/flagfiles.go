// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// FlagFiles reads the ConfigMaps that hold flags. It caches metadata and
// verdicts, never the files: a verdict depends on nothing but the ConfigMap's
// resourceVersion, so it is asked for once for each.
type FlagFiles struct {
	// Metadata reads ConfigMaps' metadata from a cache.
	Metadata client.Reader
	// Validate says what is wrong with a flags file: an error when it cannot be
	// used as a whole, else the flags that are rejected.
	Validate func(data []byte) (problems []string, err error)

	mu       sync.Mutex
	verdicts map[fileKey]verdict
}

type fileKey struct {
	configMap types.NamespacedName
	key       string
}

type verdict struct {
	resourceVersion string
	flags           observed.Flags
}

// read says what the flags file of a FlagCache is like; one without a file has
// nothing to read.
func (f *FlagFiles) read(ctx context.Context, live client.Reader, fc *v1alpha1.FlagCache) (observed.Flags, error) {
	ref := fc.Spec.Flags.ConfigMap
	if ref == nil {
		return observed.Flags{}, nil
	}
	file := fileKey{configMap: types.NamespacedName{Namespace: fc.Namespace, Name: ref.Name}, key: ref.Key}
	metadata := configMapMetadata()
	switch err := f.Metadata.Get(ctx, file.configMap, metadata); {
	case apierrors.IsNotFound(err):
		f.forget(file)
		return observed.Flags{State: observed.FlagsNoConfigMap}, nil
	case err != nil:
		return observed.Flags{}, fmt.Errorf("looking for ConfigMap %s: %w", file.configMap, err)
	}
	if known, ok := f.known(file, metadata.ResourceVersion); ok {
		return known, nil
	}
	configMap := &corev1.ConfigMap{}
	switch err := live.Get(ctx, file.configMap, configMap); {
	case apierrors.IsNotFound(err):
		return observed.Flags{State: observed.FlagsNoConfigMap}, nil
	case err != nil:
		return observed.Flags{}, fmt.Errorf("reading ConfigMap %s: %w", file.configMap, err)
	}
	flags := f.judge(configMap, ref.Key)
	f.remember(file, verdict{resourceVersion: configMap.ResourceVersion, flags: flags})
	return flags, nil
}

func (f *FlagFiles) judge(configMap *corev1.ConfigMap, key string) observed.Flags {
	data, ok := configMap.BinaryData[key]
	if text, isText := configMap.Data[key]; isText {
		data, ok = []byte(text), true
	}
	if !ok {
		return observed.Flags{State: observed.FlagsNoKey}
	}
	problems, err := f.Validate(data)
	if err != nil {
		return observed.Flags{State: observed.FlagsUnparseable, Error: err.Error()}
	}
	return observed.Flags{State: observed.FlagsLoaded, Problems: problems}
}

func (f *FlagFiles) known(file fileKey, resourceVersion string) (observed.Flags, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.verdicts[file]
	return v.flags, ok && v.resourceVersion == resourceVersion
}

func (f *FlagFiles) remember(file fileKey, v verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.verdicts == nil {
		f.verdicts = map[fileKey]verdict{}
	}
	f.verdicts[file] = v
}

func (f *FlagFiles) forget(file fileKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.verdicts, file)
}
