// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/flagd"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/listen"
	"github.com/flagcache/flagcache/service/ofrep"
	"github.com/flagcache/flagcache/service/snapshot"
	"github.com/flagcache/flagcache/service/split"
	"github.com/flagcache/flagcache/service/telemetry"
)

// shutdownTimeout limits the time for requests in flight to finish.
const shutdownTimeout = 10 * time.Second

// logTimeout limits the time to write the last log lines.
const logTimeout = time.Second

// service holds the parts of a running flag service.
type service struct {
	settings settings
	log      *slog.Logger
	registry *prometheus.Registry
	handler  *ofrep.Handler
	// flagd are the handlers of flagd's protocols.
	flagd     []*flagd.Handler
	keys      *access.Keys
	refresher *snapshot.Refresher
	splitter  *split.Splitter
	// tracing is nil if requests are not traced.
	tracing  *telemetry.Tracing
	draining atomic.Bool
	// budget is that of all servers.
	budget *listen.Budget
	// background are the functions that run until the servers have stopped.
	background []func(context.Context)
	// servers are stopped in this order, telemetry last.
	servers []*server
}

// serve runs the service until ctx is done, then drains it. It only fails to
// start if it cannot listen.
func serve(ctx context.Context, s settings, logTo io.Writer) error {
	logs := telemetry.NewLogs(logTo)
	defer logs.Close(logTimeout)
	v := assemble(s, slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: s.logLevel})))
	logs.Register(v.registry)
	if err := listenAll(v.servers); err != nil {
		return err
	}
	v.log.With(addresses(v.servers)...).Info("starting", "version", version,
		"flags", s.flagsLocation(), "environment", s.environment, "redis", s.hasRedis())
	return v.run(ctx)
}

// assemble creates and connects the parts.
func assemble(s settings, log *slog.Logger) *service {
	v := &service{settings: s, log: log, registry: prometheus.NewRegistry()}
	v.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	v.budget = listen.NewBudget(int64(s.http.maxBytesInFlight), v.registry)
	v.setUpTracing()
	v.setUpRefresher(v.setUpHandler())
	if s.http.pprofAddress != "" {
		v.servers = append(v.servers, profiles(s.http.pprofAddress, log))
	}
	v.servers = append(v.servers, &server{
		Server: ofrep.NewServer(ofrep.Telemetry(v.health, v.registry), log), name: "telemetry", address: s.telemetryAddress,
	})
	for _, s := range v.servers {
		s.budget = v.budget
	}
	return v
}

// setUpHandler creates the handler of requests. It returns the functions that are
// called with each new set of flags, and with each snapshot.
func (v *service) setUpHandler() (serve func(*flags.Set), served func(*snapshot.Snapshot)) {
	core := ofrep.NewCore(ofrep.NewMetrics(v.registry, v.log), time.Now)
	options := v.settings.handlerOptions(v.log)
	options.Age = v.age
	options.Expedite = func() { v.refresher.Expedite() }
	if v.budget != nil {
		options.Budget = v.budget
	}
	v.handler = ofrep.NewHandler(core, options)
	v.splitter = split.New(split.Options{
		File: v.settings.splitFile, Salt: v.settings.splitSalt, Revision: v.settings.revision,
		Served: core.Served, MaxResponse: core.MaxResponse, Log: v.log,
	}, v.registry)
	v.handler.Divert = v.splitter.Divert
	v.background = append(v.background, v.splitter.Run)
	if v.keys = options.Keys; v.keys != nil {
		v.background = append(v.background, v.keys.Run)
	}
	front := &server{
		Server: ofrep.NewServer(v.traced(v.handler, ofrep.Pattern), v.log), name: "ofrep",
		address: v.settings.listenAddress, connections: v.settings.http.maxConnections,
	}
	front.RegisterOnShutdown(v.handler.Stop)
	v.servers = append(v.servers, front)
	v.setUpFlagd(core, options)
	if options.Streams != nil {
		options.Streams.Register(v.registry)
		// The first server that is shut down ends the streams of all.
		front.RegisterOnShutdown(options.Streams.Close)
	}
	return core.Serve, follow(core, options.Streams)
}

// follow returns the function that records where served snapshots are among those of their
// store, and notifies clients, if there are streams, of each that has other flags.
func follow(core *ofrep.Core, streams *ofrep.Streams) func(*snapshot.Snapshot) {
	generation := uint64(0)
	return func(s *snapshot.Snapshot) {
		position := ofrep.Position{Store: s.Store, Version: s.Version, Digest: s.Digest, Modified: s.Modified}
		core.Place(position)
		if s.Generation != generation && streams != nil {
			streams.Changed(position)
		}
		generation = s.Generation
	}
}

