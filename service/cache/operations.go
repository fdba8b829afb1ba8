// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/envelope"
	"github.com/flagcache/flagcache/service/wait"
)

var (
	// ErrMiss is returned if there is no usable document in Redis.
	ErrMiss = envelope.ErrMiss
	// ErrForeign is returned if the document of another store is stored.
	ErrForeign = envelope.ErrForeign
	// ErrUnverified is returned for an envelope that was sealed with another integrity key.
	ErrUnverified = envelope.ErrUnverified
	// ErrBusy is returned if another instance is filling the cache.
	ErrBusy = errors.New("another instance is filling the cache")

	// errNotConnected is returned while no connection is configured.
	errNotConnected = errors.New("no connection to Redis is configured")
	// errUnavailable is returned while the breaker is open.
	errUnavailable = errors.New("the circuit breaker of Redis is open")
)

// LockTime is the lifetime of the lock of an instance that fills the cache,
// unless it releases the lock before.
const LockTime = 5 * time.Second

// Attempts of a write, and the wait between them.
const (
	maxAttempts = 3
	minWait     = 100 * time.Millisecond
	maxWait     = 2 * time.Second
)

// Read returns the document, or ErrMiss. A value that is not an intact envelope
// is a miss and is deleted. Of one that was sealed with another integrity key, it
// returns the state that it claims, and ErrUnverified. Read does not retry: the caller
// can read the source instead.
func (c *Cache) Read(ctx context.Context) (Entry, error) {
	var entry Entry
	err := c.run(ctx, 1, func(ctx context.Context, client redis.UniversalClient, s Sealer) error {
		var err error
		entry, err = c.get(ctx, client, s)
		return err
	})
	switch {
	case err == nil:
		c.requests.WithLabelValues("hit").Inc()
	case errors.Is(err, ErrMiss), errors.Is(err, ErrUnverified):
		c.requests.WithLabelValues("miss").Inc()
	case errors.Is(err, errNotConnected):
		// Before the connection is configured there is nothing to count.
	default:
		c.requests.WithLabelValues("error").Inc()
	}
	return entry, err
}

// Store writes the document and notifies all instances, unless the same or a
// newer one is stored. It returns ErrForeign if that of another store is stored, and
// ErrUnverified if one is that was sealed with another integrity key, unless the entry
// supersedes it.
func (c *Cache) Store(ctx context.Context, entry Entry) error {
	return c.run(ctx, maxAttempts, func(ctx context.Context, client redis.UniversalClient, s Sealer) error {
		return c.slot(s).Put(ctx, client, entry)
	})
}

// Refill fills the cache with the result of fill, unless a document that is enough
// is stored. A lock in Redis ensures that one instance at a
// time does so; the others get ErrBusy. An error of fill is returned unwrapped.
// fill is not called while Redis is unavailable. It must take less than LockTime.
func (c *Cache) Refill(ctx context.Context, enough func(Entry) bool, fill func(context.Context) (Entry, error)) error {
	token := []byte(rand.Text())
	err := c.run(ctx, 1, func(ctx context.Context, client redis.UniversalClient, _ Sealer) error {
		held, err := client.SetNX(ctx, c.lock, token, LockTime).Result()
		if err == nil && !held {
			return ErrBusy
		}
		return err
	})
	if err != nil {
		return err
	}
	defer c.unlock(context.WithoutCancel(ctx), token)
	if c.has(ctx, enough) {
		return nil
	}
	entry, err := fill(ctx)
	if err != nil {
		return err
	}
	return c.Store(ctx, entry)
}

// has reports whether a document that is enough is stored: another instance may
// have held the lock just before. It is not counted as a lookup.
func (c *Cache) has(ctx context.Context, enough func(Entry) bool) bool {
	return c.run(ctx, 1, func(ctx context.Context, client redis.UniversalClient, s Sealer) error {
		stored, err := c.get(ctx, client, s)
		if err == nil && !enough(stored) {
			return ErrMiss
		}
		return err
	}) == nil
}

// unlock releases the lock. If that fails, the lock expires.
func (c *Cache) unlock(ctx context.Context, token []byte) {
	// Try even if Redis is unavailable: all instances wait for a lock that is not
	// released.
	_ = c.runAlways(ctx, 1, func(ctx context.Context, client redis.UniversalClient, _ Sealer) error {
		return c.discard(ctx, client, c.lock, token)
	})
}

