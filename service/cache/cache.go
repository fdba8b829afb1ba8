// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/envelope"
	"github.com/flagcache/flagcache/service/filewatch"
	"github.com/flagcache/flagcache/service/wait"
)

const (
	// poll is the interval at which the connection's files are read without a
	// notification.
	poll = 5 * time.Second
	// probeInterval is the interval at which an unavailable Redis is probed.
	probeInterval = time.Second
	// heartbeat is the time without messages after which a subscription is pinged,
	// and the timeout of that ping.
	heartbeat = 3 * time.Second
	// MinKeySize is the minimum size in bytes of a key that authenticates values.
	MinKeySize = 16
)

// Options configure a Cache.
type Options struct {
	// Environment is part of the Redis key.
	Environment string
	// BindingDir is the directory of a Service Binding, which may appear later.
	BindingDir string
	// URL is a URL that CheckURL accepts. It is used while no binding is mounted.
	URL string
	// IAM replaces the password of URL with AWS credentials.
	IAM IAM
	// CAFile is the path of a CA bundle in PEM, for TLS connections whose binding
	// contains none. Without it the system's CAs are trusted.
	CAFile string
	// TTL is the lifetime of an entry, with a jitter of 10 %.
	TTL time.Duration
	// Timed: entries are stored with the time, because no database confirms them.
	Timed bool
	// KeyFile is the path of the key that authenticates values; those of the keys beside
	// it (see config.EnvCacheHMACKeyFile) are read as well. Without it, values carry a
	// checksum. If it is set but cannot be read, the cache is not used.
	KeyFile string
	// MaxSize is the maximum size of a document in bytes.
	MaxSize int
	// Connections is the maximum number of connections, for a cluster to each
	// server. With only one there is no subscription, and changes by other
	// instances are found by polling.
	Connections int
	// DialTimeout limits one connection attempt.
	DialTimeout time.Duration
	Log         *slog.Logger
}

// Cache stores the flags document in Redis. It is safe for concurrent use.
type Cache struct {
	options  Options
	key      string
	channel  string
	lock     string
	requests *prometheus.CounterVec
	breaker  *breaker

	mu     sync.Mutex
	client redis.UniversalClient
	// current is the endpoint of client, nil without one.
	current *endpoint
	sealer  Sealer
	// unusable is why there is no client, or no key although one is configured; nil
	// if the cache is usable.
	unusable error
	// replaced is closed when client is replaced, replacedAt is when that last
	// happened.
	replaced   chan struct{}
	replacedAt time.Time
	// failing is the state logged last.
	failing bool
}

// New returns a cache. Run connects it.
func New(options Options, registry prometheus.Registerer) *Cache {
	c := &Cache{
		options: options,
		key:     envelope.KeyOf(options.Environment),
		channel: envelope.ChannelOf(options.Environment),
		lock:    config.RedisLockPrefix + options.Environment,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricCacheRequests,
			Help: "Lookups of the flags document in Redis by result: hit, miss, error.",
		}, []string{"result"}),
		unusable: errNotConnected,
		replaced: make(chan struct{}),
	}
	open := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: config.MetricCacheBreakerOpen,
		Help: "1 while Redis is unavailable and only probed once per second, else 0.",
	})
	c.breaker = newBreaker(open)
	registry.MustRegister(c.requests, open)
	for _, result := range []string{"hit", "miss", "error"} {
		c.requests.WithLabelValues(result)
	}
	return c
}

// Run maintains the connection described by the binding or the URL, and calls
// changed when the document may have changed: first when it is known whether
// Redis is configured, then after every reconnection and message. It returns
// when ctx is done, with all connections closed.
func (c *Cache) Run(ctx context.Context, changed func()) {
	var running sync.WaitGroup
	if c.options.Connections > 1 {
		running.Go(func() { c.subscribe(ctx, changed) })
	}
	running.Go(func() { c.probe(ctx, changed) })
	first := true
	filewatch.Watch(ctx, c.options.Log, c.watchedDirs(), poll, nil, func() {
		if c.configure() || first {
			changed()
		}
		first = false
	})
	running.Wait()
	c.replace(nil, Sealer{}, errNotConnected)
}

// probe probes an unavailable Redis once per second, and calls changed when it
// replies.
func (c *Cache) probe(ctx context.Context, changed func()) {
	for c.breaker.await(ctx, true, nil) {
		if !wait.Sleep(ctx, wait.Jitter(probeInterval, 0.25)) {
			return
		}
		if c.breaker.isOpen() && c.runAlways(ctx, 1, c.ping) == nil {
			changed()
		}
	}
}

// ping reads as little as possible of the document.
func (c *Cache) ping(ctx context.Context, client redis.UniversalClient, _ Sealer) error {
	err := client.GetRange(ctx, c.key, 0, 0).Err()
	if envelope.IsWrongType(err) {
		return nil
	}
	return err
}

// subscribe calls changed for every message and for every new connection,
// because messages may have been missed before it.
func (c *Cache) subscribe(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		client, _, replaced, err := c.connected()
		if err != nil {
			select {
			case <-ctx.Done():
			case <-replaced:
			}
			continue
		}
		c.listen(ctx, client, replaced, changed)
		select {
		case <-replaced:
			continue
		default:
		}
		// The connection broke: a read shows whether Redis is unavailable. A Redis that
		// only rejects subscriptions can still be used for the rest.
		if !c.breaker.isOpen() {
			_ = c.runAlways(ctx, 1, c.ping)
		}
		_ = wait.Sleep(ctx, wait.Jitter(probeInterval/2, 0.25)) && c.breaker.await(ctx, false, replaced)
	}
}

// listen receives a client's messages until the client is replaced or its
// connection breaks.
func (c *Cache) listen(ctx context.Context, client redis.UniversalClient, replaced <-chan struct{}, changed func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	subscription := client.Subscribe(ctx, c.channel)
	closed := make(chan struct{})
	defer func() { <-closed }()
	defer cancel()
	go func() {
		defer close(closed)
		select {
		case <-ctx.Done():
		case <-replaced:
		}
		_ = subscription.Close()
	}()
	pinged := false
	for {
		message, err := subscription.ReceiveTimeout(ctx, heartbeat)
		switch {
		case isTimeout(err) && !pinged && ctx.Err() == nil:
			pinged = true
			err = subscription.Ping(ctx)
		case err == nil:
			pinged = false
			if _, isPong := message.(*redis.Pong); !isPong {
				changed()
			}
		}
		if err != nil {
			return
		}
	}
}

// logState logs each change between working and failing once.
func (c *Cache) logState(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil && c.failing:
		c.failing = false
		c.options.Log.Info("Redis is available again")
	case err != nil && !errors.Is(err, context.Canceled) && !c.failing:
		c.failing = true
		c.options.Log.Warn("Redis is unavailable, serving flags without it", "error", err)
	}
}