// setUpRefresher creates the refresher with source and cache.
func (v *service) setUpRefresher(serve func(*flags.Set), served func(*snapshot.Snapshot)) {
	options := snapshot.Options{
		Serve:  serve,
		Served: served,
		Now:    time.Now,
		Log:    v.log,

		Environment:   v.settings.environment,
		Store:         v.settings.flagsStore,
		Numbered:      v.settings.numbered(),
		Authenticated: v.settings.hmacKeyFile != "",
		LastGoodFile:  v.settings.lastGoodFile,
	}
	var redis *cache.Cache
	if v.settings.hasRedis() {
		redis = newCache(v.settings, v.log, v.registry)
		options.Cache = redis
	}
	options.Source = v.openSource(redis, v.registry)
	v.refresher = snapshot.New(options)
	v.refresher.Register(v.registry)
	v.background = append(v.background, v.refresher.Run)
}

// age returns the age of the flags; ok is false without flags.
func (v *service) age() (age time.Duration, ok bool) {
	return v.refresher.Age(), v.refresher.Current() != nil
}

// traced traces the requests to a handler if tracing is enabled.
func (v *service) traced(handler http.Handler, pattern func(*http.Request) string) http.Handler {
	if v.tracing == nil {
		return handler
	}
	return v.tracing.Handler(handler, pattern)
}

// setUpTracing enables tracing if it is configured.
func (v *service) setUpTracing() {
	if !v.settings.http.traced {
		return
	}
	tracing, err := telemetry.NewTracing(context.Background(), version, v.log)
	if err != nil {
		v.log.Error("serving without tracing", "error", err)
		return
	}
	v.tracing = tracing
	v.background = append(v.background, tracing.Run)
}

func newCache(s settings, log *slog.Logger, registry prometheus.Registerer) *cache.Cache {
	return cache.New(cache.Options{
		Environment: s.environment,
		BindingDir:  s.bindingDir,
		URL:         s.redisURL,
		TTL:         s.cacheTTL,
		Timed:       s.numbered(),
		KeyFile:     s.hmacKeyFile,
		MaxSize:     flags.MaxSize,
		Connections: s.poolSize,
		DialTimeout: s.dialTimeout,
		CAFile:      s.redisCAFile,
		IAM:         s.redisIAM,
		Log:         log,
	}, registry)
}

// run serves until ctx is done. It then becomes unready, continues to answer
// requests for a delay in which its endpoint is removed, and shuts down.
func (v *service) run(ctx context.Context) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, part := range v.background {
		running.Go(func() { part(background) })
	}
	defer running.Wait()
	defer stopBackground()

	failed := make(chan error, len(v.servers))
	for _, s := range v.servers {
		running.Go(func() { s.listener.Run(background) })
		running.Go(func() { failed <- s.serve() })
	}
	select {
	case err := <-failed:
		for _, s := range v.servers {
			err = errors.Join(err, s.Close())
		}
		return err
	case <-ctx.Done():
	}
	v.draining.Store(true)
	v.handler.Drain()
	for _, handler := range v.flagd {
		handler.Drain()
	}
	v.splitter.Drain()
	v.log.Info("draining", "delay", v.settings.drainDelay.String())
	<-time.After(v.settings.drainDelay)
	return v.shutdown()
}

func (v *service) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var err error
	for _, s := range v.servers {
		err = errors.Join(err, s.end(ctx, v.log))
	}
	v.log.Info("stopped")
	return err
}

// sourceFails stands for the error of the source: /readyz is public within the cluster,
// and the error may name the database and its user.
const sourceFails = "the source cannot be read: see the log"

// health returns the state reported by /readyz.
func (v *service) health() ofrep.Health {
	current := v.refresher.Current()
	sourceError := ""
	if v.refresher.SourceError() != "" {
		sourceError = sourceFails
	}
	switch {
	case v.draining.Load():
		return ofrep.Health{Details: "draining"}
	case v.keys != nil && v.keys.Problem() != "":
		return ofrep.Health{Details: "all requests are denied: " + v.keys.Problem()}
	case current == nil:
		return ofrep.Health{Details: "no flags yet: " + sourceError}
	}
	if stale := v.settings.http.staleness(v.refresher.Age()); stale != "" {
		return ofrep.Health{Details: strings.TrimSuffix(stale+"; "+sourceError, "; ")}
	}
	details := fmt.Sprintf("%d flags, generation %d from %s, confirmed %s ago",
		current.Set.Len(), current.Generation, current.Origin, v.refresher.Age().Round(time.Millisecond))
	if sourceError != "" {
		details += "; " + sourceError
	}
	if v.refresher.Foreign() {
		details += "; the document in Redis is not used: it is that of another store, or was sealed with another integrity key"
	}
	return ofrep.Health{Ready: true, Details: details}
}
