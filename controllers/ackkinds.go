// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

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
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// +kubebuilder:rbac:groups=elasticache.services.k8s.aws,resources=replicationgroups;cachesubnetgroups;cacheparametergroups;users;usergroups;snapshots,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=ec2.services.k8s.aws,resources=securitygroups,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=cloudwatch.services.k8s.aws,resources=metricalarms,verbs=get;list;watch;create;patch;delete

// How often the API server is asked which of ACK's kinds it serves.
const (
	// ackInterval is the default of ACKKinds.Interval.
	ackInterval = 30 * time.Second
	// ackFirstInterval is how soon it is asked again while there is no answer, on
	// which every look waits.
	ackFirstInterval = time.Second
	// ackJitter is the share of an interval that is added by chance.
	ackJitter = 0.2
	// ackPatience ends the wait for the first answer, and for a kind that cannot be
	// read.
	ackPatience = 5 * time.Second
)

// ACKKinds keeps track of which of ACK's kinds the cluster has, and watches the
// children of those. They may be missing when the operator starts, come later, and
// go again: it asks the API server's discovery, for which nobody needs a right,
// and not for CustomResourceDefinitions, for which an operator of one namespace
// has none.
//
// It is a source of the controller, which starts it on the leader. Each kind has
// a cache and a client of its own, made when the kind comes and ended when it
// goes. Had the manager's been used, what they know of a kind that went would
// count against the one that comes again: its client would wait for ever for
// versions that its new watch has no reason to tell of.
type ACKKinds struct {
	// Discovery tells what the API server serves.
	Discovery Discovery
	// Interval is how often it is asked. Default: 30 s.
	Interval time.Duration

	mgr        ctrl.Manager
	namespaces []string
	// known is closed when there was an answer about each group.
	known chan struct{}
	// unanswered are the groups that there was no answer about yet.
	unanswered sets.Set[schema.GroupVersion]

	mu      sync.RWMutex
	watched map[string]*watchedKind
}

// Discovery tells what the API server serves.
type Discovery interface {
	// ServerResourcesForGroupVersionWithContext lists the resources of a group and
	// version, and is a NotFound error where there is no such group.
	ServerResourcesForGroupVersionWithContext(ctx context.Context, groupVersion string) (*metav1.APIResourceList, error)
}

// watchedKind is a kind that the cluster has.
type watchedKind struct {
	client client.Client
	// stop ends the watch and waits for its end.
	stop func()
}

// NewACKKinds returns an ACKKinds that knows nothing before it is started. No
// namespaces means all.
func NewACKKinds(mgr ctrl.Manager, namespaces []string) (*ACKKinds, error) {
	// With a client of its own, whose requests end in time.
	d, err := discovery.NewDiscoveryClientForConfig(mgr.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("setting up discovery: %w", err)
	}
	k := &ACKKinds{
		Discovery: d, Interval: ackInterval, mgr: mgr, namespaces: namespaces,
		known: make(chan struct{}), unanswered: sets.Set[schema.GroupVersion]{}, watched: map[string]*watchedKind{},
	}
	for _, kind := range ack.Kinds() {
		k.unanswered.Insert(kind.GroupVersion())
	}
	return k, nil
}

// ACKCacheOptions keep a cache of ACK's kinds to the children of FlagCaches. They
// are no part of CacheOptions because a cache that is told of a kind must find it.
func ACKCacheOptions(namespaces []string) cache.Options {
	return cache.Options{DefaultTransform: slim, DefaultNamespaces: only(namespaces), DefaultLabelSelector: managed()}
}

// Installed tells for each kind whether the cluster has it. At the start it waits
// for the first answer: a kind that nobody asked for yet is not a missing one.
func (k *ACKKinds) Installed(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, ackPatience)
	defer cancel()
	select {
	case <-k.known:
	case <-ctx.Done():
		return nil, errors.New("the API server has not said yet which kinds it serves")
	}
	installed := map[string]bool{}
	for _, kind := range ack.Kinds() {
		installed[kind.Kind] = k.lookUp(kind.Kind) != nil
	}
	return installed, nil
}

func (k *ACKKinds) lookUp(kind string) *watchedKind {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.watched[kind]
}

// Start implements source.Source: it follows the kinds until ctx ends, and puts
// the FlagCaches that they concern into the queue.
func (k *ACKKinds) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go k.follow(ctx, queue)
	return nil
}

// String implements fmt.Stringer, for the controller's log.
func (k *ACKKinds) String() string { return "kinds of ACK" }

func (k *ACKKinds) follow(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	log := k.mgr.GetLogger().WithName("ack")
	ctx = ctrl.LoggerInto(ctx, log)
	news := false
	for ctx.Err() == nil {
		news = k.look(ctx, queue) || news
		if news {
			err := k.wake(ctx, queue)
			if news = err != nil; news {
				log.Error(err, "Waking the FlagCaches that use ACK")
			}
		}
		alarm := time.NewTimer(k.pause())
		select {
		case <-ctx.Done():
		case <-alarm.C:
		}
		alarm.Stop()
	}
}

func (k *ACKKinds) pause() time.Duration {
	select {
	case <-k.known:
		return wait.Jitter(k.Interval, ackJitter)
	default:
		return wait.Jitter(min(k.Interval, ackFirstInterval), ackJitter)
	}
}

