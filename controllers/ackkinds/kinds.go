// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackkinds

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/caches"
)

// +kubebuilder:rbac:groups=elasticache.services.k8s.aws,resources=replicationgroups;cachesubnetgroups;cacheparametergroups;users;usergroups;snapshots,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=ec2.services.k8s.aws,resources=securitygroups,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=cloudwatch.services.k8s.aws,resources=metricalarms,verbs=get;list;watch;create;patch;delete

// ReadTimeout bounds the wait for a kind whose cache does not sync.
const ReadTimeout = 5 * time.Second

// Discovery intervals.
const (
	// defaultInterval is the default of Kinds.Interval.
	defaultInterval = 30 * time.Second
	// initialInterval is the interval until every group was discovered once, which
	// the controller waits for.
	initialInterval = time.Second
	// jitterFactor is the largest random addition to an interval, as a share of it.
	jitterFactor = 0.2
)

// Kinds keeps track of which ACK kinds the cluster serves, and watches the children
// of FlagCaches among them. The kinds may be missing when the operator starts, and
// be installed or removed later. Kinds uses the API server's discovery, which needs
// no permission; an operator restricted to one namespace may not read
// CustomResourceDefinitions.
//
// It is a source of the controller, which starts it on the leader, and starts its
// workers after the first discovery. Each kind has its own cache and client, created
// when the kind appears and stopped when it is removed. The manager's must not be
// used: its client tracks the resource versions that it wrote of a kind, and would
// wait forever for the watch of a reinstalled kind to reach them.
type Kinds struct {
	// Discovery lists the resources that the API server serves.
	Discovery Discovery
	// Interval between two discoveries. Default: 30 s.
	Interval time.Duration

	mgr     ctrl.Manager
	options cache.Options
	// discovered is closed when every group was discovered once.
	discovered chan struct{}
	// pending are the groups that were not discovered yet.
	pending sets.Set[schema.GroupVersion]
	// compared are the URLs of the schemas that the kinds of a group were compared with.
	compared map[schema.GroupVersion]string

	mu      sync.RWMutex
	watched map[string]*watchedKind
	lacking map[string][]string
}

// Discovery lists the resources that the API server serves, and their schemas.
type Discovery interface {
	// ServerResourcesForGroupVersionWithContext lists the resources of a group and
	// version. It returns a NotFound error if the group is not served.
	ServerResourcesForGroupVersionWithContext(ctx context.Context, groupVersion string) (*metav1.APIResourceList, error)
	// OpenAPIV3WithContext returns a client of the schemas.
	OpenAPIV3WithContext(ctx context.Context) openapi.ClientWithContext
}

// New returns Kinds that discover nothing before they are started. The options,
// without scheme, mapper and HTTP client, are those of the cache of each kind.
func New(mgr ctrl.Manager, options cache.Options) (*Kinds, error) {
	// Not with the manager's HTTP client: requests of this one have a timeout.
	d, err := discovery.NewDiscoveryClientForConfig(mgr.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("setting up discovery: %w", err)
	}
	options.Scheme, options.Mapper, options.HTTPClient = mgr.GetScheme(), mgr.GetRESTMapper(), mgr.GetHTTPClient()
	k := &Kinds{
		Discovery: d, Interval: defaultInterval, mgr: mgr, options: options,
		discovered: make(chan struct{}), pending: sets.New(groups()...),
		compared: map[schema.GroupVersion]string{}, watched: map[string]*watchedKind{}, lacking: map[string][]string{},
	}
	return k, nil
}

// groups are the API groups of ACK's kinds.
func groups() []schema.GroupVersion {
	return []schema.GroupVersion{ack.ElastiCache, ack.EC2, ack.CloudWatch}
}

// Installed reports for each kind whether the cluster serves it.
func (k *Kinds) Installed() map[string]bool {
	installed := map[string]bool{}
	for _, kind := range ack.Kinds() {
		installed[kind.Kind] = k.get(kind.Kind) != nil
	}
	return installed
}

// get returns a watched kind, nil if the cluster does not serve it.
func (k *Kinds) get(kind string) *watchedKind {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.watched[kind]
}

// set stores a watched kind, or removes it if watched is nil.
func (k *Kinds) set(kind string, watched *watchedKind) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if watched == nil {
		delete(k.watched, kind)
		return
	}
	k.watched[kind] = watched
}

// Start implements source.Source: it discovers kinds until ctx is done, and adds the
// FlagCaches that depend on them to the queue when a kind appears or is removed.
func (k *Kinds) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go k.run(ctx, queue)
	return nil
}

