// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Options configure a Player.
type Options struct {
	// Config connects to the API server, which must already serve the kinds.
	Config *rest.Config
	// Log is the logger. Default: that of controller-runtime.
	Log logr.Logger
	// Poll is the interval at which ACK reconciles an object that is not synced.
	// Default: 1 s; the real ACK has 30 s.
	Poll time.Duration
	// Resync is the interval for objects that are synced. Default: 10 h, as in ACK.
	Resync time.Duration
	// CreateTime, ModifyTime, DeleteTime and SnapshotTime are how long the operations
	// of AWS take. Default: a third of Poll.
	CreateTime, ModifyTime, DeleteTime, SnapshotTime time.Duration
	// ListenHost is the IP address that the servers and endpoints listen on, on ports
	// that the kernel assigns. Default: 127.0.0.1.
	ListenHost string
	// AdvertiseHost is the endpoints' host in statuses: a name or an IP address that
	// resolves to ListenHost. Default: ListenHost.
	AdvertiseHost string
	// RedisServer is the redis-server executable. Default: the one in PATH.
	RedisServer string
	// SubnetGroups are the subnet groups that exist in AWS without an ACK object.
	// Default: "default".
	SubnetGroups []string
	// CutOnFailover closes client connections on a failover. Otherwise those to the
	// demoted primary stay open and fail writes with READONLY.
	CutOnFailover bool
	// RejectEmptyModify fails Modify calls that change nothing.
	RejectEmptyModify bool
}

// Player simulates ACK's controllers and the AWS account behind them. The state of AWS
// is in memory and ends with the player.
type Player struct {
	options Options
	account *account
	manager manager.Manager
	client  client.Client
	gate    *gate
	// resyncs trigger reconciles of unchanged objects, by kind.
	resyncs map[string]chan event.GenericEvent
}

// New creates a player, which does nothing before Start.
func New(o Options) (*Player, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	authority, err := newCertificateAuthority(o.ListenHost, o.AdvertiseHost)
	if err != nil {
		return nil, err
	}
	p := &Player{options: o, account: newAccount(o, authority), gate: &gate{}, resyncs: map[string]chan event.GenericEvent{}}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering the types: %w", err)
	}
	// Without a cache, a reconcile sees the writes of the previous one.
	if p.client, err = client.New(o.Config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	p.manager, err = ctrl.NewManager(o.Config, ctrl.Options{
		Scheme: scheme, Logger: o.Log, Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
	})
	if err != nil {
		return nil, fmt.Errorf("creating a manager: %w", err)
	}
	return p, p.setupControllers()
}

func (o *Options) setDefaults() error {
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.Resync = cmp.Or(o.Resync, 10*time.Hour)
	for _, d := range []*time.Duration{&o.CreateTime, &o.ModifyTime, &o.DeleteTime, &o.SnapshotTime} {
		*d = cmp.Or(*d, o.Poll/3)
	}
	o.ListenHost = cmp.Or(o.ListenHost, "127.0.0.1")
	o.AdvertiseHost = cmp.Or(o.AdvertiseHost, o.ListenHost)
	if o.SubnetGroups == nil {
		o.SubnetGroups = []string{"default"}
	}
	if o.Log.GetSink() == nil {
		o.Log = ctrl.Log
	}
	path, err := exec.LookPath(cmp.Or(o.RedisServer, "redis-server"))
	if err != nil {
		return fmt.Errorf("finding redis-server, which hack/setup/redis.sh installs: %w", err)
	}
	o.RedisServer = path
	return nil
}

// setupControllers creates a controller for each kind, as ACK does.
func (p *Player) setupControllers() error {
	services := p.account.services()
	for _, k := range ack.Kinds() {
		kind := &metav1.PartialObjectMetadata{}
		kind.SetGroupVersionKind(k.GroupVersionKind)
		p.resyncs[k.Kind] = make(chan event.GenericEvent)
		err := ctrl.NewControllerManagedBy(p.manager).Named("ackplayer-"+strings.ToLower(k.Kind)).
			// ACK only reconciles on changes of the spec and when a deletion starts.
			For(kind, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			WatchesRawSource(source.Channel(p.resyncs[k.Kind], &handler.EnqueueRequestForObject{})).
			WithOptions(controller.Options{
				SkipNameValidation: ptr.To(true), MaxConcurrentReconciles: 1,
				// With ACK's poll interval of 30 s the maximum is 1000 s.
				RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](5*time.Millisecond, p.options.Poll*100/3),
			}).
			Complete(&reconciler{kind: k, service: services[k.Kind], client: p.client, poll: p.options.Poll, resync: p.options.Resync, gate: p.gate})
		if err != nil {
			return fmt.Errorf("setting %s up: %w", k.Kind, err)
		}
	}
	return nil
}

// Start runs the player until ctx ends and returns when everything is stopped. A player
// can be started once.
func (p *Player) Start(ctx context.Context) error {
	if err := p.account.open(); err != nil {
		return err
	}
	defer p.account.close()
	if err := p.manager.Start(ctx); err != nil {
		return fmt.Errorf("running the controllers: %w", err)
	}
	return nil
}

// CA is the PEM certificate of the authority that signed the servers' certificate.
func (p *Player) CA() []byte { return p.account.ca.certificate }
