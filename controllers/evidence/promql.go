// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/service/config"
)

// maxSeries of one user's query: each is a stream in the record of the canary.
const maxSeries = 200

// maxPodName is the length of the longest name of a pod.
const maxPodName = 253

// partLabel is the label that distinguishes the parts of a combined query.
const partLabel = "flagcache"

// Values of partLabel.
const (
	partScraped = "scraped"
	partBad     = "bad"
	partTotal   = "total"
)

// queriesOf returns the queries of a revision: those of the user, and one for the
// metrics of the flag service unless the user has queries for all checks.
func queriesOf(revision string, t Target) []query {
	var queries []query
	rest := slices.DeleteFunc(canary.Names(), func(check canary.Check) bool {
		bad, total := t.Prometheus.Queries[string(check)+".bad"], t.Prometheus.Queries[string(check)+".total"]
		if bad == "" || total == "" {
			return false
		}
		promQL, err := userQuery(bad, total, revision, t)
		queries = append(queries, query{
			promQL:  promQL,
			invalid: err,
			subject: string(check),
			read:    func(v model.Vector) ([]canary.Stream, error) { return userStreams(v, check, revision, t) },
		})
		return true
	})
	if len(rest) > 0 {
		queries = append(queries, query{
			promQL: serviceQuery(revision, t),
			read:   func(v model.Vector) ([]canary.Stream, error) { return serviceStreams(v, rest, revision, t) },
		})
	}
	return queries
}

// userQuery combines a pair of the user's queries, so that both are evaluated at the
// same time.
func userQuery(bad, total v1alpha1.Query, revision string, t Target) (string, error) {
	scopedBad, err := scoped(bad, revision, t)
	if err != nil {
		return "", fmt.Errorf("bad: %w", err)
	}
	scopedTotal, err := scoped(total, revision, t)
	if err != nil {
		return "", fmt.Errorf("total: %w", err)
	}
	return fmt.Sprintf("label_replace((%s),%q,%q,\"\",\"\") or label_replace((%s),%q,%q,\"\",\"\")", scopedBad, partLabel, partBad, scopedTotal, partLabel, partTotal), nil
}

// userStreams reads the result of userQuery: each series of all events is a stream,
// and its bad events are those of the series with the same labels, if any.
func userStreams(vector model.Vector, check canary.Check, revision string, t Target) ([]canary.Stream, error) {
	counts := map[model.Fingerprint]analysis.Counts{}
	bad := map[model.Fingerprint]int64{}
	for _, sample := range vector {
		value := float64(sample.Value)
		if !isCount(value) {
			return nil, errNotCounters
		}
		series := sample.Metric.Clone()
		delete(series, model.MetricNameLabel)
		delete(series, partLabel)
		if sample.Metric[partLabel] == partBad {
			bad[series.Fingerprint()] = int64(value)
			continue
		}
		counts[series.Fingerprint()] = analysis.Counts{Total: int64(value)}
	}
	switch {
	case len(counts) > maxSeries:
		return nil, errTooManySeries
	case len(vector) == 0:
		return nil, errNoSeries
	}
	for series, n := range bad {
		all, ok := counts[series]
		if !ok || n > all.Total {
			return nil, errUnmatched
		}
		counts[series] = analysis.Counts{Bad: n, Total: all.Total}
	}
	var streams []canary.Stream
	for _, series := range slices.Sorted(maps.Keys(counts)) {
		stream := canary.Stream{
			ID:       fmt.Sprintf("%s/%s/%s", check, revision, series),
			Revision: revision,
			Counts:   map[canary.Check]analysis.Counts{check: counts[series]},
		}
		if check == canary.ErrorRate && revision == t.Stable {
			stream.Local = counts[series].Total
		}
		streams = append(streams, stream)
	}
	return streams, nil
}

// Metrics of the flag service that the checks need.
var (
	histograms = []string{config.MetricRequestDuration, config.MetricCacheMissDuration, config.MetricSplitDuration}
	scalars    = []string{config.MetricRequests, config.MetricCacheRequests, config.MetricSplitRequests, config.MetricSplitLocal, metricStarted}
)

const bucketSuffix = "_bucket"

// serviceQuery selects the counters of a revision's pods, and the time at which each
// pod was scraped: samples of an instant vector may be minutes old.
func serviceQuery(revision string, t Target) string {
	names := slices.Clone(scalars)
	for _, name := range histograms {
		names = append(names, name+bucketSuffix)
	}
	pods := regexp.QuoteMeta(t.FlagCache.Name+"-"+revision) + "-.+"
	selector := "namespace=" + strconv.Quote(t.FlagCache.Namespace) + ",pod=~" + strconv.Quote(pods)
	return fmt.Sprintf(`{__name__=~%q,%s} or label_replace(timestamp(%s{%s}),%q,%q,"","")`,
		strings.Join(names, "|"), selector, metricStarted, selector, partLabel, partScraped)
}

