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

// service is the parts of a running flag service.
type service struct {
	settings  settings
	log       *slog.Logger
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
	v := assemble(s, slog.New(slog.NewJSONHandler(logTo, &slog.HandlerOptions{Level: s.logLevel})))
	if err := listenAll(v.servers); err != nil {
		return err
	}
	v.log.With(addresses(v.servers)...).Info("starting", "version", version,
		"flags", s.flagsAt(), "environment", s.environment, "redis", s.hasRedis())
	return v.run(ctx)
}

// assemble connects the parts.
func assemble(s settings, log *slog.Logger) *service {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	v := &service{settings: s, log: log}
	core := ofrep.NewCore(ofrep.NewMetrics(registry, log), time.Now)
	answering := s.handlerOptions(log)
	answering.Age = v.age
	v.keys = answering.Keys
	v.handler = ofrep.NewHandler(core, answering)
	v.splitter = split.New(split.Options{File: s.splitFile, Salt: s.splitSalt, Revision: s.revision, Log: log}, registry)
	v.handler.Divert = v.splitter.Divert
	options := snapshot.Options{
		Serve: core.Serve,
		Now:   time.Now,
		Log:   log,

		Environment:  s.environment,
		LastGoodFile: s.lastGoodFile,
	}
	var redis *cache.Cache
	if s.hasRedis() {
		redis = newCache(s, log, registry)
		options.Cache = redis
	}
	options.Source = v.openSource(redis, registry)
	front := &server{Server: ofrep.NewServer(v.traced(v.handler), log), name: "ofrep", address: s.listenAddress, connections: s.http.maxConnections}
	if streams := answering.Streams; streams != nil {
		options.Serve = func(set *flags.Set) {
			core.Serve(set)
			streams.Changed()
		}
		streams.Register(registry)
		front.RegisterOnShutdown(streams.Close)
	}
	v.refresher = snapshot.New(options)
	v.refresher.Register(registry)
	v.background = append(v.background, v.refresher.Run, v.splitter.Run)
	if v.keys != nil {
		v.background = append(v.background, v.keys.Run)
	}
	v.servers = append(v.servers, front)
	if s.http.pprofAddress != "" {
		v.servers = append(v.servers, profiles(s.http.pprofAddress, log))
	}
	v.servers = append(v.servers, &server{
		Server: ofrep.NewServer(ofrep.Telemetry(v.health, registry), log), name: "telemetry", address: s.telemetryAddress,
	})
	return v
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
	trouble := v.refresher.SourceTrouble()
	switch {
	case v.draining.Load():
		return ofrep.Health{Details: "draining"}
	case v.keys != nil && v.keys.Trouble() != "":
		return ofrep.Health{Details: "nobody is let in: " + v.keys.Trouble()}
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
