// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/source"
)

var (
	// ErrMiss says that there is no usable document in Redis.
	ErrMiss = errors.New("no usable document in Redis")
	// ErrBusy says that another instance is filling the cache.
	ErrBusy = errors.New("another instance is filling the cache")

	// errNotConnected says that no connection is configured yet.
	errNotConnected = errors.New("no connection to Redis is configured")
	// errTrouble says that the breaker is open.
	errTrouble = errors.New("not asking a Redis in trouble")
)

// LockTime is how long an instance that fills the cache keeps others from doing the
// same, if it does not finish.
const LockTime = 5 * time.Second

// Tries of a write, and the wait between them.
const (
	tries       = 3
	firstWait   = 100 * time.Millisecond
	longestWait = 2 * time.Second
)

// Read returns the document, or ErrMiss. A value that is no intact envelope is a
// miss and is deleted. It tries once: what has to wait can ask the source.
func (c *Cache) Read(ctx context.Context) (Entry, error) {
	var entry Entry
	err := c.ask(ctx, 1, func(ctx context.Context, client redis.UniversalClient, s Sealer) error {
		var err error
		entry, err = c.get(ctx, client, s)
		return err
	})
	switch {
	case err == nil:
		c.requests.WithLabelValues("hit").Inc()
	case errors.Is(err, ErrMiss):
		c.requests.WithLabelValues("miss").Inc()
	case errors.Is(err, errNotConnected):
		// Before the first connection is read there is nothing to look into.
	default:
		c.requests.WithLabelValues("error").Inc()
	}
	return entry, err
}

// Store writes the document and tells everyone, unless the same or a newer one is
// there.
func (c *Cache) Store(ctx context.Context, entry Entry) error {
	return c.ask(ctx, tries, func(ctx context.Context, client redis.UniversalClient, s Sealer) error {
		return c.put(ctx, client, s, entry)
	})
}

