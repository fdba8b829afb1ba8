// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/filewatch"
)

// ErrMiss says that there is no usable document in Redis.
var ErrMiss = errors.New("no usable document in Redis")

// errNotConnected says that no connection is configured yet.
var errNotConnected = errors.New("no connection to Redis is configured")

const (
	// poll is how often the files of the connection are read without a
	// notification.
	poll = 5 * time.Second
	// lockTime is how long an instance that refills the cache keeps others from
	// doing the same, if it does not finish.
	lockTime = 10 * time.Second
	// MinKeySize is the fewest bytes of a key that authenticates values.
	MinKeySize = 16
)

// Tries of one operation, and the wait between them.
const (
	tries       = 3
	firstWait   = 100 * time.Millisecond
	longestWait = 2 * time.Second
)

// Options say where Redis is and how it is used.
type Options struct {
	// Environment is part of the key.
	Environment string
	// BindingDir is the directory of a Service Binding, which may come later.
	BindingDir string
	// URL is redis:// or rediss://; it counts while there is no binding.
	URL string
	// TTL is how long an entry lives; a tenth is added or taken off at random.
	TTL time.Duration
	// KeyFile holds the key that authenticates values. Without one, values carry a
	// checksum. With one that cannot be read, the cache is not used at all.
	KeyFile string
	// MaxSize is the most bytes of a document.
	MaxSize int
	// Connections is the most connections. With only one there is no subscription,
	// and changes by others are found by looking.
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

	mu     sync.Mutex
	client *redis.Client
	// identity tells connections apart, so that one is only replaced by another.
	identity string
	sealer   sealer
	// usable is nil when there is a client and, if one is wanted, a key.
	usable error
	// reconnected is closed when client is replaced.
	reconnected chan struct{}
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
	registry.MustRegister(c.requests)
	for _, result := range []string{"hit", "miss", "error"} {
		c.requests.WithLabelValues(result)
	}
	return c
}

// Run keeps the connection as the binding or the URL describes it, and calls
// changed when the document may have changed. It returns when ctx is done, with
// all connections closed.
func (c *Cache) Run(ctx context.Context, changed func()) {
	var running sync.WaitGroup
	if c.options.Connections > 1 {
		running.Go(func() { c.subscribe(ctx, changed) })
	}
	filewatch.Watch(ctx, c.options.Log, c.watched(), poll, nil, func() { c.configure() })
	running.Wait()
	c.replace(nil, sealer{}, "", errNotConnected)
}

// watched lists the directories that say how to connect, and the one in which
// the binding may appear.
func (c *Cache) watched() []string {
	var dirs []string
	if c.options.BindingDir != "" {
		dirs = append(dirs, c.options.BindingDir, filepath.Dir(c.options.BindingDir))
	}
	if c.options.KeyFile != "" {
		dirs = append(dirs, filepath.Dir(c.options.KeyFile))
	}
	return dirs
}

// configure reads how to connect, and reconnects if that is not as it was.
func (c *Cache) configure() {
	secret, err := c.readKey()
	if err != nil {
		c.replace(nil, sealer{}, "", err)
		c.note(err)
		return
	}
	options, identity, err := c.connection()
	if err != nil {
		c.replace(nil, sealer{}, "", err)
		c.note(err)
		return
	}
	c.replace(tune(options, c.options.Connections, c.options.DialTimeout), sealer{secret}, identity+string(secret), nil)
}

// connection returns how to connect. The URL counts where no binding is mounted.
func (c *Cache) connection() (options *redis.Options, identity string, err error) {
	options, identity, err = readBinding(c.options.BindingDir)
	if c.options.URL == "" || c.options.BindingDir != "" && !errors.Is(err, os.ErrNotExist) {
		return options, identity, err
	}
	options, err = parseURL(c.options.URL)
	return options, c.options.URL, err
}

func (c *Cache) readKey() ([]byte, error) {
	if c.options.KeyFile == "" {
		return nil, nil
	}
	content, err := os.ReadFile(c.options.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the key that authenticates cached values: %w", err)
	}
	secret := bytes.TrimSpace(content)
	if len(secret) < MinKeySize {
		return nil, fmt.Errorf("the key that authenticates cached values has fewer than %d bytes", MinKeySize)
	}
	return secret, nil
}

// replace puts another client in place of the one there is, unless it is the
// same.
func (c *Cache) replace(options *redis.Options, s sealer, identity string, usable error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.usable == nil && usable == nil && c.identity == identity {
		return
	}
	if c.client != nil {
		// Whoever still uses it gets an error and tries again with the next.
		_ = c.client.Close()
		c.client = nil
	}
	if options != nil {
		c.client = redis.NewClient(options)
	}
	c.sealer, c.identity, c.usable = s, identity, usable
	close(c.reconnected)
	c.reconnected = make(chan struct{})
}

// connected returns the client, and a channel that is closed when it has been
// replaced.
func (c *Cache) connected() (client *redis.Client, s sealer, replaced <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, c.sealer, c.reconnected, c.usable
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
	}
}

// listen reads one client's messages until it is replaced. The client connects
// again by itself.
func (c *Cache) listen(ctx context.Context, client *redis.Client, replaced <-chan struct{}, changed func()) {
	subscription := client.Subscribe(ctx, c.channel)
	defer func() { _ = subscription.Close() }()
	messages := subscription.ChannelWithSubscriptions()
	for {
		select {
		case <-ctx.Done():
			return
		case <-replaced:
			return
		case _, open := <-messages:
			if !open {
				return
			}
			changed()
		}
	}
}

