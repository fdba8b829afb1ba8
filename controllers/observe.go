// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/ackkinds"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/secret"
)

// observer reads snapshots.
type observer struct {
	// cached reads from the cache, live from the API server, allowed the Secrets that
	// FlagCaches may use.
	cached, live, allowed client.Reader
	flagFiles             *FlagFiles
	prober                Prober
	sampler               Sampler
	deliveries            Deliveries
	broadcasts            Broadcasts
	ack                   ACK
	now                   time.Time
	operator              observed.Operator
	policy                *policy.Policy
	random                func() string
}

func (r *Reconciler) observer() *observer {
	o := &observer{
		cached: r.Client, live: r.Live, allowed: r.Allowed, flagFiles: r.FlagFiles, prober: r.Prober, sampler: r.Sampler, deliveries: r.Deliveries, broadcasts: r.Broadcasts, ack: r.ACK,
		now: r.Clock.Now(), operator: r.Operator, policy: r.Policy.Load(), random: r.Random,
	}
	if o.policy == nil {
		o.policy = policy.Default()
	}
	if o.random == nil {
		o.random = rand.Text
	}
	return o
}

// observe reads everything that a decision may depend on, or returns a readError: a
// partial snapshot would make an unreadable child look deleted. In steady state it
// reads from caches only.
func (o *observer) observe(ctx context.Context, fc *v1alpha1.FlagCache) (observed.Snapshot, error) {
	key := client.ObjectKeyFromObject(fc)
	snapshot := observed.Snapshot{
		Now:       o.now,
		FlagCache: fc,
		Operator:  o.operator, Violations: o.policy.Check(fc, o.operator.Prometheus),
		AdoptionPermitted: o.policy.MayAdopt(fc.Namespace, fc.Annotations[v1alpha1.AnnotationAdopt]),
		Fresh:             o.fresh(),
		Probe:             o.lastProbe(key),
		NextProbe:         o.lastProbe(nextProbeKey(key)),
	}
	var err error
	if snapshot.Children, err = o.children(ctx, fc); err != nil {
		return observed.Snapshot{}, err
	}
	if err := o.observeACK(ctx, &snapshot); err != nil {
		return observed.Snapshot{}, err
	}
	if err := o.observeSpending(ctx, &snapshot); err != nil {
		return observed.Snapshot{}, err
	}
	if snapshot.Routes, err = o.routes(ctx, fc, snapshot.Children); err != nil {
		return observed.Snapshot{}, readError{"reading the HTTPRoute of the canary", err}
	}
	if !fc.DeletionTimestamp.IsZero() {
		return snapshot, nil
	}
	if secret := caches.Dependencies(fc).Secret; secret != "" {
		if snapshot.ExternalSecret, err = o.referencedSecret(ctx, fc.Namespace, secret); err != nil {
			return observed.Snapshot{}, readError{"reading the Secret of the cache", err}
		}
	}
	if database := fc.Spec.Flags.Postgres; database != nil {
		if snapshot.DatabaseSecret, err = o.referencedSecret(ctx, fc.Namespace, database.SecretRef.Name); err != nil {
			return observed.Snapshot{}, readError{"reading the Secret of the database", err}
		}
	}
	snapshot.Evidence, _ = o.sampler.Last(key)
	if snapshot.Pods, err = o.podFailures(ctx, snapshot); err != nil {
		return observed.Snapshot{}, readError{"listing the pods of revisions", err}
	}
	if snapshot.Autoscalers, err = o.autoscalers(ctx, snapshot); err != nil {
		return observed.Snapshot{}, readError{"listing the HorizontalPodAutoscalers", err}
	}
	if snapshot.CachePods, err = o.cacheFailure(ctx, fc, snapshot.Children); err != nil {
		return observed.Snapshot{}, readError{"listing the pods of the cache", err}
	}
	if snapshot.LoadTests, err = o.loadTests(ctx, fc, snapshot.Children); err != nil {
		return observed.Snapshot{}, readError{"listing the pods of load tests", err}
	}
	if snapshot.Flags, err = o.flagFiles.read(ctx, o.live, fc); err != nil {
		return observed.Snapshot{}, readError{"reading the flags", err}
	}
	snapshot.Delivery, snapshot.Broadcast = o.delivery(key), lastBroadcast(o.broadcasts, key)
	return snapshot, nil
}

// fresh returns new credentials.
func (o *observer) fresh() observed.Fresh {
	return observed.Fresh{
		Password: secret.New(o.random()), ProbePassword: secret.New(o.random()),
		IntegrityKey: secret.New(o.random()), Token: secret.New(o.token()),
	}
}

// tokenLength is within ElastiCache's limits of 16 to 128 characters.
const tokenLength = 64

// token returns a new ElastiCache AUTH token of letters and digits.
func (o *observer) token() string {
	token := ""
	for len(token) < tokenLength {
		token += o.random()
	}
	return token[:tokenLength]
}

// children returns the objects that carry the FlagCache's name label.
func (o *observer) children(ctx context.Context, fc *v1alpha1.FlagCache) ([]observed.Object, error) {
	var children []observed.Object
	for _, kind := range childKinds() {
		found, err := o.childrenOf(ctx, fc, kind)
		if err != nil {
			return nil, err
		}
		children = append(children, found...)
	}
	return children, nil
}

