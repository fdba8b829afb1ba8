// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/background"
	"github.com/flagcache/flagcache/service/config"
)

// DeliveryTarget is a document of flags, and the pods that are to serve it.
type DeliveryTarget struct {
	// FlagCache that the pods belong to.
	FlagCache types.NamespacedName
	// Digest of the document, "" if it is unknown: then pods are only asked about Redis.
	Digest string
	// Shared: other programs may use the Redis at any time, so that pods are asked again
	// and again.
	Shared bool
	// Revisions are those that read the document.
	Revisions map[string]ReadyPods
}

// ReadyPods are those of a revision.
type ReadyPods struct {
	// Ready is how many there are.
	Ready int32
	// Version changes whenever one is replaced, so that they are asked again.
	Version string
}

// Delivery is how far a document got.
type Delivery struct {
	// Digest of the document.
	Digest string
	// Serving is the number of pods that serve it, of those that answered, Asked.
	Serving, Asked int32
	// Behind are the pods that serve another document, by name, at most MaxNamed of them.
	// More is the number of the others.
	Behind []string
	More   int
	// Since is when the first pod was found that serves another document.
	Since time.Time
	// Incomplete: not every pod could be asked. Of a revision with more than maxPods those
	// are asked.
	Incomplete bool
	// Foreign: a pod reports that Redis has the document of another store.
	Foreign bool
}

// MaxNamed is how many pods a Delivery names.
const MaxNamed = 5

// Time between two samples of a document that has not reached every pod. It doubles from
// one to the other.
const (
	minDeliveryInterval = 2 * time.Second
	maxDeliveryInterval = time.Minute
	// sharedInterval is that between two samples at rest if other programs may use the
	// Redis.
	sharedInterval = 5 * time.Minute
)

// settleTime is the time after which pods are asked about a document that replaces another one:
// most have it from Redis by then.
const settleTime = time.Second

// maxIncomplete is the number of samples after which pods that cannot be asked, as behind a
// proxy that requires certificates, are given up until the target changes.
const maxIncomplete = 10

// maxDeliveries that are sampled at the same time, and maxConcurrentDeliveries the pods of each
// of them.
const (
	maxDeliveries           = 8
	maxConcurrentDeliveries = 4
)

// Deliveries compares the documents that pods serve with those that they are to serve. A
// document that every ready pod serves is not sampled again before the target changes, so
// that nothing is read at rest.
type Deliveries struct {
	*background.Runner[DeliveryTarget, Delivery]
}

// NewDeliveries returns Deliveries that scrape pods. They sample nothing until they are
// started. Changed is called when a Delivery changed; it must not block for long.
func NewDeliveries(pods *Pods, changed func(types.NamespacedName)) *Deliveries {
	return newDeliveries(pods.delivery, changed)
}

func newDeliveries(sample func(context.Context, DeliveryTarget, Delivery) Delivery, changed func(types.NamespacedName)) *Deliveries {
	return &Deliveries{background.New(background.Work[DeliveryTarget, Delivery]{
		Do:         sample,
		Next:       nextDelivery,
		Keeps:      func(before, after DeliveryTarget) bool { return before.Digest == after.Digest },
		Notifies:   func(before, after Delivery) bool { return !reflect.DeepEqual(before, after) },
		Changed:    changed,
		Settle:     settleTime,
		Concurrent: maxDeliveries, QuickTimeout: quickTimeout, SlowTimeout: slowTimeout,
	})}
}

func nextDelivery(t DeliveryTarget, last Delivery, count int) time.Duration {
	if len(last.Behind) == 0 && !last.Foreign && (!last.Incomplete || count >= maxIncomplete) {
		if t.Shared {
			return sharedInterval
		}
		return 0
	}
	interval := minDeliveryInterval
	for range count - 1 {
		interval = min(2*interval, maxDeliveryInterval)
	}
	return interval
}

// delivery asks the ready pods of the revisions which document they serve. Pods of an
// image that does not report it are not counted as behind.
func (p *Pods) delivery(ctx context.Context, t DeliveryTarget, last Delivery) Delivery {
	d := Delivery{Digest: t.Digest}
	var expected int
	var revisions []string
	for revision, pods := range t.Revisions {
		revisions = append(revisions, revision)
		expected += int(pods.Ready)
	}
	slices.Sort(revisions)
	pods, all, err := p.list(ctx, t.FlagCache, revisions...)
	pods = slices.DeleteFunc(pods, func(pod *corev1.Pod) bool { return !ready(pod) })
	d.Incomplete = err != nil || all && len(pods) < expected
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(maxConcurrentDeliveries)
	for _, pod := range pods {
		group.Go(func() error {
			metrics, err := p.metrics(ctx, pod)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				d.Incomplete = true
				return nil
			}
			d.Asked++
			switch digest := servedDigest(metrics); {
			case digest == "" || t.Digest == "":
			case digest == t.Digest:
				d.Serving++
			default:
				d.Behind = append(d.Behind, pod.Name)
			}
			foreign, _ := gauge(metrics, config.MetricCacheForeign)
			d.Foreign = d.Foreign || foreign == 1
			return nil
		})
	}
	_ = group.Wait() // no scrape returns an error
	slices.Sort(d.Behind)
	if d.More = max(0, len(d.Behind)-MaxNamed); d.More > 0 {
		d.Behind = d.Behind[:MaxNamed]
	}
	if len(d.Behind) > 0 {
		if d.Since = last.Since; d.Since.IsZero() {
			d.Since = p.Clock.Now()
		}
	}
	return d
}

// ready reports whether a pod gets requests.
func ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// digestLength is that of a SHA-256 in hexadecimal.
const digestLength = 64

// servedDigest returns the digest of the document that a process serves, "" if it does not
// report exactly one.
func servedDigest(f families) string {
	series := f.series(config.MetricSnapshotInfo)
	if len(series) != 1 {
		return ""
	}
	for _, label := range series[0].GetLabel() {
		if label.GetName() == config.LabelDigest && len(label.GetValue()) == digestLength {
			return label.GetValue()
		}
	}
	return ""
}