// Invalidate deletes the document and notifies all instances after a change of
// the source. It does not wait for an unavailable Redis: instances then detect
// the change by themselves, only later.
func (c *Cache) Invalidate(ctx context.Context) error {
	return c.run(ctx, maxAttempts, func(ctx context.Context, client redis.UniversalClient, _ Sealer) error {
		// Not in a transaction: in a cluster the key and the channel are in different
		// slots.
		if err := client.Del(ctx, c.key).Err(); err != nil {
			return err
		}
		return client.Publish(ctx, c.channel, "").Err()
	})
}

// Entry is a cached document.
type Entry = envelope.Entry

// Sealer creates and opens envelopes.
type Sealer = envelope.Sealer

type operation func(context.Context, redis.UniversalClient, Sealer) error

// run runs an operation, unless the breaker is open.
func (c *Cache) run(ctx context.Context, tries int, run operation) error {
	if c.breaker.isOpen() {
		return errUnavailable
	}
	return c.runAlways(ctx, tries, run)
}

// runAlways runs an operation with a number of attempts, and reports the result to the
// breaker and the log.
func (c *Cache) runAlways(ctx context.Context, tries int, run operation) error {
	delay := minWait
	for attempt := 1; ; attempt++ {
		client, s, _, err := c.connected()
		if err != nil {
			return err
		}
		finish := c.breaker.begin()
		err = run(ctx, client, s)
		finish(isUnavailable(err))
		if meansReconnect(err) {
			c.reconnect(client)
		}
		if err == nil || isAnswer(err) {
			c.logState(nil)
			return err
		}
		if attempt == tries || !wait.Sleep(ctx, delay) {
			c.logState(err)
			return fmt.Errorf("using Redis: %w", err)
		}
		delay = min(2*delay, maxWait)
	}
}

// isAnswer reports whether the error is a valid result.
func isAnswer(err error) bool {
	return errors.Is(err, ErrMiss) || errors.Is(err, ErrBusy) || errors.Is(err, ErrForeign) || errors.Is(err, ErrUnverified)
}

// isUnavailable reports whether the error should open the breaker. A rejected
// write should not: the stored document can still be read.
func isUnavailable(err error) bool {
	var reply redis.Error
	switch {
	case err == nil, isAnswer(err), errors.Is(err, context.Canceled), errors.Is(err, redis.ErrClosed):
		return false
	case errors.As(err, &reply):
		return startsWith(err, "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "max number of clients")
	}
	return true
}

// meansReconnect reports whether another server may have taken over the name.
func meansReconnect(err error) bool { return startsWith(err, "READONLY", "LOADING", "MASTERDOWN") }

func startsWith(err error, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (c *Cache) get(ctx context.Context, client redis.UniversalClient, s Sealer) (Entry, error) {
	value, err := c.slot(s).Load(ctx, client)
	if envelope.IsWrongType(err) {
		c.options.Log.Warn("ignoring a value in Redis that is not a string", "key", c.key)
		return Entry{}, ErrMiss
	}
	if err != nil {
		return Entry{}, err
	}
	entry, err := s.Open(c.key, value)
	if errors.Is(err, ErrUnverified) {
		return entry, err
	}
	if err != nil {
		c.options.Log.Warn("discarding a value in Redis", "key", c.key, "bytes", len(value), "error", err)
		return Entry{}, c.discard(ctx, client, c.key, value)
	}
	entry.Stale = c.slot(s).IsStale(entry, time.Now())
	return entry, nil
}

// slot is where the document is in Redis.
func (c *Cache) slot(s Sealer) envelope.Slot {
	return envelope.Slot{Key: c.key, Channel: c.channel, Sealer: s, MaxSize: c.options.MaxSize, TTL: c.options.TTL, Timed: c.options.Timed}
}

// discard deletes a key if its value still begins with value. It returns
// ErrMiss unless Redis fails.
func (c *Cache) discard(ctx context.Context, client redis.UniversalClient, key string, value []byte) error {
	err := client.Watch(ctx, func(tx *redis.Tx) error {
		now, err := tx.GetRange(ctx, key, 0, int64(len(value))-1).Bytes()
		if err != nil || !bytes.Equal(now, value) {
			return err
		}
		return envelope.Transact(ctx, tx, func(p redis.Pipeliner) { p.Del(ctx, key) })
	}, key)
	if err != nil && !errors.Is(err, redis.TxFailedErr) {
		return err
	}
	return ErrMiss
}
