// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/ackkinds"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
)

// observe reads everything that a decision may rest on, or fails with a
// readError: by half of it, a child that could not be read would be one that is
// gone. In steady state all of it comes from caches.
func (r *Reconciler) observe(ctx context.Context, fc *v1alpha1.FlagCache) (observed.Snapshot, error) {
	seen := observed.Snapshot{
		Now:       r.Clock.Now(),
		FlagCache: fc,
		Operator:  r.Operator,
		Fresh:     observed.Fresh{Password: r.random(), IntegrityKey: r.random(), Token: r.token()},
		Probe:     r.lastProbe(client.ObjectKeyFromObject(fc)),
		NextProbe: r.lastProbe(nextProbe(client.ObjectKeyFromObject(fc))),
	}
	var err error
	if seen.Children, err = r.children(ctx, fc); err != nil {
		return observed.Snapshot{}, err
	}
	if err := r.observeACK(ctx, &seen); err != nil {
		return observed.Snapshot{}, err
	}
	if seen.Routes, err = r.routes(ctx, fc, seen.Children); err != nil {
		return observed.Snapshot{}, readError{"reading the HTTPRoute of the canary", err}
	}
	if !fc.DeletionTimestamp.IsZero() {
		return seen, nil
	}
	if external := fc.Spec.Cache.External; external != nil {
		if seen.ExternalSecret, err = r.externalSecret(ctx, fc.Namespace, external.SecretRef.Name); err != nil {
			return observed.Snapshot{}, readError{"reading the Secret of the cache", err}
		}
	}
	if database := fc.Spec.Flags.Postgres; database != nil {
		if seen.DatabaseSecret, err = r.externalSecret(ctx, fc.Namespace, database.SecretRef.Name); err != nil {
			return observed.Snapshot{}, readError{"reading the Secret of the database", err}
		}
	}
	seen.Evidence = r.evidence(fc)
	if seen.Pods, err = r.podTroubles(ctx, fc, seen.Children); err != nil {
		return observed.Snapshot{}, readError{"listing the candidate's pods", err}
	}
	if seen.LoadTestReport, err = r.loadTestReport(ctx, seen.Children); err != nil {
		return observed.Snapshot{}, readError{"reading the load test's report", err}
	}
	if seen.Flags, err = r.FlagFiles.read(ctx, r.Live, fc); err != nil {
		return observed.Snapshot{}, readError{"reading the flags", err}
	}
	return seen, nil
}

// children are the objects that carry the FlagCache's name label.
func (r *Reconciler) children(ctx context.Context, fc *v1alpha1.FlagCache) ([]observed.Object, error) {
	var children []observed.Object
	for _, kind := range childKinds() {
		found, err := r.childrenOf(ctx, fc, kind)
		if err != nil {
			return nil, err
		}
		children = append(children, found...)
	}
	return children, nil
}

func (r *Reconciler) childrenOf(ctx context.Context, fc *v1alpha1.FlagCache, kind childKind) ([]observed.Object, error) {
	err := r.Client.List(ctx, kind.list, client.InNamespace(fc.Namespace), client.MatchingLabels{v1alpha1.LabelName: fc.Name})
	if err != nil {
		return nil, readError{"listing the children of kind " + kindOf(kind.object), err}
	}
	items, err := meta.ExtractList(kind.list)
	if err != nil {
		return nil, readError{"unpacking the children of kind " + kindOf(kind.object), err}
	}
	children := make([]observed.Object, len(items))
	for i, item := range items {
		children[i] = item.(observed.Object)
	}
	return children, nil
}

// observeACK reads which ACK kinds are installed, and the children of those kinds. A
// kind that cannot be read fails the reconcile of a FlagCache whose plan depends on
// it; for all others it counts as missing, so that trouble with the cloud does not
// affect them.
func (r *Reconciler) observeACK(ctx context.Context, seen *observed.Snapshot) error {
	if r.ACK == nil {
		return nil
	}
	installed, err := r.ACK.Installed(ctx)
	if err != nil {
		return readError{"discovering the kinds of ACK", err}
	}
	ctx, cancel := context.WithTimeout(ctx, ackkinds.ReadTimeout)
	defer cancel()
	for _, kind := range ack.Kinds() {
		if !installed[kind.Kind] {
			continue
		}
		children, err := r.childrenOf(ctx, seen.FlagCache, childKind{kind.New(), kind.NewList()})
		switch {
		case err == nil:
			seen.Children = append(seen.Children, children...)
		case meta.IsNoMatchError(err), !dependsOnACK(seen.FlagCache):
			installed[kind.Kind] = false
		default:
			return err
		}
	}
	seen.ACK = installed
	return nil
}

// dependsOnACK reports whether a plan depends on all objects of ACK's kinds: what
// runs in the cloud, and what must be deleted before the FlagCache is.
func dependsOnACK(fc *v1alpha1.FlagCache) bool {
	return fc.Spec.Cache.Type == v1alpha1.CacheElastiCache || !fc.DeletionTimestamp.IsZero()
}

// externalSecret reads a Secret that the spec refers to. The cache holds only
// Secrets that may be used; whether another one exists is asked of the API
// server, for its metadata alone, so that the message can say what to do.
func (r *Reconciler) externalSecret(ctx context.Context, namespace, name string) (observed.ExternalSecret, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	secret := &corev1.Secret{}
	switch err := r.Client.Get(ctx, key, secret); {
	case err == nil:
		return observed.ExternalSecret{Presence: observed.Present, Data: secret.Data}, nil
	case !apierrors.IsNotFound(err):
		return observed.ExternalSecret{}, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	metadata := &metav1.PartialObjectMetadata{}
	metadata.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	switch err := r.Live.Get(ctx, key, metadata); {
	case err == nil:
		return observed.ExternalSecret{Presence: observed.NotPermitted}, nil
	case !apierrors.IsNotFound(err):
		return observed.ExternalSecret{}, fmt.Errorf("looking for Secret %s: %w", key, err)
	}
	return observed.ExternalSecret{Presence: observed.Absent}, nil
}

// nextMark sets the prober's key for the data path that is to come apart from the
// FlagCache's own: a name holds no slash.
const nextMark = "/next"

// nextProbe is the prober's key for the data path that is to come.
func nextProbe(fc types.NamespacedName) types.NamespacedName {
	fc.Name += nextMark
	return fc
}

// FlagCacheOf is the FlagCache that a key of the prober belongs to.
func FlagCacheOf(probe types.NamespacedName) types.NamespacedName {
	probe.Name = strings.TrimSuffix(probe.Name, nextMark)
	return probe
}

// lastProbe is the prober's answer in the words of the status.
func (r *Reconciler) lastProbe(key types.NamespacedName) observed.Probe {
	result, ok := r.Prober.Last(key)
	if !ok {
		return observed.Probe{}
	}
	p := observed.Probe{Of: result.ID, Reason: string(result.Reason), Message: result.Message, Role: result.Role, At: result.At, Failing: result.Failing}
	switch result.Outcome {
	case probe.Healthy:
		p.Health = observed.Healthy
		p.Latency = result.Latency.String()
	case probe.Unhealthy:
		p.Health = observed.Unhealthy
	}
	p.Load = loads[result.Load]
	if result.ReplicationLag > 0 {
		p.ReplicationLag = result.ReplicationLag.String()
	}
	return p
}

// loads are the prober's words in the words of a plan.
var loads = map[probe.Load]observed.Load{
	probe.LoadNormal:     observed.LoadNormal,
	probe.LoadLow:        observed.LoadLow,
	probe.LoadHighMemory: observed.LoadHighMemory,
	probe.LoadHighCPU:    observed.LoadHighCPU,
}

// probeTarget is a plan's target in the words of the prober.
func probeTarget(t *plan.ProbeTarget) probe.Target {
	return probe.Target{
		ID:               t.ID,
		Addr:             t.Connection.Endpoint(),
		Username:         t.Connection.Username,
		Password:         probe.Secret(t.Connection.Password),
		TLS:              t.Connection.TLS,
		CA:               []byte(t.Connection.CA),
		Key:              t.Key,
		Interval:         t.Spec.Interval.Duration,
		Timeout:          t.Spec.Timeout.Duration,
		FailureThreshold: int(t.Spec.FailureThreshold),
		SuccessThreshold: int(t.Spec.SuccessThreshold),
	}
}
