// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

// Target is a canary to be sampled.
type Target struct {
	// FlagCache that the canary is of.
	FlagCache types.NamespacedName
	// Candidate and Stable are its revisions.
	Candidate, Stable string
	// Split says that stable pods hand the candidate its requests. Then they count
	// what clients would have seen of it, and its own count of requests is not used.
	Split bool
	// Interval between two samples.
	Interval time.Duration
	// LatencyP95, LatencyP99 and MissLatencyP95 are the limits over which an event
	// is slow.
	LatencyP95, LatencyP99, MissLatencyP95 time.Duration
	// Since is when the canary began.
	Since time.Time
	// Prometheus is the server to ask, CloudWatch what to ask there; without either
	// the pods are asked.
	Prometheus *v1alpha1.PrometheusSpec
	CloudWatch *v1alpha1.CloudWatchSpec
}

// Stream is one life of one set of counters.
type Stream struct {
	// ID tells the stream from all others, for all time.
	ID string
	// Revision that the events are about.
	Revision string
	// Counts since the stream began; a check that it does not count is absent.
	Counts map[canary.Check]analysis.Counts
	// Kept is how many requests a stable pod answered by itself while a candidate
	// took a share.
	Kept int64
	// Lasting counters never begin anew, so that one that fell is a mistake.
	Lasting bool
}

// Sample is what one look at all counters found.
type Sample struct {
	// At is when the look began, or until when there are events in it.
	At time.Time
	// Lag is how long ago events may have happened that the sample is the first to
	// have; zero where they are known at once.
	Lag time.Duration
	// Origin of the streams: only those of the same one can be added up.
	Origin string
	// Streams that could be read.
	Streams []Stream
	// Trouble says why others could not be, in words that stay the same; "" if all
	// could.
	Trouble string
}

// Source reads the counters of a canary once. It returns what it got in time and,
// in Trouble, what it did not.
type Source interface {
	Sample(ctx context.Context, target Target) Sample
}

// Sources are all that a canary's numbers can come from.
type Sources struct {
	Pods, Prometheus, CloudWatch Source
}

// Sample asks the source that the target names.
func (s Sources) Sample(ctx context.Context, target Target) Sample {
	sample := s.of(target).Sample(ctx, target)
	sample.Origin = target.origin()
	return sample
}

func (s Sources) of(target Target) Source {
	switch {
	case target.Prometheus != nil:
		return s.Prometheus
	case target.CloudWatch != nil:
		return s.CloudWatch
	default:
		return s.Pods
	}
}

// origin is a name for all that says who counts, and what: another source, another
// query or another limit would count the same events in another way.
func (t Target) origin() string {
	t.FlagCache, t.Candidate, t.Stable, t.Interval, t.Since = types.NamespacedName{}, "", "", 0, time.Time{}
	text, err := json.Marshal(t)
	if err != nil {
		panic(fmt.Sprintf("a target made of plain data does not marshal: %v", err))
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))[:16]
}