// WaitForSync implements source.SyncingSource: no worker starts before the first
// discovery, because a kind that was not discovered yet is not a missing one.
func (k *Kinds) WaitForSync(ctx context.Context) error {
	select {
	case <-k.discovered:
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil // the operator is being stopped
		}
		return errors.New("the API server did not answer which kinds of ACK it serves")
	}
}

// String implements fmt.Stringer, for the controller's log.
func (k *Kinds) String() string { return "ACK kinds" }

func (k *Kinds) run(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	log := k.mgr.GetLogger().WithName("ack")
	ctx = ctrl.LoggerInto(ctx, log)
	changed := false
	for ctx.Err() == nil {
		changed = k.discover(ctx, queue) || changed
		if changed {
			err := k.enqueueDependents(ctx, queue)
			if changed = err != nil; changed && ctx.Err() == nil {
				log.Error(err, "Enqueuing the FlagCaches that depend on ACK")
			}
		}
		timer := time.NewTimer(k.nextInterval())
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (k *Kinds) nextInterval() time.Duration {
	select {
	case <-k.discovered:
		return wait.Jitter(k.Interval, jitterFactor)
	default:
		return wait.Jitter(min(k.Interval, initialInterval), jitterFactor)
	}
}

// discover updates all kinds and reports whether any appeared, was removed or got another
// schema. A group whose discovery fails stays as it was.
func (k *Kinds) discover(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) (changed bool) {
	documents, err := k.Discovery.OpenAPIV3WithContext(ctx).PathsWithContext(ctx)
	if err != nil && ctx.Err() == nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the OpenAPI schemas")
	}
	for _, gv := range groups() {
		updated, err := k.discoverGroup(ctx, gv, documents, queue)
		changed = changed || updated
		if err != nil && ctx.Err() == nil {
			ctrl.LoggerFrom(ctx).Error(err, "Discovering ACK kinds", "group", gv.Group)
		}
		if err == nil {
			k.markDiscovered(gv)
		}
	}
	return changed
}

func (k *Kinds) markDiscovered(gv schema.GroupVersion) {
	if !k.pending.Has(gv) {
		return
	}
	k.pending.Delete(gv)
	if len(k.pending) == 0 {
		close(k.discovered)
	}
}

// discoverGroup reads the schemas of a group, starts watching its kinds that appeared,
// and stops watching those that were removed.
func (k *Kinds) discoverGroup(ctx context.Context, gv schema.GroupVersion, documents published,
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]) (changed bool, err error) {
	served, err := k.served(ctx, gv)
	if err != nil {
		return false, err
	}
	changed, err = k.readSchemas(ctx, gv, documents)
	for _, kind := range ack.Kinds() {
		switch current := k.get(kind.Kind); {
		case kind.GroupVersion() != gv:
		case served.Has(kind.Resource) && current == nil:
			ctrl.LoggerFrom(ctx).Info("Starting to watch an ACK kind that is now installed", "kind", kind.Kind)
			watched, watchErr := k.watch(ctx, kind, queue)
			if watchErr != nil {
				err = errors.Join(err, fmt.Errorf("watching kind %s: %w", kind.Kind, watchErr))
				continue
			}
			k.set(kind.Kind, watched)
			changed = true
		case !served.Has(kind.Resource) && current != nil:
			ctrl.LoggerFrom(ctx).Info("Stopping the watch of an ACK kind that was uninstalled", "kind", kind.Kind)
			k.set(kind.Kind, nil)
			current.stop()
			changed = true
		}
	}
	return changed, err
}

// served returns the names of a group's resources, none if the group is not served.
func (k *Kinds) served(ctx context.Context, gv schema.GroupVersion) (sets.Set[string], error) {
	resources, err := k.Discovery.ServerResourcesForGroupVersionWithContext(ctx, gv.String())
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	names := sets.Set[string]{}
	if err == nil {
		for _, r := range resources.APIResources {
			names.Insert(r.Name)
		}
	}
	return names, nil
}

// enqueueDependents adds the FlagCaches that depend on ACK's kinds to the queue.
func (k *Kinds) enqueueDependents(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	all := &v1alpha1.FlagCacheList{}
	if err := k.mgr.GetClient().List(ctx, all); err != nil {
		return fmt.Errorf("listing FlagCaches: %w", err)
	}
	for i := range all.Items {
		if fc := &all.Items[i]; caches.Of(fc).Dependencies(fc).ACK {
			queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return nil
}