// look asks what is served, and tells whether anything changed.
func (k *ACKKinds) look(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) bool {
	changed := false
	for _, gv := range []schema.GroupVersion{ack.ElastiCache, ack.EC2, ack.CloudWatch} {
		came, err := k.lookAt(ctx, gv, queue)
		changed = changed || came
		if err != nil && ctx.Err() == nil {
			// What is not known goes on as it was.
			ctrl.LoggerFrom(ctx).Error(err, "Finding out which kinds there are", "group", gv.Group)
		}
		if err == nil {
			k.answered(gv)
		}
	}
	return changed
}

// answered notes that a group was asked for.
func (k *ACKKinds) answered(gv schema.GroupVersion) {
	if !k.unanswered.Has(gv) {
		return
	}
	k.unanswered.Delete(gv)
	if len(k.unanswered) == 0 {
		close(k.known)
	}
}

// lookAt follows the kinds of a group.
func (k *ACKKinds) lookAt(ctx context.Context, gv schema.GroupVersion, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) (changed bool, err error) {
	served, err := k.served(ctx, gv)
	if err != nil {
		return false, err
	}
	for _, kind := range ack.Kinds() {
		switch before := k.lookUp(kind.Kind); {
		case kind.GroupVersion() != gv:
		case served.Has(kind.Resource) && before == nil:
			ctrl.LoggerFrom(ctx).Info("Watching a kind of ACK that is there now", "kind", kind.Kind)
			watched, failed := k.watch(ctx, kind, queue)
			if failed != nil {
				err = errors.Join(err, fmt.Errorf("watching kind %s: %w", kind.Kind, failed))
				continue
			}
			k.set(kind.Kind, watched)
			changed = true
		case !served.Has(kind.Resource) && before != nil:
			ctrl.LoggerFrom(ctx).Info("Leaving a kind of ACK that is gone", "kind", kind.Kind)
			k.set(kind.Kind, nil)
			before.stop()
			changed = true
		}
	}
	return changed, err
}

func (k *ACKKinds) set(kind string, watched *watchedKind) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if watched == nil {
		delete(k.watched, kind)
		return
	}
	k.watched[kind] = watched
}

// served are the resources of a group.
func (k *ACKKinds) served(ctx context.Context, gv schema.GroupVersion) (sets.Set[string], error) {
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

// watch begins to watch a kind.
func (k *ACKKinds) watch(ctx context.Context, kind ack.Kind, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) (*watchedKind, error) {
	ctx, cancel := context.WithCancel(ctx)
	objects, err := cache.New(k.mgr.GetConfig(), k.cacheOptions())
	if err != nil {
		cancel()
		return nil, err
	}
	w := &watchedKind{}
	if w.client, err = k.newClient(objects); err == nil {
		err = k.enqueueOwners(ctx, objects, kind, queue)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := objects.Start(ctx); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Watching a kind of ACK", "kind", kind.Kind)
		}
	}()
	w.stop = func() {
		cancel()
		<-ended
	}
	soon, cancelSoon := context.WithTimeout(ctx, ackPatience)
	defer cancelSoon()
	if !objects.WaitForCacheSync(soon) && ctx.Err() == nil {
		ctrl.LoggerFrom(ctx).Info("A kind of ACK is there but cannot be read; the operator's role may be that of an older version", "kind", kind.Kind)
	}
	return w, nil
}

func (k *ACKKinds) cacheOptions() cache.Options {
	o := ACKCacheOptions(k.namespaces)
	o.Scheme, o.Mapper, o.HTTPClient = k.mgr.GetScheme(), k.mgr.GetRESTMapper(), k.mgr.GetHTTPClient()
	return o
}

// newClient reads from a cache, and what it wrote at once.
func (k *ACKKinds) newClient(objects cache.Cache) (client.Client, error) {
	return client.New(k.mgr.GetConfig(), client.Options{
		Scheme: k.mgr.GetScheme(), Mapper: k.mgr.GetRESTMapper(), HTTPClient: k.mgr.GetHTTPClient(),
		Cache: &client.CacheOptions{Reader: objects, EnableReadYourWritesConsistency: ptr.To(true)},
	})
}

// enqueueOwners has every change of a child wake its FlagCache.
func (k *ACKKinds) enqueueOwners(ctx context.Context, objects cache.Cache, kind ack.Kind, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	informer, err := objects.GetInformer(ctx, kind.New(), cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	owners := handler.EnqueueRequestForOwner(k.mgr.GetScheme(), k.mgr.GetRESTMapper(), &v1alpha1.FlagCache{}, handler.OnlyControllerOwner())
	return (&source.Informer{Informer: informer, Handler: owners}).Start(ctx, queue)
}

// wake has the FlagCaches looked at that wait for kinds, or that kinds went from.
func (k *ACKKinds) wake(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	all := &v1alpha1.FlagCacheList{}
	if err := k.mgr.GetClient().List(ctx, all); err != nil {
		return fmt.Errorf("listing FlagCaches: %w", err)
	}
	for i := range all.Items {
		if all.Items[i].Spec.Cache.Type == v1alpha1.CacheElastiCache {
			queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return nil
}
