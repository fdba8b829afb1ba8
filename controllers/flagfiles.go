// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/broadcast"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/printable"
)

// FlagFiles reads and validates the ConfigMaps that hold flags. It keeps metadata and
// validation results, not the files: a file is read once for each resourceVersion of its
// ConfigMap, and validated once for each content, in whichever ConfigMaps it is. One file at
// a time is validated, for at most validationTimeout.
type FlagFiles struct {
	// Metadata reads the metadata of ConfigMaps from a cache.
	Metadata client.Reader
	// Validate validates a flags file: it returns an error if no flag can be used, else
	// the problems of the rejected flags.
	Validate func(ctx context.Context, data []byte) (problems []string, err error)

	// turn has the right to validate.
	turn sync.Mutex

	mu      sync.Mutex
	results map[fileKey]validation
	// used has the file of each FlagCache, and users how many FlagCaches use each file: a result
	// that nobody uses is dropped.
	used  map[types.NamespacedName]fileKey
	users map[fileKey]int
}

const (
	// validationTimeout is many times what the largest file needs.
	validationTimeout = 30 * time.Second
	// maxKeptProblems are the rejected flags of a file whose messages are kept.
	maxKeptProblems = 10
)

type fileKey struct {
	configMap types.NamespacedName
	key       string
}

// validation is the result of validating a file in one version of its ConfigMap.
type validation struct {
	resourceVersion string
	// digest is the SHA-256 of the content in hexadecimal, "" if there is none.
	digest string
	flags  observed.Flags
}

// read returns the state of a FlagCache's flags file, the zero value if it has none.
func (f *FlagFiles) read(ctx context.Context, live client.Reader, fc *v1alpha1.FlagCache) (observed.Flags, error) {
	ref := fc.Spec.Flags.ConfigMap
	if ref == nil {
		f.Forget(client.ObjectKeyFromObject(fc))
		return observed.Flags{}, nil
	}
	file := fileKey{configMap: types.NamespacedName{Namespace: fc.Namespace, Name: ref.Name}, key: ref.Key}
	f.use(client.ObjectKeyFromObject(fc), file)
	metadata := bodies.Metadata("ConfigMap")
	switch err := f.Metadata.Get(ctx, file.configMap, metadata); {
	case apierrors.IsNotFound(err):
		f.forget(file)
		return observed.Flags{State: observed.FlagsNoConfigMap}, nil
	case err != nil:
		return observed.Flags{}, fmt.Errorf("reading the metadata of ConfigMap %s: %w", file.configMap, err)
	}
	if cached, ok := f.cached(file, metadata.ResourceVersion); ok {
		return cached, nil
	}
	configMap := &corev1.ConfigMap{}
	switch err := live.Get(ctx, file.configMap, configMap); {
	case apierrors.IsNotFound(err):
		return observed.Flags{State: observed.FlagsNoConfigMap}, nil
	case err != nil:
		return observed.Flags{}, fmt.Errorf("reading ConfigMap %s: %w", file.configMap, err)
	}
	result, err := f.validate(ctx, file, configMap)
	if err != nil {
		return observed.Flags{}, fmt.Errorf("validating ConfigMap %s: %w", file.configMap, err)
	}
	f.store(file, result)
	return result.flags, nil
}

// validate returns the result for a ConfigMap, and an error if the context ended before.
func (f *FlagFiles) validate(ctx context.Context, file fileKey, configMap *corev1.ConfigMap) (validation, error) {
	result := validation{resourceVersion: configMap.ResourceVersion}
	data, ok := contentOf(configMap, file.key)
	if !ok {
		result.flags.State = observed.FlagsNoKey
		return result, nil
	}
	sum := sha256.Sum256(data)
	result.digest = hex.EncodeToString(sum[:])
	if result.flags, ok = f.known(result.digest); !ok {
		result.flags = f.validateOnce(ctx, file, result.digest, data)
	}
	if result.flags.State == observed.FlagsLoaded {
		result.flags.Digest = result.digest
	}
	return result, ctx.Err()
}

func (f *FlagFiles) validateContent(ctx context.Context, data []byte) observed.Flags {
	ctx, cancel := context.WithTimeout(ctx, validationTimeout)
	defer cancel()
	problems, err := f.Validate(ctx, data)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return observed.Flags{State: observed.FlagsUnparseable, Error: fmt.Sprintf("its validation takes longer than %s", validationTimeout)}
	case err != nil:
		return observed.Flags{State: observed.FlagsUnparseable, Error: printable.Text(err.Error(), printable.MaxMessage)}
	}
	for i := range problems {
		if i < maxKeptProblems {
			problems[i] = printable.Text(problems[i], printable.MaxMessage)
		} else {
			problems[i] = "" // they are counted only
		}
	}
	return observed.Flags{State: observed.FlagsLoaded, Problems: problems}
}

// document returns the file of a FlagCache that is to be published; errStale if the API server
// has another one than that with the digest, as if an old view of it was validated.
func document(ctx context.Context, live client.Reader, fc *v1alpha1.FlagCache, digest string) ([]byte, error) {
	configMap := &corev1.ConfigMap{}
	ref := fc.Spec.Flags.ConfigMap
	if err := live.Get(ctx, client.ObjectKey{Namespace: fc.Namespace, Name: ref.Name}, configMap); err != nil {
		return nil, staleIfNotFound(err, "reading the flags from the API server")
	}
	data, _ := contentOf(configMap, ref.Key)
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != digest {
		return nil, errStale
	}
	return data, nil
}

// contentOf returns the value of a key of a ConfigMap, false if it has no such key.
func contentOf(configMap *corev1.ConfigMap, key string) ([]byte, bool) {
	if text, ok := configMap.Data[key]; ok {
		return []byte(text), true
	}
	data, ok := configMap.BinaryData[key]
	return data, ok
}

