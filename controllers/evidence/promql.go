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

// mostSeries of one user's query: each is a stream that the canary's record keeps.
const mostSeries = 200

// kind is the label by which a query tells its parts from each other.
const kind = "flagcache"

// Values of kind.
const (
	kindScraped = "scraped"
	kindBad     = "bad"
	kindTotal   = "total"
)

func allChecks() []canary.Check {
	return []canary.Check{canary.ErrorRate, canary.LatencyP95, canary.LatencyP99, canary.CacheHitRate, canary.MissLatencyP95}
}

// questionsAbout asks about a revision: for the user's own queries, and for the
// flag service's metrics where there are not such for all checks.
func questionsAbout(revision string, t Target) []question {
	var questions []question
	rest := slices.DeleteFunc(allChecks(), func(check canary.Check) bool {
		bad, total := t.Prometheus.Queries[string(check)+".bad"], t.Prometheus.Queries[string(check)+".total"]
		if bad == "" || total == "" {
			return false
		}
		questions = append(questions, question{
			query: ownQuery(bad, total, revision, t),
			about: string(check),
			read:  func(v model.Vector) ([]Stream, error) { return ownStreams(v, check, revision, t) },
		})
		return true
	})
	if len(rest) > 0 {
		questions = append(questions, question{
			query: serviceQuery(revision, t),
			read:  func(v model.Vector) ([]Stream, error) { return serviceStreams(v, rest, revision, t) },
		})
	}
	return questions
}

// ownQuery is a pair of the user's queries as one, so that both are evaluated at
// one instant. A line break ends a comment at the end of either. The values are
// names and hashes: nothing in them can end a string of PromQL.
func ownQuery(bad, total v1alpha1.Query, revision string, t Target) string {
	query := fmt.Sprintf("label_replace((%s\n),%q,%q,\"\",\"\") or label_replace((%s\n),%q,%q,\"\",\"\")", bad, kind, kindBad, total, kind, kindTotal)
	return fill(query, revision, t)
}

// ownStreams reads the answer to ownQuery: each series of all events is a stream,
// and its bad events are those of the series with the same labels, if there is one.
func ownStreams(vector model.Vector, check canary.Check, revision string, t Target) ([]Stream, error) {
	counts := map[model.Fingerprint]analysis.Counts{}
	bad := map[model.Fingerprint]int64{}
	for _, sample := range vector {
		value := float64(sample.Value)
		if !isCount(value) {
			return nil, errNoCounters
		}
		series := sample.Metric.Clone()
		delete(series, model.MetricNameLabel)
		delete(series, kind)
		if sample.Metric[kind] == kindBad {
			bad[series.Fingerprint()] = int64(value)
			continue
		}
		counts[series.Fingerprint()] = analysis.Counts{Total: int64(value)}
	}
	switch {
	case len(counts) > mostSeries:
		return nil, errManySeries
	case len(vector) == 0:
		return nil, errNothing
	}
	for series, n := range bad {
		all, ok := counts[series]
		if !ok || n > all.Total {
			return nil, errUnmatched
		}
		counts[series] = analysis.Counts{Bad: n, Total: all.Total}
	}
	var streams []Stream
	for _, series := range slices.Sorted(maps.Keys(counts)) {
		stream := Stream{
			ID:       fmt.Sprintf("%s/%s/%s", check, revision, series),
			Revision: revision,
			Counts:   map[canary.Check]analysis.Counts{check: counts[series]},
		}
		if check == canary.ErrorRate && revision == t.Stable {
			stream.Kept = counts[series].Total
		}
		streams = append(streams, stream)
	}
	return streams, nil
}

// histograms of the flag service that checks need, and all its other metrics that
// they do.
var (
	histograms = []string{config.MetricRequestDuration, config.MetricCacheMissDuration, config.MetricSplitDuration}
	counted    = []string{config.MetricRequests, config.MetricCacheRequests, config.MetricSplitRequests, config.MetricSplitLocal, metricStarted}
)

const bucketSuffix = "_bucket"

// serviceQuery asks for the counters of a revision's pods as they are, and when
// each pod was scraped: the values of an instant vector may be minutes old.
func serviceQuery(revision string, t Target) string {
	names := slices.Clone(counted)
	for _, name := range histograms {
		names = append(names, name+bucketSuffix)
	}
	pods := regexp.QuoteMeta(t.FlagCache.Name+"-"+revision) + "-.+"
	selector := "namespace=" + strconv.Quote(t.FlagCache.Namespace) + ",pod=~" + strconv.Quote(pods)
	return fmt.Sprintf(`{__name__=~%q,%s} or label_replace(timestamp(%s{%s}),%q,%q,"","")`,
		strings.Join(names, "|"), selector, metricStarted, selector, kind, kindScraped)
}

