// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/ackkinds"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/broadcast"
	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/eventrate"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/exporter"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/controllers/quarantine"
	"github.com/flagcache/flagcache/service/flags"
)

// eventBuffer is the number of events of the prober and the sampler that can be queued.
const eventBuffer = 1024

// run sets up the operator and runs it until ctx is done.
func run(ctx context.Context, o options) error {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(ack.AddToScheme(scheme))

	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("loading the kubeconfig: %w", err)
	}
	// The API server's priority and fairness limits requests.
	config.QPS = -1
	mgr, err := ctrl.NewManager(config, managerOptions(o, scheme))
	if err != nil {
		return fmt.Errorf("setting up the manager: %w", err)
	}
	live, err := liveClient(mgr)
	if err != nil {
		return err
	}
	changes := make(chan event.GenericEvent, eventBuffer)
	var reconciler *controllers.Reconciler
	server, err := addAPIServer(ctx, mgr)
	if err != nil {
		return err
	}
	rules := dialRules(server, func() *policy.Policy { return reconciler.Policy.Load() })
	prober, err := addProber(ctx, mgr, o, rules, changes)
	if err != nil {
		return err
	}
	// The policy is about what FlagCaches name, and pods are none of that.
	pods := &evidence.Pods{Client: live, Clock: clock.RealClock{}, HTTP: evidence.NewHTTPClient(&dial.Rules{APIServer: rules.APIServer})}
	sampler, err := addSampler(ctx, mgr, pods, rules, changes)
	if err != nil {
		return err
	}
	deliveries := evidence.NewDeliveries(pods, notifier(ctx, changes))
	if err := mgr.Add(deliveries); err != nil {
		return fmt.Errorf("adding the comparison of flags: %w", err)
	}
	broadcaster, err := addBroadcaster(ctx, mgr, rules, changes)
	if err != nil {
		return err
	}
	kinds, err := ackkinds.New(mgr, controllers.ACKCacheOptions(o.namespaces))
	if err != nil {
		return fmt.Errorf("setting up the watches of ACK kinds: %w", err)
	}
	validate, err := validator(o.stateDir, mgr.GetLogger())
	if err != nil {
		return err
	}
	cluster, err := clusterID(ctx, mgr.GetAPIReader(), o.clusterID, mgr.GetLogger())
	if err != nil {
		return err
	}
	allowed, err := controllers.AddAllowed(mgr, o.namespaces)
	if err != nil {
		return err
	}
	client := bodies.New(kinds.Client(mgr.GetClient()), live)
	reconciler = &controllers.Reconciler{
		Client:     client,
		Live:       live,
		Allowed:    client.Beside(allowed.GetClient()),
		FlagFiles:  &controllers.FlagFiles{Metadata: mgr.GetClient(), Validate: validate},
		Prober:     prober,
		Sampler:    sampler,
		Deliveries: deliveries,
		Broadcasts: broadcaster,
		ACK:        kinds,
		Events:     eventrate.New(mgr.GetEventRecorder("flagcache")),
		Clock:      clock.RealClock{},
		Operator:   observed.Operator{Namespace: o.ownNamespace, ClusterID: cluster, FlagServiceImage: o.flagServiceImage, ElastiCacheCA: o.elastiCacheCA, KeyPeriod: o.keyPeriod, Prometheus: o.prometheus},
	}
	if err := addPolicy(mgr, o.policyFile, reconciler, changes); err != nil {
		return err
	}
	if err := reconciler.SetupWithManager(mgr, allowed.GetCache(), changes, o.workers, kinds); err != nil {
		return err
	}
	if err := metrics.Registry.Register(&exporter.Collector{FlagCaches: mgr.GetClient(), Rollbacks: &reconciler.Rollbacks}); err != nil {
		return fmt.Errorf("registering the metrics of FlagCaches: %w", err)
	}
	if err := addHealthChecks(mgr); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// onlyHTTP1 keeps the metrics endpoint from speaking HTTP/2, whose streams let one client
// cost much before it is authorized (CVE-2023-44487, CVE-2023-39325).
func onlyHTTP1(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }

