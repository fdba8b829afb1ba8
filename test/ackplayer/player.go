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

// Options say how to play.
type Options struct {
	// Config is how to reach the API server, which must serve the kinds already.
	Config *rest.Config
	// Log is told what the player does. Default: controller-runtime's.
	Log logr.Logger
	// Poll is how long ACK waits to look again at what is not settled. Default: 1 s;
	// ACK's own is 30 s.
	Poll time.Duration
	// Resync is how long it waits to look again at what is. Default, as ACK's: 10 h.
	Resync time.Duration
	// CreateTime, ModifyTime, DeleteTime and SnapshotTime are how long AWS takes.
	// Default: a third of Poll.
	CreateTime, ModifyTime, DeleteTime, SnapshotTime time.Duration
	// ListenHost is the address of the servers and of the endpoints, whose ports the
	// kernel chooses. Default: 127.0.0.1.
	ListenHost string
	// AdvertiseHost is what the endpoints are called in statuses, a name or an
	// address that leads to ListenHost. Default: ListenHost.
	AdvertiseHost string
	// RedisServer is the executable. Default: the one in PATH.
	RedisServer string
	// SubnetGroups are those that exist in AWS without an object. Default: "default".
	SubnetGroups []string
	// CutOnFailover closes the clients' connections at a failover. Without it those
	// to the demoted primary stay, and answer READONLY.
	CutOnFailover bool
	// RejectEmptyModify has AWS refuse calls that change nothing.
	RejectEmptyModify bool
}

// Player plays ACK's controllers and AWS behind them. What AWS has is in its
// memory, and is gone with it.
type Player struct {
	options Options
	account *account
	manager manager.Manager
	client  client.Client
	gate    *gate
	// wakes are by kind: objects to look at for no reason of theirs.
	wakes map[string]chan event.GenericEvent
}

// New makes a player that does nothing before Start.
func New(o Options) (*Player, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	authority, err := newAuthority(o.ListenHost, o.AdvertiseHost)
	if err != nil {
		return nil, err
	}
	p := &Player{options: o, account: newAccount(o, authority), gate: &gate{}, wakes: map[string]chan event.GenericEvent{}}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("naming the types: %w", err)
	}
	// Reading past any cache, a look sees the writes of the one before.
	if p.client, err = client.New(o.Config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	p.manager, err = ctrl.NewManager(o.Config, ctrl.Options{
		Scheme: scheme, Logger: o.Log, Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
	})
	if err != nil {
		return nil, fmt.Errorf("making a manager: %w", err)
	}
	return p, p.setUp()
}

func (o *Options) complete() error {
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

// setUp makes a controller for each kind, as ACK has them.
func (p *Player) setUp() error {
	services := p.account.services()
	for _, k := range ack.Kinds() {
		kind := &metav1.PartialObjectMetadata{}
		kind.SetGroupVersionKind(k.GroupVersionKind)
		p.wakes[k.Kind] = make(chan event.GenericEvent)
		err := ctrl.NewControllerManagedBy(p.manager).Named("ackplayer-"+strings.ToLower(k.Kind)).
			// Only what changes the spec, or begins the deletion, wakes ACK.
			For(kind, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			WatchesRawSource(source.Channel(p.wakes[k.Kind], &handler.EnqueueRequestForObject{})).
			WithOptions(controller.Options{
				SkipNameValidation: ptr.To(true), MaxConcurrentReconciles: 1,
				// At ACK's poll of 30 s it waits 1000 s at most.
				RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](5*time.Millisecond, p.options.Poll*100/3),
			}).
			Complete(&looker{kind: k, service: services[k.Kind], client: p.client, poll: p.options.Poll, resync: p.options.Resync, gate: p.gate})
		if err != nil {
			return fmt.Errorf("setting %s up: %w", k.Kind, err)
		}
	}
	return nil
}

// Start plays until ctx ends, and returns when nothing of it is left. A player is
// started once.
func (p *Player) Start(ctx context.Context) error {
	if err := p.account.open(); err != nil {
		return err
	}
	defer p.account.close()
	if err := p.manager.Start(ctx); err != nil {
		return fmt.Errorf("playing: %w", err)
	}
	return nil
}

// CA is the certificate of the authority that signed the servers', in PEM.
func (p *Player) CA() []byte { return p.account.authority.ca }