// try runs a background operation up to three times.
func (c *Cache) try(ctx context.Context, operation func(context.Context, *redis.Client, sealer) error) error {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		client, s, _, err := c.connected()
		if err != nil {
			return err
		}
		err = operation(ctx, client, s)
		if err == nil || errors.Is(err, ErrMiss) {
			c.note(nil)
			return err
		}
		if attempt == tries || !sleep(ctx, wait) {
			c.note(err)
			return fmt.Errorf("using Redis: %w", err)
		}
		wait = min(2*wait, longestWait)
	}
}

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

// Read returns the document, or ErrMiss. A value that is no intact envelope is a
// miss and is deleted.
func (c *Cache) Read(ctx context.Context) (Entry, error) {
	var entry Entry
	err := c.try(ctx, func(ctx context.Context, client *redis.Client, s sealer) error {
		var err error
		entry, err = c.get(ctx, client, s)
		return err
	})
	switch {
	case err == nil:
		c.requests.WithLabelValues("hit").Inc()
	case errors.Is(err, ErrMiss):
		c.requests.WithLabelValues("miss").Inc()
	default:
		c.requests.WithLabelValues("error").Inc()
	}
	return entry, err
}

func (c *Cache) get(ctx context.Context, client *redis.Client, s sealer) (Entry, error) {
	value, err := c.load(ctx, client)
	if isWrongType(err) {
		c.options.Log.Warn("ignoring a value in Redis that is not a string", "key", c.key)
		return Entry{}, ErrMiss
	}
	if err != nil {
		return Entry{}, err
	}
	entry, err := s.open(c.key, value)
	if err != nil {
		c.options.Log.Warn("discarding a value in Redis", "key", c.key, "bytes", len(value), "error", err)
		return Entry{}, c.discard(ctx, client, c.key, value)
	}
	return entry, nil
}

// load reads the value, but never more than an envelope can have.
func (c *Cache) load(ctx context.Context, client redis.Cmdable) ([]byte, error) {
	value, err := client.GetRange(ctx, c.key, 0, int64(c.options.MaxSize+maxHeader)).Bytes()
	if err != nil {
		return nil, err
	}
	if len(value) == 0 {
		return nil, ErrMiss
	}
	return value, nil
}

// discard deletes a key if it still begins with the value. It returns ErrMiss
// unless Redis fails.
func (c *Cache) discard(ctx context.Context, client *redis.Client, key string, value []byte) error {
	err := client.Watch(ctx, func(tx *redis.Tx) error {
		now, err := tx.GetRange(ctx, key, 0, int64(len(value))-1).Bytes()
		if err != nil || !bytes.Equal(now, value) {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			return p.Del(ctx, key).Err()
		})
		return err
	}, key)
	if err != nil && !errors.Is(err, redis.TxFailedErr) {
		return err
	}
	return ErrMiss
}

// Store writes the document and tells everyone, unless the same or a newer one is
// there.
func (c *Cache) Store(ctx context.Context, entry Entry) error {
	return c.try(ctx, func(ctx context.Context, client *redis.Client, s sealer) error {
		return c.put(ctx, client, s, entry)
	})
}

// put writes in a transaction that fails if someone else writes meanwhile, so
// that an older document never replaces a newer one.
func (c *Cache) put(ctx context.Context, client *redis.Client, s sealer, entry Entry) error {
	return client.Watch(ctx, func(tx *redis.Tx) error {
		value, err := c.load(ctx, tx)
		if err != nil && !errors.Is(err, ErrMiss) && !isWrongType(err) {
			return err
		}
		there, err := s.open(c.key, value)
		if err == nil && (there.Version >= entry.Version || bytes.Equal(there.Data, entry.Data)) {
			return nil
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, c.key, s.seal(c.key, entry), c.ttl())
			p.Publish(ctx, c.channel, entry.Version)
			return nil
		})
		return err
	}, c.key)
}

// isWrongType says that the key holds no text; writing replaces it.
func isWrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }

// ttl spreads expiries by a tenth.
func (c *Cache) ttl() time.Duration {
	return c.options.TTL*9/10 + mathrand.N(c.options.TTL/5+1)
}

// Refill writes the document after a miss. Of all instances that notice one, the
// holder of a lock in Redis writes; for the others there is nothing to do.
func (c *Cache) Refill(ctx context.Context, entry Entry) error {
	token := []byte(rand.Text())
	return c.try(ctx, func(ctx context.Context, client *redis.Client, s sealer) error {
		held, err := client.SetNX(ctx, c.lock, token, lockTime).Result()
		if err != nil || !held {
			return err
		}
		err = c.put(ctx, client, s, entry)
		// A lock that cannot be given back expires.
		_ = c.discard(ctx, client, c.lock, token)
		return err
	})
}

// Invalidate deletes the document and tells everyone.
func (c *Cache) Invalidate(ctx context.Context) error {
	return c.try(ctx, func(ctx context.Context, client *redis.Client, _ sealer) error {
		_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Del(ctx, c.key)
			p.Publish(ctx, c.channel, 0)
			return nil
		})
		return err
	})
}