// publish writes a document of flags to the ConfigMap that pods read it from. The write is bound
// to the version that was observed, and not forced: of two leaders only one can give out a
// number.
func (a *applier) publish(ctx context.Context, p *plan.Publication) error {
	fc := a.fresh.snapshot.FlagCache
	if err := a.fresh.ensure(ctx); err != nil {
		return err
	}
	data := p.Content
	if data == nil {
		var err error
		if data, err = document(ctx, a.live, fc, p.Digest); err != nil {
			return err
		}
	}
	configMap := p.ConfigMap(data)
	if p.Observed == nil {
		desired, _, err := prepare(configMap)
		if err != nil {
			return err
		}
		return a.create(ctx, desired)
	}
	if !metav1.IsControlledBy(p.Observed, fc) {
		live, err := a.getLive(ctx, p.Observed)
		if err != nil {
			return err
		}
		if !a.owns(live) {
			return nameConflictError{live}
		}
	}
	ctrl.LoggerFrom(ctx).Info("Publishing flags", "digest", p.Digest)
	patch := client.MergeFromWithOptions(p.Observed, client.MergeFromWithOptimisticLock{})
	wanted := maps.Clone(configMap.GetLabels())
	if err := a.client.Patch(ctx, configMap, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return staleIfNotFound(err, "publishing the flags")
	}
	return a.checkLabels(ctx, configMap, wanted)
}

func (f *FlagFiles) cached(file fileKey, resourceVersion string) (observed.Flags, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.results[file]
	return v.flags, ok && v.resourceVersion == resourceVersion
}

func (f *FlagFiles) store(file fileKey, v validation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.results == nil {
		f.results = map[fileKey]validation{}
	}
	f.results[file] = v
}

// known returns the result for a content that was validated, of whichever ConfigMap.
func (f *FlagFiles) known(digest string) (observed.Flags, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.results {
		if v.digest == digest {
			return v.flags, true
		}
	}
	return observed.Flags{}, false
}

// validateOnce waits for the turn to validate a content, unless whoever had it validated the
// same one, and stores the result for those who wait.
func (f *FlagFiles) validateOnce(ctx context.Context, file fileKey, digest string, data []byte) observed.Flags {
	f.turn.Lock()
	defer f.turn.Unlock()
	if flags, ok := f.known(digest); ok {
		return flags
	}
	flags := f.validateContent(ctx, data)
	if ctx.Err() == nil {
		f.store(file, validation{digest: digest, flags: flags})
	}
	return flags
}

func (f *FlagFiles) forget(file fileKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.results, file)
}

// use records which file a FlagCache uses.
func (f *FlagFiles) use(fc types.NamespacedName, file fileKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before, ok := f.used[fc]; ok {
		if before == file {
			return
		}
		f.release(fc)
	}
	if f.used == nil {
		f.used, f.users = map[types.NamespacedName]fileKey{}, map[fileKey]int{}
	}
	f.used[fc] = file
	f.users[file]++
}

// Forget drops what is known of the file of a deleted FlagCache, unless others use it.
func (f *FlagFiles) Forget(fc types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.release(fc)
}

// release ends the use of a file. The caller holds the lock.
func (f *FlagFiles) release(fc types.NamespacedName) {
	file, ok := f.used[fc]
	if !ok {
		return
	}
	delete(f.used, fc)
	if f.users[file]--; f.users[file] == 0 {
		delete(f.users, file)
		delete(f.results, file)
	}
}

// watchDelivery starts, continues or stops comparing the flags of pods as planned.
func watchDelivery(d Deliveries, key types.NamespacedName, target *plan.DeliveryTarget) {
	switch {
	case d == nil:
	case target == nil:
		d.Forget(key)
	default:
		revisions := map[string]evidence.ReadyPods{}
		for revision, pods := range target.Revisions {
			revisions[revision] = evidence.ReadyPods(pods)
		}
		d.Watch(key, evidence.DeliveryTarget{FlagCache: key, Digest: target.Digest, Shared: target.Shared, Revisions: revisions})
	}
}

// watchBroadcast starts, continues or stops writing flags to Redis as planned.
func watchBroadcast(b Broadcasts, key types.NamespacedName, target *plan.BroadcastTarget) {
	switch {
	case b == nil:
	case target == nil:
		b.Pause(key)
	default:
		b.Watch(key, broadcast.Target{
			FlagCache: key, Number: target.Number, Digest: target.Digest, Store: target.Store, Environments: target.Environments,
			TTL: target.TTL, Key: target.Keys.Seal, Accepted: target.Keys.Accepted, Redis: probeTarget(&target.Redis), Compressed: target.Compressed,
		})
	}
}

// lastBroadcast converts the last result of writing flags to Redis to an observation.
func lastBroadcast(b Broadcasts, key types.NamespacedName) observed.Broadcast {
	if b == nil {
		return observed.Broadcast{}
	}
	last, _ := b.Last(key)
	return observed.Broadcast{Number: last.Number, Stored: last.Reason == broadcast.Stored, Reason: string(last.Reason)}
}

// delivery converts the last result about the flags of pods to an observation.
func (o *observer) delivery(key types.NamespacedName) observed.Delivery {
	if o.deliveries == nil {
		return observed.Delivery{}
	}
	last, known := o.deliveries.Last(key)
	return observed.Delivery{
		Of: last.Digest, Serving: last.Serving, Asked: last.Asked, Behind: last.Behind, More: last.More, Since: last.Since, Incomplete: last.Incomplete,
		Known: known, Foreign: last.Foreign,
	}
}
