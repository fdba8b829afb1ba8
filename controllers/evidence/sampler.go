// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/background"
	"github.com/flagcache/flagcache/controllers/canary"
)

// maxConcurrentSamples is the default of Options.MaxConcurrent. It bounds the bytes that all
// canaries hold at the same time, as whatever a canary holds is bounded: of pods the metrics that
// are kept of maxConcurrentScrapes, or of Prometheus one response, before and after it is joined.
const maxConcurrentSamples = 16

// Timeouts of a sample. A source that does not answer within the shorter one is sampled
// in the slow lane, until it does.
const (
	quickTimeout = 2 * time.Second
	slowTimeout  = 10 * time.Second
)

// Options configure a Sampler.
type Options struct {
	// Source of the samples.
	Source Source
	// Changed is called after each sample. It must not block for long.
	Changed func(types.NamespacedName)
	// MaxConcurrent is how many canaries are sampled at the same time, half of them whose
	// sources answer quickly. Default: 16.
	MaxConcurrent int64
}

// Sampler samples canaries at their interval. A changed target discards the last sample,
// which is no evidence about the new target. Its sources belong to tenants, who must not
// delay one another's samples.
type Sampler struct {
	*background.Runner[Target, canary.Evidence]
}

// NewSampler returns a Sampler, which samples nothing until it is started.
func NewSampler(o Options) *Sampler {
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = maxConcurrentSamples
	}
	return &Sampler{background.New(background.Work[Target, canary.Evidence]{
		Do: func(ctx context.Context, t Target, _ canary.Evidence) canary.Evidence {
			return o.Source.Sample(ctx, t)
		},
		Next:       func(t Target, _ canary.Evidence, _ int) time.Duration { return max(t.Interval, background.MinInterval) },
		Keeps:      func(_, _ Target) bool { return false },
		Notifies:   func(_, _ canary.Evidence) bool { return true },
		Changed:    o.Changed,
		Concurrent: o.MaxConcurrent, QuickTimeout: quickTimeout, SlowTimeout: slowTimeout,
	})}
}
