// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/filewatch"
)

const (
	// poll is how often the files of the connection are read without a
	// notification.
	poll = 5 * time.Second
	// probeInterval is how often a Redis in trouble is asked whether it still is.
	probeInterval = time.Second
	// heartbeat is how long a subscription may be silent before it is asked for a
	// sign of life, and how long that may take.
	heartbeat = 3 * time.Second
	// MinKeySize is the fewest bytes of a key that authenticates values.
	MinKeySize = 16
)

// Options say where Redis is and how it is used.
type Options struct {
	// Environment is part of the key.
	Environment string
	// BindingDir is the directory of a Service Binding, which may come later.
	BindingDir string
	// URL is what CheckURL accepts; it counts while there is no binding.
	URL string
	// IAM replaces the password of URL by AWS credentials.
	IAM IAM
	// CAFile holds the authorities that a server's certificate must come from, in
	// PEM, for connections with TLS whose binding brings none. Without it the
	// system's count.
	CAFile string
	// TTL is how long an entry lives; a tenth is added or taken off at random.
	TTL time.Duration
	// KeyFile holds the key that authenticates values. Without one, values carry a
	// checksum. With one that cannot be read, the cache is not used at all.
	KeyFile string
	// MaxSize is the most bytes of a document.
	MaxSize int
	// Connections is the most connections, for a cluster those to each server. With
	// only one there is no subscription, and changes by others are found by looking.
	Connections int
	// DialTimeout bounds one connection attempt.
	DialTimeout time.Duration
	Log         *slog.Logger
}

// Cache is the document in Redis. It is safe for concurrent use.
type Cache struct {
	options  Options
	key      string
	channel  string
	lock     string
	requests *prometheus.CounterVec
	breaker  *breaker

	mu     sync.Mutex
	client redis.UniversalClient
	// current is what client is for, nil without one.
	current *endpoint
	sealer  Sealer
	// usable is nil when there is a client and, if one is wanted, a key.
	usable error
	// reconnected is closed when client is replaced, renewed when it was.
	reconnected chan struct{}
	renewed     time.Time
	// failing is the state that was logged last.
	failing bool
}

// New returns a cache that connects when Run runs.
func New(options Options, registry prometheus.Registerer) *Cache {
	c := &Cache{
		options: options,
		key:     config.RedisKeyPrefix + options.Environment,
		channel: config.RedisChannelPrefix + options.Environment,
		lock:    config.RedisLockPrefix + options.Environment,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricCacheRequests,
			Help: "Look-ups of the flags document in Redis by result: hit, miss, error.",
		}, []string{"result"}),
		usable:      errNotConnected,
		reconnected: make(chan struct{}),
	}
	open := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: config.MetricCacheBreakerOpen,
		Help: "1 while Redis is in trouble and is asked once a second only, else 0.",
	})
	c.breaker = newBreaker(open)
	registry.MustRegister(c.requests, open)
	for _, result := range []string{"hit", "miss", "error"} {
		c.requests.WithLabelValues(result)
	}
	return c
}

// Run keeps the connection as the binding or the URL describes it, and calls
// changed when the document may have changed: for the first time when it is known
// whether there is a Redis to ask, then for every other connection and message. It
// returns when ctx is done, with all connections closed.
func (c *Cache) Run(ctx context.Context, changed func()) {
	var running sync.WaitGroup
	if c.options.Connections > 1 {
		running.Go(func() { c.subscribe(ctx, changed) })
	}
	running.Go(func() { c.probe(ctx, changed) })
	first := true
	filewatch.Watch(ctx, c.options.Log, c.watched(), poll, nil, func() {
		if c.configure() || first {
			changed()
		}
		first = false
	})
	running.Wait()
	c.replace(nil, Sealer{}, errNotConnected)
}

// probe asks a Redis in trouble once a second, and calls changed when it answers.
func (c *Cache) probe(ctx context.Context, changed func()) {
	for c.breaker.await(ctx, true, nil) {
		if !sleep(ctx, jittered(probeInterval)) {
			return
		}
		if c.breaker.isOpen() && c.do(ctx, 1, c.touch) == nil {
			changed()
		}
	}
}

// touch reads as little as can be read.
func (c *Cache) touch(ctx context.Context, client redis.UniversalClient, _ Sealer) error {
	err := client.GetRange(ctx, c.key, 0, 0).Err()
	if isWrongType(err) {
		return nil
	}
	return err
}

// subscribe calls changed for every message, and for every connection, because
// there may have been messages before it.
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
		// The connection broke: Redis may be in trouble, and a read will tell. A Redis
		// that refuses subscriptions alone is still good for the rest.
		if !c.breaker.isOpen() {
			_ = c.do(ctx, 1, c.touch)
		}
		_ = sleep(ctx, jittered(probeInterval/2)) && c.breaker.await(ctx, false, replaced)
	}
}

// listen reads one client's messages until it is replaced or its connection breaks.
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
	asked := false
	for {
		message, err := subscription.ReceiveTimeout(ctx, heartbeat)
		switch {
		case isTimeout(err) && !asked && ctx.Err() == nil:
			asked = true
			err = subscription.Ping(ctx)
		case err == nil:
			asked = false
			if _, sign := message.(*redis.Pong); !sign {
				changed()
			}
		}
		if err != nil {
			return
		}
	}
}

// jittered is a duration, a quarter more or less.
func jittered(d time.Duration) time.Duration { return d*3/4 + mathrand.N(d/2) }

// sleep waits; it is false when ctx ended first.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// note logs a change between working and not working, once.
func (c *Cache) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil && c.failing:
		c.failing = false
		c.options.Log.Info("Redis can be used again")
	case err != nil && !errors.Is(err, context.Canceled) && !c.failing:
		c.failing = true
		c.options.Log.Warn("Redis cannot be used; flags are served without it", "error", err)
	}
}
