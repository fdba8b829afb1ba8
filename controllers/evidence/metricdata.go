// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

// countsQuery is a query of the events of a check.
type countsQuery struct {
	client *cloudwatch.Client
	// receiving and decoding: see boundedClient.
	receiving, decoding *turn
}

// bound limits the memory that the responses of a request cost.
func (q countsQuery) bound(o *cloudwatch.Options) {
	o.HTTPClient = boundedClient{next: o.HTTPClient, receiving: q.receiving, decoding: q.decoding}
}

// run returns the events of a check since the canary started.
func (q countsQuery) run(ctx context.Context, check canary.Check, revision string, t Target, from, until time.Time) (analysis.Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	defer q.receiving.end()
	defer q.decoding.end()
	sums := map[string]*minuteSum{}
	input := &cloudwatch.GetMetricDataInput{StartTime: &from, EndTime: &until, ScanBy: types.ScanByTimestampAscending}
	for _, part := range []string{partBad, partTotal} {
		query := t.CloudWatch.Queries[string(check)+"."+part]
		sums[part] = &minuteSum{from: from, until: until, seen: make([]bool, until.Sub(from)/minute), search: query.Expression != ""}
		input.MetricDataQueries = append(input.MetricDataQueries, metricQuery(part, query, revision, t))
	}
	for range maxPages {
		page, err := q.client.GetMetricData(ctx, input, q.bound)
		if err != nil {
			return analysis.Counts{}, fmt.Errorf("querying CloudWatch: %w", err)
		}
		if len(page.Messages) > 0 {
			return analysis.Counts{}, errIncomplete
		}
		for _, result := range page.MetricDataResults {
			if err := sums[aws.ToString(result.Id)].add(result); err != nil {
				return analysis.Counts{}, err
			}
		}
		if aws.ToString(page.NextToken) == "" {
			return countsOf(sums[partBad], sums[partTotal])
		}
		input.NextToken = page.NextToken
	}
	return analysis.Counts{}, errResponseTooLarge
}

// metricQuery converts a query to CloudWatch's API.
func metricQuery(id string, q v1alpha1.CloudWatchQuery, revision string, t Target) types.MetricDataQuery {
	query := types.MetricDataQuery{Id: aws.String(id)}
	period := aws.Int32(int32(minute.Seconds()))
	if q.Expression != "" {
		query.Expression, query.Period = aws.String(fill(q.Expression, revision, t)), period
		return query
	}
	metric := &types.Metric{Namespace: aws.String(t.CloudWatch.Namespace), MetricName: aws.String(q.Metric)}
	for _, name := range slices.Sorted(maps.Keys(q.Dimensions)) {
		value := fill(string(q.Dimensions[name]), revision, t)
		metric.Dimensions = append(metric.Dimensions, types.Dimension{Name: aws.String(name), Value: aws.String(value)})
	}
	query.MetricStat = &types.MetricStat{Metric: metric, Period: period, Stat: aws.String(cmp.Or(q.Statistic, "Sum"))}
	return query
}

// minuteSum adds up the minutes of one query, which may span several pages.
type minuteSum struct {
	from, until time.Time
	// search is set if the query is an expression, which may match no metric.
	search bool
	// label of the series, nil before the first result.
	label *string
	// complete is the state of the last result.
	complete bool
	// seen are the minutes with data, and minutes is their number.
	seen    []bool
	minutes int
	events  int64
}

// add adds the minutes of a result. A partial result must be completed by a later
// page.
func (s *minuteSum) add(r types.MetricDataResult) error {
	switch {
	case s == nil, len(r.Timestamps) != len(r.Values):
		return errNotCounts
	case r.StatusCode == types.StatusCodeForbidden:
		return errForbidden
	case len(r.Messages) > 0, r.StatusCode != types.StatusCodeComplete && r.StatusCode != types.StatusCodePartialData:
		return errIncomplete
	case s.label != nil && *s.label != aws.ToString(r.Label):
		return errSeveralSeries
	}
	s.label, s.complete = aws.String(aws.ToString(r.Label)), r.StatusCode == types.StatusCodeComplete
	for i, at := range r.Timestamps {
		at = at.UTC()
		if at.Before(s.from) || !at.Before(s.until) || !at.Equal(at.Truncate(minute)) || s.seen[at.Sub(s.from)/minute] {
			return errTimestamps
		}
		s.seen[at.Sub(s.from)/minute] = true
		s.minutes++
		if !isCount(r.Values[i]) {
			return errNotCounts
		}
		if s.events += int64(r.Values[i]); s.events > maxEvents {
			return errNotCounts
		}
	}
	return nil
}

// countsOf combines the sums of both queries. Events without data about bad ones mean
// that none were bad: most error metrics have no data for minutes without errors.
func countsOf(bad, total *minuteSum) (analysis.Counts, error) {
	switch {
	case total.label != nil && !total.complete, bad.label != nil && !bad.complete, bad.label == nil && !bad.search:
		return analysis.Counts{}, errIncomplete
	case total.minutes == 0:
		return analysis.Counts{}, errNoEvents
	case bad.events > total.events:
		return analysis.Counts{}, errBadExceedsTotal
	}
	return analysis.Counts{Bad: bad.events, Total: total.events}, nil
}
