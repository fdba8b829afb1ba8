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
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/ofrep"
	"github.com/flagcache/flagcache/service/snapshot"
	"github.com/flagcache/flagcache/service/split"
	"github.com/flagcache/flagcache/service/telemetry"
)

// shutdownTimeout is how long requests that are being answered may take to end.
const shutdownTimeout = 10 * time.Second

// logTimeout is how long the last lines of the log may take to be written.
const logTimeout = time.Second

// service is the parts of a running flag service.
type service struct {
	settings  settings
	log       *slog.Logger
	registry  *prometheus.Registry
	handler   *ofrep.Handler
	keys      *access.Keys
	refresher *snapshot.Refresher
	splitter  *split.Splitter
	draining  atomic.Bool
	// background is what runs beside the servers, until they have ended.
	background []func(context.Context)
	// servers end one after the other, telemetry last.
	servers []*server
}

// serve runs the service until ctx is done, then drains it. An error says that it
// could not listen; nothing else keeps it from starting.
func serve(ctx context.Context, s settings, logTo io.Writer) error {
	logs := telemetry.NewLogs(logTo)
	defer logs.Close(logTimeout)
	v := assemble(s, slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: s.logLevel})))
	logs.Register(v.registry)
	if err := listenAll(v.servers); err != nil {
		return err
	}
	v.log.With(addresses(v.servers)...).Info("starting", "version", version,
		"flags", s.flagsAt(), "environment", s.environment, "redis", s.hasRedis())
	return v.run(ctx)
}

// assemble connects the parts.
func assemble(s settings, log *slog.Logger) *service {
	v := &service{settings: s, log: log, registry: prometheus.NewRegistry()}
	v.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	v.refresh(v.answer())
	if s.http.pprofAddress != "" {
		v.servers = append(v.servers, profiles(s.http.pprofAddress, log))
	}
	v.servers = append(v.servers, &server{
		Server: ofrep.NewServer(ofrep.Telemetry(v.health, v.registry), log), name: "telemetry", address: s.telemetryAddress,
	})
	return v
}

// answer makes what answers requests. It returns what takes each new set of flags.
func (v *service) answer() (serve func(*flags.Set)) {
	core := ofrep.NewCore(ofrep.NewMetrics(v.registry, v.log), time.Now)
	options := v.settings.handlerOptions(v.log)
	options.Age = v.age
	v.handler = ofrep.NewHandler(core, options)
	v.splitter = split.New(split.Options{
		File: v.settings.splitFile, Salt: v.settings.splitSalt, Revision: v.settings.revision, Log: v.log,
	}, v.registry)
	v.handler.Divert = v.splitter.Divert
	v.background = append(v.background, v.splitter.Run)
	if v.keys = options.Keys; v.keys != nil {
		v.background = append(v.background, v.keys.Run)
	}
	front := &server{
		Server: ofrep.NewServer(v.traced(v.handler), v.log), name: "ofrep",
		address: v.settings.listenAddress, connections: v.settings.http.maxConnections,
	}
	v.servers = append(v.servers, front)
	if options.Streams == nil {
		return core.Serve
	}
	options.Streams.Register(v.registry)
	front.RegisterOnShutdown(options.Streams.Close)
	return func(set *flags.Set) {
		core.Serve(set)
		options.Streams.Changed()
	}
}

// refresh makes what keeps the flags fresh.
func (v *service) refresh(serve func(*flags.Set)) {
	options := snapshot.Options{
		Serve: serve,
		Now:   time.Now,
		Log:   v.log,

		Environment:  v.settings.environment,
		LastGoodFile: v.settings.lastGoodFile,
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

// age is how old the flags are, while there are any.
func (v *service) age() (age time.Duration, ok bool) {
	return v.refresher.Age(), v.refresher.Current() != nil
}

// traced traces the requests to a handler if the environment wants that.
func (v *service) traced(handler http.Handler) http.Handler {
	if !v.settings.http.traced {
		return handler
	}
	tracing, err := telemetry.NewTracing(context.Background(), version, v.log)
	if err != nil {
		v.log.Error("answering without traces", "error", err)
		return handler
	}
	v.background = append(v.background, tracing.Run)
	return tracing.Handler(handler, ofrep.Pattern)
}

func newCache(s settings, log *slog.Logger, registry prometheus.Registerer) *cache.Cache {
	return cache.New(cache.Options{
		Environment: s.environment,
		BindingDir:  s.bindingDir,
		URL:         s.redisURL,
		TTL:         s.cacheTTL,
		KeyFile:     s.hmacKeyFile,
		MaxSize:     flags.MaxSize,
		Connections: s.poolSize,
		DialTimeout: s.dialTimeout,
		CAFile:      s.redisCAFile,
		IAM:         s.redisIAM,
		Log:         log,
	}, registry)
}

// run serves until ctx is done. Unready comes first, then a delay in which
// endpoints are withdrawn while requests are still answered, then the end.
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

// health is what /readyz says.
func (v *service) health() ofrep.Health {
	current := v.refresher.Current()
	trouble := v.refresher.SourceError()
	switch {
	case v.draining.Load():
		return ofrep.Health{Details: "draining"}
	case v.keys != nil && v.keys.Problem() != "":
		return ofrep.Health{Details: "nobody is let in: " + v.keys.Problem()}
	case current == nil:
		return ofrep.Health{Details: "no flags yet: " + trouble}
	}
	if stale := v.settings.http.staleness(v.refresher.Age()); stale != "" {
		return ofrep.Health{Details: strings.TrimSuffix(stale+"; "+trouble, "; ")}
	}
	details := fmt.Sprintf("%d flags, generation %d from %s, confirmed %s ago",
		current.Set.Len(), current.Generation, current.Origin, v.refresher.Age().Round(time.Millisecond))
	if trouble != "" {
		details += "; " + trouble
	}
	return ofrep.Health{Ready: true, Details: details}
}
