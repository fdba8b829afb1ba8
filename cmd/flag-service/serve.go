// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/ofrep"
	"github.com/flagcache/flagcache/service/snapshot"
	"github.com/flagcache/flagcache/service/source"
)

// shutdownTimeout is how long requests that are being answered may take to end.
const shutdownTimeout = 10 * time.Second

// service is the parts of a running flag service.
type service struct {
	settings  settings
	log       *slog.Logger
	handler   *ofrep.Handler
	refresher *snapshot.Refresher
	draining  atomic.Bool
	ofrep     *http.Server
	telemetry *http.Server
}

// serve runs the service until ctx is done, then drains it. An error says that it
// could not listen; nothing else keeps it from starting.
func serve(ctx context.Context, s settings, logTo io.Writer) error {
	ofrepListener, err := net.Listen("tcp", s.listenAddress)
	if err != nil {
		return fmt.Errorf("listening for OFREP: %w", err)
	}
	telemetryListener, err := net.Listen("tcp", s.telemetryAddress)
	if err != nil {
		return errors.Join(fmt.Errorf("listening for telemetry: %w", err), ofrepListener.Close())
	}
	v := assemble(s, slog.New(slog.NewJSONHandler(logTo, &slog.HandlerOptions{Level: s.logLevel})))
	v.log.Info("starting", "version", version, "ofrep", ofrepListener.Addr().String(), "telemetry", telemetryListener.Addr().String(),
		"flags", s.flagsFile, "environment", s.environment, "redis", s.hasRedis())
	return v.run(ctx, ofrepListener, telemetryListener)
}

// assemble connects the parts.
func assemble(s settings, log *slog.Logger) *service {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	core := ofrep.NewCore(ofrep.NewMetrics(registry, log), time.Now)
	v := &service{settings: s, log: log, handler: ofrep.NewHandler(core, ofrep.Options{Revision: s.revision})}
	options := snapshot.Options{
		Source: source.NewFile(s.flagsFile, flags.MaxSize, source.DefaultPoll, log),
		Serve:  core.Serve,
		Now:    time.Now,
		Log:    log,
	}
	if s.hasRedis() {
		options.Cache = newCache(s, log, registry)
	}
	v.refresher = snapshot.New(options)
	v.refresher.Register(registry)
	v.ofrep = ofrep.NewServer(v.handler, log)
	v.telemetry = ofrep.NewServer(ofrep.Telemetry(v.health, registry), log)
	return v
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
		Log:         log,
	}, registry)
}

// run serves until ctx is done. Unready comes first, then a delay in which
// endpoints are withdrawn while requests are still answered, then the end.
func (v *service) run(ctx context.Context, ofrepListener, telemetryListener net.Listener) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { v.refresher.Run(background) })
	defer running.Wait()
	defer stopBackground()

	failed := make(chan error, 2)
	running.Go(func() { failed <- serveOn(v.ofrep, ofrepListener) })
	running.Go(func() { failed <- serveOn(v.telemetry, telemetryListener) })

	select {
	case err := <-failed:
		return errors.Join(err, v.ofrep.Close(), v.telemetry.Close())
	case <-ctx.Done():
	}
	v.draining.Store(true)
	v.handler.Drain()
	v.log.Info("draining", "delay", v.settings.drainDelay.String())
	<-time.After(v.settings.drainDelay)
	return v.shutdown()
}

// serveOn serves until the server is shut down.
func serveOn(server *http.Server, listener net.Listener) error {
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	}
	return nil
}

func (v *service) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err := v.ofrep.Shutdown(ctx)
	if err != nil {
		// What does not end by then is cut off; that is no failure of the service.
		v.log.Warn("closing connections that did not end", "error", err)
		err = v.ofrep.Close()
	}
	v.log.Info("stopped")
	return errors.Join(err, v.telemetry.Close())
}

// health is what /readyz says.
func (v *service) health() ofrep.Health {
	current := v.refresher.Current()
	trouble := v.refresher.SourceTrouble()
	switch {
	case v.draining.Load():
		return ofrep.Health{Details: "draining"}
	case current == nil:
		return ofrep.Health{Details: "no flags yet: " + trouble}
	}
	details := fmt.Sprintf("%d flags, generation %d from %s, confirmed %s ago",
		current.Set.Len(), current.Generation, current.Origin, v.refresher.Age().Round(time.Millisecond))
	if trouble != "" {
		details += "; " + trouble
	}
	return ofrep.Health{Ready: true, Details: details}
}