// Refill fills the cache with what fill returns, unless there is a document of that
// version or a newer one. Of all instances the holder of a lock in Redis does it; the
// others get ErrBusy. An error of fill is returned as it is. Fill is not called if
// Redis cannot be asked. It must take less than LockTime.
func (c *Cache) Refill(ctx context.Context, version source.Version, fill func(context.Context) (Entry, error)) error {
	token := []byte(rand.Text())
	err := c.ask(ctx, 1, func(ctx context.Context, client redis.UniversalClient, _ Sealer) error {
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
	if c.has(ctx, version) {
		return nil
	}
	entry, err := fill(ctx)
	if err != nil {
		return err
	}
	return c.Store(ctx, entry)
}

// has says that a document of the version or a newer one is there: somebody may have
// held the lock just before. It does not count as a look-up.
func (c *Cache) has(ctx context.Context, version source.Version) bool {
	return c.ask(ctx, 1, func(ctx context.Context, client redis.UniversalClient, s Sealer) error {
		there, err := c.get(ctx, client, s)
		if err == nil && there.Version.Compare(version) < 0 {
			return ErrMiss
		}
		return err
	}) == nil
}

// unlock gives the lock back. One that cannot be given back expires.
func (c *Cache) unlock(ctx context.Context, token []byte) {
	// Also a Redis in trouble is asked: a lock that stays keeps everybody waiting.
	_ = c.do(ctx, 1, func(ctx context.Context, client redis.UniversalClient, _ Sealer) error {
		return c.discard(ctx, client, c.lock, token)
	})
}

// Invalidate deletes the document and tells everyone, for whoever changed the
// source. It does not wait for a Redis in trouble: instances find the change by
// themselves, only later.
func (c *Cache) Invalidate(ctx context.Context) error {
	return c.ask(ctx, tries, func(ctx context.Context, client redis.UniversalClient, _ Sealer) error {
		// One after the other: a cluster has the key and the channel in different places.
		if err := client.Del(ctx, c.key).Err(); err != nil {
			return err
		}
		return client.Publish(ctx, c.channel, "").Err()
	})
}

type operation func(context.Context, redis.UniversalClient, Sealer) error

// ask runs an operation, unless Redis is in trouble.
func (c *Cache) ask(ctx context.Context, tries int, run operation) error {
	if c.breaker.isOpen() {
		return errTrouble
	}
	return c.do(ctx, tries, run)
}

// do runs an operation up to some times and tells the breaker and the log how it
// went.
func (c *Cache) do(ctx context.Context, tries int, run operation) error {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		client, s, _, err := c.connected()
		if err != nil {
			return err
		}
		finish := c.breaker.begin()
		err = run(ctx, client, s)
		finish(isTrouble(err))
		if meansReconnect(err) {
			c.reconnect(client)
		}
		if err == nil || isAnswer(err) {
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

// isAnswer says that the error is what we wanted to know.
func isAnswer(err error) bool { return errors.Is(err, ErrMiss) || errors.Is(err, ErrBusy) }

// isTrouble says that the error is a reason not to ask Redis again soon. A refused
// write is none: what is there can still be read.
func isTrouble(err error) bool {
	var reply redis.Error
	switch {
	case err == nil, isAnswer(err), errors.Is(err, context.Canceled), errors.Is(err, redis.ErrClosed):
		return false
	case errors.As(err, &reply):
		return startsWith(err, "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "max number of clients")
	}
	return true
}

// meansReconnect says that another server may be there by now under the same name.
func meansReconnect(err error) bool { return startsWith(err, "READONLY", "LOADING", "MASTERDOWN") }

func startsWith(err error, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// isWrongType says that the key holds no text; writing replaces it.
func isWrongType(err error) bool { return startsWith(err, "WRONGTYPE") }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (c *Cache) get(ctx context.Context, client redis.UniversalClient, s Sealer) (Entry, error) {
	value, err := c.load(ctx, client)
	if isWrongType(err) {
		c.options.Log.Warn("ignoring a value in Redis that is not a string", "key", c.key)
		return Entry{}, ErrMiss
	}
	if err != nil {
		return Entry{}, err
	}
	entry, err := s.Open(c.key, value)
	if err != nil {
		c.options.Log.Warn("discarding a value in Redis", "key", c.key, "bytes", len(value), "error", err)
		return Entry{}, c.discard(ctx, client, c.key, value)
	}
	return entry, nil
}

// load reads the value, but never more than an envelope can have.
func (c *Cache) load(ctx context.Context, client redis.Cmdable) ([]byte, error) {
	value, err := client.GetRange(ctx, c.key, 0, int64(c.options.MaxSize+maxHeader)-1).Bytes()
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
func (c *Cache) discard(ctx context.Context, client redis.UniversalClient, key string, value []byte) error {
	err := client.Watch(ctx, func(tx *redis.Tx) error {
		now, err := tx.GetRange(ctx, key, 0, int64(len(value))-1).Bytes()
		if err != nil || !bytes.Equal(now, value) {
			return err
		}
		return transact(ctx, tx, func(p redis.Pipeliner) { p.Del(ctx, key) })
	}, key)
	if err != nil && !errors.Is(err, redis.TxFailedErr) {
		return err
	}
	return ErrMiss
}

// put writes in a transaction that fails if someone else writes meanwhile, so
// that an older document never replaces a newer one. A newer version of the same
// document is written without a word: nobody serves anything else by it.
func (c *Cache) put(ctx context.Context, client redis.UniversalClient, s Sealer, entry Entry) error {
	tell := false
	err := client.Watch(ctx, func(tx *redis.Tx) error {
		value, err := c.load(ctx, tx)
		if err != nil && !errors.Is(err, ErrMiss) && !isWrongType(err) {
			return err
		}
		there, err := s.Open(c.key, value)
		if err == nil && there.Version.Compare(entry.Version) >= 0 {
			return nil
		}
		tell = err != nil || !bytes.Equal(there.Data, entry.Data)
		return transact(ctx, tx, func(p redis.Pipeliner) { p.Set(ctx, c.key, s.Seal(c.key, entry), c.ttl()) })
	}, c.key)
	if err != nil || !tell {
		return err
	}
	// Not within the transaction: who may not publish can store all the same.
	return client.Publish(ctx, c.channel, "").Err()
}

// transact runs commands in a transaction. Where a command was refused the error is
// that, and not that the rest was therefore refused too.
func transact(ctx context.Context, tx *redis.Tx, queue func(redis.Pipeliner)) error {
	commands, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
		queue(p)
		return nil
	})
	for _, command := range commands {
		if refused := command.Err(); refused != nil && startsWith(err, "EXECABORT") && !startsWith(refused, "EXECABORT") {
			return refused
		}
	}
	return err
}

// ttl spreads expiries by a tenth.
func (c *Cache) ttl() time.Duration {
	return c.options.TTL*9/10 + mathrand.N(c.options.TTL/5+1)
}