// serviceStreams reads the result of serviceQuery for some checks.
func serviceStreams(vector model.Vector, checks []canary.Check, revision string, t Target) ([]canary.Stream, error) {
	scraped, err := processesOf(vector)
	if err != nil {
		return nil, err
	}
	var missing error
	var found []canary.Stream
	seen := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(scraped)) {
		p := scraped[key]
		if seen[p.pod] {
			continue // the pod is scraped by two jobs or two servers
		}
		if p.age() > 2*t.Interval {
			missing = errStale
			continue
		}
		if len(seen) == maxPods {
			missing = errTooManyPods
			break
		}
		of, err := streams(p.families, p.pod, revision, t)
		if err != nil {
			missing = errNotCounters
			continue
		}
		seen[p.pod] = true
		found = append(found, keepChecks(of, checks)...)
	}
	if len(found) == 0 && missing == nil {
		missing = errNoSeries
	}
	return found, missing
}

// keepChecks removes the checks that other queries count.
func keepChecks(of []canary.Stream, checks []canary.Check) []canary.Stream {
	for i, stream := range of {
		if !slices.Contains(checks, canary.ErrorRate) {
			of[i].Local = 0
		}
		maps.DeleteFunc(stream.Counts, func(check canary.Check, _ analysis.Counts) bool { return !slices.Contains(checks, check) })
	}
	return of
}

// scrape is the result of one scrape of one process.
type scrape struct {
	pod      string
	families families
	// histograms are those of the families, by their name and labels.
	histograms map[string]*dto.Histogram
	// at is the time of the scrape, and evaluated that of the query, both by the
	// server's clock in Unix seconds.
	at, evaluated float64
}

// age returns the age of the scrape, the maximum if it is unknown.
func (s scrape) age() time.Duration {
	seconds := s.evaluated - s.at
	if !(seconds >= 0 && seconds < 1e9) {
		return math.MaxInt64
	}
	return time.Duration(seconds * float64(time.Second))
}

// processesOf groups the series by the process that exposed them.
func processesOf(vector model.Vector) (map[string]*scrape, error) {
	found := map[string]*scrape{}
	for _, sample := range vector {
		own, target := splitLabels(sample.Metric)
		key, pod := target.String(), string(sample.Metric["pod"])
		if len(pod) > maxPodName {
			return nil, errNotCounters
		}
		p := found[key]
		if p == nil {
			p = &scrape{pod: pod, families: families{}, histograms: map[string]*dto.Histogram{}, at: math.Inf(-1), evaluated: float64(sample.Timestamp) / 1000}
			found[key] = p
		}
		value := float64(sample.Value)
		if sample.Metric[partLabel] == partScraped {
			p.at = value
			continue
		}
		if !p.put(string(sample.Metric[model.MetricNameLabel]), own, value) {
			return nil, errNotCounters
		}
	}
	return found, nil
}

// ownLabels are the labels that the flag service sets on its metrics.
var ownLabels = []model.LabelName{"endpoint", "code", "track", "result", "revision", "le"}

// splitLabels separates the labels that the flag service set from those of the scrape
// target. If both have a label, Prometheus prefixes the former with "exported_"; the
// Prometheus Operator sets endpoint on every target.
func splitLabels(series model.Metric) (own map[string]string, target model.Metric) {
	own, target = map[string]string{}, series.Clone()
	for _, name := range ownLabels {
		value, renamed := series[model.ExportedLabelPrefix+name]
		plain, ok := series[name]
		delete(target, model.ExportedLabelPrefix+name)
		if !renamed {
			value = plain
		}
		// A plain label beside a renamed one belongs to the target. It is not part of the
		// key, because series for which the flag service does not set the label have it
		// as well.
		delete(target, name)
		if renamed || ok {
			own[string(name)] = string(value)
		}
	}
	delete(target, model.MetricNameLabel)
	delete(target, partLabel)
	return own, target
}

// put adds a sample and reports whether it is a count.
func (s *scrape) put(name string, labels map[string]string, value float64) bool {
	if name == metricStarted {
		s.families.add(name, &dto.Metric{Gauge: &dto.Gauge{Value: &value}})
		return true
	}
	if !isCount(value) {
		return false
	}
	histogram, isBucket := strings.CutSuffix(name, bucketSuffix)
	if !isBucket {
		s.families.add(name, &dto.Metric{Label: pairs(labels), Counter: &dto.Counter{Value: &value}})
		return true
	}
	bound, err := strconv.ParseFloat(labels["le"], 64)
	if err != nil {
		return false
	}
	delete(labels, "le")
	bucket := &dto.Bucket{UpperBound: &bound, CumulativeCount: ptr.To(uint64(value))}
	h := s.histogram(histogram, labels)
	h.Bucket = append(h.Bucket, bucket)
	return true
}

func (f families) add(name string, m *dto.Metric) {
	if f[name] == nil {
		f[name] = &dto.MetricFamily{}
	}
	f[name].Metric = append(f[name].Metric, m)
}

// histogram returns the histogram with the given labels, and adds it if missing.
func (s *scrape) histogram(name string, labels map[string]string) *dto.Histogram {
	key := fmt.Sprintf("%q %q", name, labels) // maps are formatted in the order of their keys
	if found := s.histograms[key]; found != nil {
		return found
	}
	m := &dto.Metric{Label: pairs(labels), Histogram: &dto.Histogram{}}
	s.families.add(name, m)
	s.histograms[key] = m.Histogram
	return m.Histogram
}

func pairs(labels map[string]string) []*dto.LabelPair {
	var list []*dto.LabelPair
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, &dto.LabelPair{Name: ptr.To(name), Value: ptr.To(labels[name])})
	}
	return list
}
