// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// Target is a canary to sample.
type Target struct {
	// FlagCache that the canary belongs to.
	FlagCache types.NamespacedName
	// Candidate and Stable are its revisions.
	Candidate, Stable string
	// Split is set if stable pods forward requests to the candidate. They then count
	// what clients would have seen of the candidate, and the candidate's own count of
	// requests is not used.
	Split bool
	// Interval between two samples.
	Interval time.Duration
	// LatencyP95, LatencyP99 and MissLatencyP95 are the limits above which an event
	// is slow.
	LatencyP95, LatencyP99, MissLatencyP95 time.Duration
	// Since is when the canary started.
	Since time.Time
	// Type selects the source. Default: Pods.
	Type v1alpha1.MetricsType `json:"-"`
	// Prometheus is the server of type Prometheus.
	Prometheus *v1alpha1.PrometheusSpec
	// CloudWatch are the queries of type CloudWatch.
	CloudWatch *v1alpha1.CloudWatchSpec
}

// origin identifies the source and what it counts: another source, query or limit
// counts the same events differently. It is persisted in the record of a canary, so
// the text that is hashed must not change.
func (t Target) origin() string {
	t.FlagCache, t.Candidate, t.Stable, t.Interval, t.Since = types.NamespacedName{}, "", "", 0, time.Time{}
	text, err := json.Marshal(t)
	if err != nil {
		panic(fmt.Sprintf("marshalling a target of plain data: %v", err))
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))[:16]
}

// Source reads the counters of a canary once. The evidence holds what could be read
// in time, and in Missing why the rest could not.
type Source interface {
	Sample(ctx context.Context, target Target) canary.Evidence
}

// Sources is the registry of sources by type.
type Sources map[v1alpha1.MetricsType]Source

// Sample implements Source: it reads from the source of the target's type.
func (s Sources) Sample(ctx context.Context, target Target) canary.Evidence {
	kind := cmp.Or(target.Type, v1alpha1.MetricsPods)
	source, ok := s[kind]
	if !ok {
		return canary.Evidence{Missing: fmt.Sprintf("this operator has no source for canary.metrics.type %s", kind)}
	}
	sample := source.Sample(ctx, target)
	sample.Origin = target.origin()
	return sample
}
