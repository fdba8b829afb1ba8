// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package broadcast

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/background"
	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/envelope"
	"github.com/flagcache/flagcache/service/resp"
	"github.com/flagcache/flagcache/service/source"
)

// Target is a published document, and the Redis that is to have it.
type Target struct {
	FlagCache types.NamespacedName
	// Number and Digest of the document, and its Store.
	Number int64
	Digest string
	Store  string
	// Environments whose pods read it.
	Environments []string
	// TTL of the document in Redis.
	TTL time.Duration
	// Key authenticates the document. What was sealed with one of Accepted is the FlagCache's,
	// too.
	Key      secret.String
	Accepted []secret.String
	// Redis is how it is connected to.
	Redis probe.Target
	// Compressed is the document, compressed with gzip. It is not modified.
	Compressed []byte
}

// Reason is the result of a write: one of the constants, or that of a failed probe.
type Reason string

const (
	// Stored means: Redis has the document, or a newer one of the FlagCache.
	Stored Reason = "Stored"
	// ForeignStore means: Redis has the document of another store.
	ForeignStore Reason = "ForeignStore"
	// OtherKey means: Redis has a document that was sealed with another integrity key.
	OtherKey Reason = "OtherKey"
	// Occupied means: Redis has a value that is no document.
	Occupied Reason = "Occupied"
	// Contended means: others wrote at the same time, repeatedly.
	Contended Reason = "Contended"
	// Unreadable means: the published document could not be read.
	Unreadable Reason = "Unreadable"
)

// Result is the last write of a FlagCache's flags.
type Result struct {
	// Number of the document.
	Number int64
	Reason Reason
}

// Limits of what happens at the same time, and for how long. A write holds the document, its
// envelope and what Redis has, a few MiB in all.
const (
	maxConcurrent = 8
	quickTimeout  = 250 * time.Millisecond
	slowTimeout   = 2 * time.Second
	// maxDocument is the maximum size of a document in bytes, as pods accept it.
	maxDocument = 1 << 20
	// maxAttempts of a transaction that others interrupt.
	maxAttempts = 3
)

// Time between two attempts to write a document. It doubles from one to the other.
const (
	minInterval = time.Second
	maxInterval = 5 * time.Minute
)

// Options configure a Broadcaster.
type Options struct {
	// Rules allow and deny addresses.
	Rules *dial.Rules
	// Changed is called when the Reason of a result changed. It must not block for long.
	Changed func(types.NamespacedName)
	Log     logr.Logger
}

// Broadcaster writes the documents of the watched FlagCaches.
type Broadcaster struct {
	*background.Runner[Target, Result]
	rules  *dial.Rules
	log    logr.Logger
	writes *prometheus.CounterVec
}

// New returns a Broadcaster, which writes nothing until it is started.
func New(o Options) *Broadcaster {
	b := &Broadcaster{
		rules: o.Rules, log: o.Log,
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flagcache_broadcasts_total",
			Help: "Attempts to write published flags to Redis, by reason: Stored, or why they were not written.",
		}, []string{"reason"}),
	}
	b.Runner = background.New(background.Work[Target, Result]{
		Do:   b.write,
		Next: next,
		// The last result says whether the author was told already.
		Keeps:    func(_, _ Target) bool { return true },
		Notifies: func(before, after Result) bool { return before.Reason != after.Reason },
		Changed: func(key types.NamespacedName) {
			if last, known := b.Last(key); known {
				b.log.Info("Wrote flags to Redis", "namespace", key.Namespace, "name", key.Name, "number", last.Number, "result", last.Reason)
			}
			o.Changed(key)
		},
		Concurrent: maxConcurrent, QuickTimeout: quickTimeout, SlowTimeout: slowTimeout,
	})
	return b
}

// Collector returns the metrics.
func (b *Broadcaster) Collector() prometheus.Collector { return b.writes }

// next is when a write is repeated: a document that Redis has is not written again.
func next(_ Target, last Result, count int) time.Duration {
	if last.Reason == Stored {
		return 0
	}
	interval := minInterval
	for range count - 1 {
		interval = min(2*interval, maxInterval)
	}
	return interval
}

// write writes a document, and counts the attempt.
func (b *Broadcaster) write(ctx context.Context, t Target, last Result) Result {
	result := Result{Number: t.Number, Reason: once(ctx, t, b.rules, last.Number == t.Number && last.Reason != Stored)}
	b.writes.WithLabelValues(string(result.Reason)).Inc()
	return result
}

// Once writes a document to all of its environments, unless they have it. It returns the first
// reason why one has it not.
func Once(ctx context.Context, t Target, rules *dial.Rules) Reason { return once(ctx, t, rules, false) }

// once is Once, again after an attempt that failed.
func once(ctx context.Context, t Target, rules *dial.Rules, again bool) Reason {
	document, err := t.document()
	if err != nil {
		return Unreadable
	}
	entry := envelope.Entry{
		State: source.State{Store: t.Store, Version: source.Version{Epoch: source.PublishedEpoch, Number: t.Number}},
		Data:  document,
	}
	redisTarget := t.Redis
	redisTarget.Timeout = slowTimeout
	replies := resp.Scanner{MaxString: maxDocument + envelope.MaxHeader, MaxTotal: maxDocument + 64<<10}
	reason := Stored
	attempt := probe.Use(ctx, redisTarget, rules, replies.Scan, func(ctx context.Context, client *redis.Client) error {
		for _, environment := range t.Environments {
			outcome, err := put(ctx, client, t.slot(environment), entry, again)
			if err != nil {
				return err
			}
			if reason == Stored {
				reason = outcome
			}
		}
		return nil
	})
	if attempt.Err != nil {
		return Reason(attempt.Reason)
	}
	return reason
}

// put writes a document to the slot of an environment. An error is that of the server or of the
// connection. Again means that an earlier attempt failed, perhaps between the document and the
// message.
func put(ctx context.Context, client *redis.Client, slot envelope.Slot, entry envelope.Entry, again bool) (Reason, error) {
	for range maxAttempts {
		switch err := slot.Put(ctx, client, entry); {
		case errors.Is(err, redis.TxFailedErr):
			continue
		case errors.Is(err, envelope.ErrForeign):
			return ForeignStore, nil
		case errors.Is(err, envelope.ErrUnverified):
			return OtherKey, nil
		case errors.Is(err, envelope.ErrOccupied):
			return Occupied, nil
		case err != nil:
			return "", fmt.Errorf("writing the flags: %w", err)
		case again:
			return Stored, client.Publish(ctx, slot.Channel, "").Err()
		}
		return Stored, nil
	}
	return Contended, nil
}

// document returns the document if it is the one that was published.
func (t Target) document() ([]byte, error) {
	document, err := observed.Decompress(t.Compressed, maxDocument)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(document); hex.EncodeToString(sum[:]) != t.Digest {
		return nil, errors.New("the document has another digest")
	}
	return document, nil
}

// slot is where the document of an environment is in Redis.
func (t Target) slot(environment string) envelope.Slot {
	sealer := envelope.Sealer{Secret: envelope.KeyFrom([]byte(t.Key.Reveal()))}
	for _, key := range t.Accepted {
		sealer.Accepted = append(sealer.Accepted, envelope.KeyFrom([]byte(key.Reveal())))
	}
	return envelope.Slot{
		Key: envelope.KeyOf(environment), Channel: envelope.ChannelOf(environment),
		Sealer: sealer, MaxSize: maxDocument, TTL: t.TTL, Timed: true, KeepsUnknown: true,
	}
}