// childrenOf returns the children of one kind.
func (o *observer) childrenOf(ctx context.Context, fc *v1alpha1.FlagCache, kind childKind) ([]observed.Object, error) {
	err := o.cached.List(ctx, kind.list, client.InNamespace(fc.Namespace), client.MatchingLabels{v1alpha1.LabelName: fc.Name})
	if err != nil {
		return nil, readError{"listing the children of kind " + observed.KindOf(kind.object), err}
	}
	items, err := meta.ExtractList(kind.list)
	if err != nil {
		return nil, readError{"unpacking the children of kind " + observed.KindOf(kind.object), err}
	}
	children := make([]observed.Object, len(items))
	for i, item := range items {
		children[i] = item.(observed.Object)
	}
	return children, nil
}

// observeACK reads which ACK kinds are installed, and the children of those kinds. A
// kind that cannot be read fails the reconcile of a FlagCache whose plan depends on
// it; for all others it counts as missing, so that problems in the cloud do not
// affect them.
func (o *observer) observeACK(ctx context.Context, snapshot *observed.Snapshot) error {
	if o.ack == nil {
		return nil
	}
	installed := o.ack.Installed()
	ctx, cancel := context.WithTimeout(ctx, ackkinds.ReadTimeout)
	defer cancel()
	for _, kind := range ack.Kinds() {
		if !installed[kind.Kind] {
			continue
		}
		children, err := o.childrenOf(ctx, snapshot.FlagCache, childKind{kind.New(), kind.NewList()})
		switch {
		case err == nil:
			snapshot.Children = append(snapshot.Children, children...)
		case meta.IsNoMatchError(err), !caches.Dependencies(snapshot.FlagCache).ACK:
			installed[kind.Kind] = false
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", errCacheBehind, err)
		default:
			return err
		}
	}
	snapshot.ACK, snapshot.ACKLacks = installed, o.ack.Lacking()
	return nil
}

// observeSpending reads the policy's limits on what the FlagCache may cost, and the other
// FlagCaches of its namespace if they are limited together.
func (o *observer) observeSpending(ctx context.Context, snapshot *observed.Snapshot) error {
	fc := snapshot.FlagCache
	snapshot.SpendingLimits = o.policy.SpendingLimits(fc)
	if snapshot.SpendingLimits.Namespace == nil {
		return nil
	}
	groups := map[string][]observed.Object{}
	if snapshot.ACK["ReplicationGroup"] {
		list := &ack.ReplicationGroupList{}
		if err := o.cached.List(ctx, list, client.InNamespace(fc.Namespace)); err != nil {
			return readError{"listing the replication groups of the namespace", err}
		}
		for i := range list.Items {
			name := list.Items[i].Labels[v1alpha1.LabelName]
			groups[name] = append(groups[name], &list.Items[i])
		}
	}
	all := &v1alpha1.FlagCacheList{}
	if err := o.cached.List(ctx, all, client.InNamespace(fc.Namespace), client.Limit(policy.MaxNeighbors+2), client.UnsafeDisableDeepCopy); err != nil {
		return readError{"listing the FlagCaches of the namespace", err}
	}
	snapshot.MoreNeighbors = len(all.Items) > policy.MaxNeighbors+1
	for i := range all.Items {
		other := &all.Items[i]
		if other.Name != fc.Name && (other.Spec.Cache.Type == v1alpha1.CacheElastiCache || len(groups[other.Name]) > 0) {
			snapshot.Neighbors = append(snapshot.Neighbors, observed.Neighbor{FlagCache: other, Groups: groups[other.Name]})
		}
	}
	return nil
}

// referencedSecret reads a Secret that the spec refers to. The cache holds only Secrets
// whose owners allow their use; the existence of others, such as the children of
// FlagCaches, is checked on the API server, reading only metadata, for a helpful condition
// message.
func (o *observer) referencedSecret(ctx context.Context, namespace, name string) (observed.ExternalSecret, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	secret := &corev1.Secret{}
	switch err := o.allowed.Get(ctx, key, secret); {
	case errors.As(err, new(bodies.TooLargeError)):
		return observed.ExternalSecret{Presence: observed.TooLarge}, nil
	case err == nil && (flagCacheOf(secret) != "" || secret.Labels[v1alpha1.LabelAllow] != v1alpha1.AllowTrue):
		return refusedSecret(secret), nil
	case err == nil:
		return observed.ExternalSecret{Presence: observed.Present, Data: secret.Data}, nil
	case !apierrors.IsNotFound(err):
		return observed.ExternalSecret{}, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	metadata := bodies.Metadata("Secret")
	switch err := o.live.Get(ctx, key, metadata); {
	case err == nil:
		return refusedSecret(metadata), nil
	case !apierrors.IsNotFound(err):
		return observed.ExternalSecret{}, fmt.Errorf("reading the metadata of Secret %s: %w", key, err)
	}
	return observed.ExternalSecret{Presence: observed.Absent}, nil
}

// refusedSecret returns why a Secret that exists may not be used.
func refusedSecret(secret client.Object) observed.ExternalSecret {
	if owner := flagCacheOf(secret); owner != "" {
		return observed.ExternalSecret{Presence: observed.Owned, Owner: owner}
	}
	return observed.ExternalSecret{Presence: observed.NotPermitted}
}

// flagCacheOf returns the name of the FlagCache that an object is a child of, "" if it is
// none.
func flagCacheOf(o client.Object) string {
	owner := metav1.GetControllerOf(o)
	if owner == nil || owner.Kind != "FlagCache" || !strings.HasPrefix(owner.APIVersion, v1alpha1.GroupVersion.Group+"/") {
		return ""
	}
	return owner.Name
}