// serviceStreams reads the answer to serviceQuery for some checks.
func serviceStreams(vector model.Vector, checks []canary.Check, revision string, t Target) ([]Stream, error) {
	scraped, err := processesOf(vector)
	if err != nil {
		return nil, err
	}
	var trouble error
	var found []Stream
	seen := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(scraped)) {
		p := scraped[key]
		if seen[p.pod] {
			continue // a second job scrapes the pod, or a second server does
		}
		if p.age() > 2*t.Interval {
			trouble = errLate
			continue
		}
		of, err := streams(p.families, p.pod, revision, t)
		if err != nil {
			trouble = errNoCounters
			continue
		}
		seen[p.pod] = true
		found = append(found, keepChecks(of, checks)...)
	}
	if len(found) == 0 && trouble == nil {
		trouble = errNothing
	}
	return found, trouble
}

// keepChecks drops what other queries count.
func keepChecks(of []Stream, checks []canary.Check) []Stream {
	for i, stream := range of {
		if !slices.Contains(checks, canary.ErrorRate) {
			of[i].Kept = 0
		}
		maps.DeleteFunc(stream.Counts, func(check canary.Check, _ analysis.Counts) bool { return !slices.Contains(checks, check) })
	}
	return of
}

// scrape is what one scrape of one process found.
type scrape struct {
	pod      string
	families families
	// at is when it was scraped, and asked when the query was evaluated, both by the
	// server's clock, in seconds since 1970.
	at, asked float64
}

// age of the scrape; very old if it is not known.
func (s scrape) age() time.Duration {
	seconds := s.asked - s.at
	if !(seconds >= 0 && seconds < 1e9) {
		return math.MaxInt64
	}
	return time.Duration(seconds * float64(time.Second))
}

// processesOf puts series back together to what each process exposed.
func processesOf(vector model.Vector) (map[string]*scrape, error) {
	found := map[string]*scrape{}
	for _, sample := range vector {
		own, target := splitLabels(sample.Metric)
		key := target.String()
		p := found[key]
		if p == nil {
			p = &scrape{pod: string(sample.Metric["pod"]), families: families{}, at: math.Inf(-1), asked: float64(sample.Timestamp) / 1000}
			found[key] = p
		}
		value := float64(sample.Value)
		if sample.Metric[kind] == kindScraped {
			p.at = value
			continue
		}
		if !p.families.put(string(sample.Metric[model.MetricNameLabel]), own, value) {
			return nil, errNoCounters
		}
	}
	return found, nil
}

// ownLabels are those that the flag service gives its metrics.
var ownLabels = []model.LabelName{"endpoint", "code", "track", "result", "revision", "le"}

// splitLabels tells the labels that the flag service gave from those of the
// target. Where both have a name, Prometheus puts "exported_" before the former;
// the Prometheus Operator gives every target an endpoint.
func splitLabels(series model.Metric) (own map[string]string, target model.Metric) {
	own, target = map[string]string{}, series.Clone()
	for _, name := range ownLabels {
		value, renamed := series[model.ExportedLabelPrefix+name]
		plain, ok := series[name]
		delete(target, model.ExportedLabelPrefix+name)
		if !renamed {
			value = plain
		}
		// A plain label beside a renamed one is the target's and says nothing about the
		// process; it is not in the key, because series without the label of their own
		// have it, too.
		delete(target, name)
		if renamed || ok {
			own[string(name)] = string(value)
		}
	}
	delete(target, model.MetricNameLabel)
	delete(target, kind)
	return own, target
}

// put adds a sample; it is false if that is no count.
func (f families) put(name string, labels map[string]string, value float64) bool {
	if name == metricStarted {
		f.add(name, &dto.Metric{Gauge: &dto.Gauge{Value: &value}})
		return true
	}
	if !isCount(value) {
		return false
	}
	histogram, isBucket := strings.CutSuffix(name, bucketSuffix)
	if !isBucket {
		f.add(name, &dto.Metric{Label: pairs(labels), Counter: &dto.Counter{Value: &value}})
		return true
	}
	bound, err := strconv.ParseFloat(labels["le"], 64)
	if err != nil {
		return false
	}
	delete(labels, "le")
	bucket := &dto.Bucket{UpperBound: &bound, CumulativeCount: ptr.To(uint64(value))}
	h := f.histogram(histogram, pairs(labels))
	h.Bucket = append(h.Bucket, bucket)
	return true
}

func (f families) add(name string, m *dto.Metric) {
	if f[name] == nil {
		f[name] = &dto.MetricFamily{}
	}
	f[name].Metric = append(f[name].Metric, m)
}

// histogram with some labels, made where it is missing.
func (f families) histogram(name string, labels []*dto.LabelPair) *dto.Histogram {
	for _, m := range f[name].GetMetric() {
		if slices.EqualFunc(m.GetLabel(), labels, func(a, b *dto.LabelPair) bool { return a.GetName() == b.GetName() && a.GetValue() == b.GetValue() }) {
			return m.GetHistogram()
		}
	}
	m := &dto.Metric{Label: labels, Histogram: &dto.Histogram{}}
	f.add(name, m)
	return m.GetHistogram()
}

func pairs(labels map[string]string) []*dto.LabelPair {
	var list []*dto.LabelPair
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, &dto.LabelPair{Name: ptr.To(name), Value: ptr.To(labels[name])})
	}
	return list
}