func managerOptions(o options, scheme *runtime.Scheme) ctrl.Options {
	m := metricsserver.Options{BindAddress: o.metricsAddress, SecureServing: o.metricsSecure, TLSOpts: []func(*tls.Config){onlyHTTP1}}
	if o.metricsSecure {
		m.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	return ctrl.Options{
		Scheme:                        scheme,
		Cache:                         controllers.CacheOptions(o.namespaces),
		Client:                        controllers.ClientOptions(),
		Metrics:                       m,
		HealthProbeBindAddress:        o.healthAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "manager.flagcache.dev",
		LeaderElectionNamespace:       o.ownNamespace,
		LeaderElectionReleaseOnCancel: true,
	}
}

// addProber adds the prober to the manager. Changed results trigger reconciles.
func addProber(ctx context.Context, mgr ctrl.Manager, o options, rules *dial.Rules, changes chan<- event.GenericEvent) (*probe.Prober, error) {
	prober := probe.New(probe.Options{
		Workers: o.probeWorkers,
		Log:     mgr.GetLogger().WithName("probe"),
		Changed: notifier(ctx, changes),
		Rules:   rules,
	})
	if err := mgr.Add(prober); err != nil {
		return nil, fmt.Errorf("adding the prober: %w", err)
	}
	for _, collector := range prober.Collectors() {
		if err := metrics.Registry.Register(collector); err != nil {
			return nil, fmt.Errorf("registering the prober's metrics: %w", err)
		}
	}
	return prober, nil
}

// addBroadcaster adds to the manager what writes flags to Redis. Changed results trigger
// reconciles.
func addBroadcaster(ctx context.Context, mgr ctrl.Manager, rules *dial.Rules, changes chan<- event.GenericEvent) (*broadcast.Broadcaster, error) {
	broadcaster := broadcast.New(broadcast.Options{Rules: rules, Changed: notifier(ctx, changes), Log: mgr.GetLogger().WithName("broadcast")})
	if err := mgr.Add(broadcaster); err != nil {
		return nil, fmt.Errorf("adding the writes of flags to Redis: %w", err)
	}
	if err := metrics.Registry.Register(broadcaster.Collector()); err != nil {
		return nil, fmt.Errorf("registering the metrics of flags in Redis: %w", err)
	}
	return broadcaster, nil
}

// notifier returns a function that triggers a reconcile of the FlagCache that a key of
// the prober or the sampler belongs to.
func notifier(ctx context.Context, changes chan<- event.GenericEvent) func(types.NamespacedName) {
	return func(key types.NamespacedName) {
		key = controllers.FlagCacheOf(key)
		fc := &v1alpha1.FlagCache{}
		fc.Namespace, fc.Name = key.Namespace, key.Name
		select {
		case changes <- event.GenericEvent{Object: fc}:
		case <-ctx.Done():
		}
	}
}

// addSampler adds the sampler of canaries to the manager. Samples trigger reconciles.
func addSampler(ctx context.Context, mgr ctrl.Manager, pods *evidence.Pods, rules *dial.Rules, changes chan<- event.GenericEvent) (*evidence.Sampler, error) {
	sampler := evidence.NewSampler(evidence.Options{
		Source: evidence.Sources{
			v1alpha1.MetricsPods:       pods,
			v1alpha1.MetricsPrometheus: &evidence.Prometheus{Clock: clock.RealClock{}, HTTP: evidence.NewPrometheusHTTPClient(rules)},
			v1alpha1.MetricsCloudWatch: &evidence.CloudWatch{Clock: clock.RealClock{}, Pods: pods},
		},
		Changed: notifier(ctx, changes),
	})
	if err := mgr.Add(sampler); err != nil {
		return nil, fmt.Errorf("adding the sampler of canaries: %w", err)
	}
	return sampler, nil
}

// validator returns the validation of flags, which refuses what ended the operator if there is
// a directory that remembers it.
func validator(stateDir string, log logr.Logger) (quarantine.Validate, error) {
	if stateDir == "" {
		return flags.Validate, nil
	}
	q, err := quarantine.New(stateDir, flags.Validate, log.WithName("quarantine"))
	if err != nil {
		return nil, fmt.Errorf("using --state-dir: %w", err)
	}
	return q.Validate, nil
}

func addHealthChecks(mgr ctrl.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the liveness check: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	return nil
}
