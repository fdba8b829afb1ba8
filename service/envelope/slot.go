// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/config"
)

var (
	// ErrMiss is returned if there is no usable document in Redis.
	ErrMiss = errors.New("no usable document in Redis")
	// ErrForeign is returned if the document of another store is stored. It is neither
	// used nor replaced: two sources share one Redis and one environment.
	ErrForeign = errors.New("the document in Redis is that of another store with the same environment")
	// ErrOccupied is returned if the key has a value that is no document, and such values are
	// kept.
	ErrOccupied = errors.New("the value in Redis is no document")
)

// Slot is where the document of an environment is in Redis.
type Slot struct {
	// Key has the envelope. A message on Channel follows each change.
	Key, Channel string
	// Sealer creates and opens the envelopes.
	Sealer Sealer
	// MaxSize is the maximum size of a document in bytes.
	MaxSize int
	// TTL is the lifetime of a document, with a jitter of 10 %.
	TTL time.Duration
	// Timed: documents are stored with the time, because no database confirms them.
	Timed bool
	// KeepsUnknown: a value that is not an intact envelope is not replaced.
	KeepsUnknown bool
}

// KeyOf returns the key of an environment.
func KeyOf(environment string) string { return config.RedisKeyPrefix + environment }

// ChannelOf returns the channel of an environment.
func ChannelOf(environment string) string { return config.RedisChannelPrefix + environment }

// Load reads the value, up to the maximum size of an envelope. It returns ErrMiss if there is
// none.
func (s Slot) Load(ctx context.Context, client redis.Cmdable) ([]byte, error) {
	value, err := client.GetRange(ctx, s.Key, 0, int64(s.MaxSize+MaxHeader)-1).Bytes()
	if err != nil {
		return nil, err
	}
	if len(value) == 0 {
		return nil, ErrMiss
	}
	return value, nil
}

// maxClockSkew is by how much the clocks of two writers may differ.
const maxClockSkew = config.FlagsClockSkew * time.Second

// IsStale reports whether an entry has outlived its TTL by more than clocks differ: somebody kept
// it, or stored it again later.
func (s Slot) IsStale(e Entry, now time.Time) bool {
	return !e.SealedAt.IsZero() && now.Sub(e.SealedAt) > s.TTL*11/10+maxClockSkew
}

// Put writes a document and notifies all instances, unless the same or a newer one is stored.
// It returns ErrForeign if that of another store is stored, and ErrUnverified if one is that was
// sealed with another key, unless the entry supersedes it.
//
// It writes in a transaction that fails if another client writes concurrently, so that an older
// document never replaces a newer one. A newer version of the same document is written without
// a message, because the flags do not change.
func (s Slot) Put(ctx context.Context, client redis.UniversalClient, entry Entry) error {
	notify := false
	err := client.Watch(ctx, func(tx *redis.Tx) error {
		value, err := s.Load(ctx, tx)
		missing := errors.Is(err, ErrMiss)
		if err != nil && !missing && !IsWrongType(err) {
			return err
		}
		stored, err := s.Sealer.Open(s.Key, value)
		unverified := errors.Is(err, ErrUnverified)
		switch {
		case unverified && !stored.SameStore(entry.State):
			return ErrForeign
		case unverified && !entry.Supersedes:
			return ErrUnverified
		case err != nil && !missing && s.KeepsUnknown:
			return ErrOccupied
		case err != nil:
		case !stored.SameStore(entry.State):
			return ErrForeign
		case keeps(stored, entry):
			return nil
		}
		notify = err != nil || !bytes.Equal(stored.Data, entry.Data)
		if entry.SealedAt = (time.Time{}); s.Timed {
			entry.SealedAt = time.Now()
		}
		return Transact(ctx, tx, func(p redis.Pipeliner) { p.Set(ctx, s.Key, s.Sealer.Seal(s.Key, entry), s.ttl()) })
	}, s.Key)
	if err != nil || !notify {
		return err
	}
	// Outside of the transaction, so that a user without the right to publish can
	// still store.
	return client.Publish(ctx, s.Channel, "").Err()
}

// keeps reports whether a stored document of the same store is not replaced. One
// that the source does not have is, even if its version is newer.
func keeps(stored, entry Entry) bool {
	if entry.Supersedes && (entry.Store != "" || stored.Store == "") {
		return stored.Confirms(entry.State) && bytes.Equal(stored.Data, entry.Data)
	}
	return stored.Version.Compare(entry.Version) >= 0
}

// ttl returns the TTL with a jitter of 10 %.
func (s Slot) ttl() time.Duration {
	return s.TTL*9/10 + rand.N(s.TTL/5+1)
}

// Transact runs commands in a transaction. If a command was rejected, it returns
// that command's error rather than EXECABORT.
func Transact(ctx context.Context, tx *redis.Tx, queue func(redis.Pipeliner)) error {
	commands, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
		queue(p)
		return nil
	})
	for _, command := range commands {
		if refused := command.Err(); refused != nil && redis.HasErrorPrefix(err, "EXECABORT") && !redis.HasErrorPrefix(refused, "EXECABORT") {
			return refused
		}
	}
	return err
}

// IsWrongType reports whether the key does not hold a string.
func IsWrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }
