// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

func TestCloudWatchSumsMinutesSinceTheCanaryStarted(t *testing.T) {
	target := aCloudWatchTarget()
	fakeAWS(t, func(w http.ResponseWriter, r *http.Request) {
		q := decodeRequest(t, r)
		if !q.StartTime.Equal(firstMinute) || !q.EndTime.Equal(endMinute) {
			t.Errorf("queried %s to %s", q.StartTime, q.EndTime)
		}
		total := q.MetricDataQueries[1].MetricStat
		dimensions := fmt.Sprint(total.Metric.Dimensions)
		n := 100.0
		switch dimensions {
		case "[{Revision " + target.Candidate + "} {Service shop/checkout}]":
			n = 5
		case "[{Revision " + target.Stable + "} {Service shop/checkout}]":
		default:
			t.Errorf("queried the dimensions %s", dimensions)
		}
		if total.Metric.Namespace != "Shop" || total.Metric.MetricName != "requests" || total.Period != 60 || total.Stat != "Sum" {
			t.Errorf("queried %+v", total)
		}
		sendCBOR(w, 200, encodeCBOR(t, metricDataResponse{MetricDataResults: []result{everyMinute("bad", q, 1), everyMinute("total", q, n)}}))
	})
	want := canary.Evidence{
		At: endMinute, Lag: 4 * time.Minute,
		Streams: []canary.Stream{
			{ID: "pod", Revision: target.Candidate, Counts: map[canary.Check]analysis.Counts{
				canary.LatencyP95: {Bad: 1, Total: 7}, canary.LatencyP99: {Bad: 1, Total: 7}, canary.CacheHitRate: {Bad: 1, Total: 7}, canary.MissLatencyP95: {Bad: 1, Total: 7},
			}},
			{ID: "cloudwatch/errorRate/8f2c1a3b/1780315220", Revision: target.Candidate, Monotonic: true,
				Counts: map[canary.Check]analysis.Counts{canary.ErrorRate: {Bad: 7, Total: 35}}},
			{ID: "cloudwatch/errorRate/5d1a9c00/1780315220", Revision: target.Stable, Monotonic: true, Local: 700,
				Counts: map[canary.Check]analysis.Counts{canary.ErrorRate: {Bad: 7, Total: 700}}},
		},
	}
	for _, now := range []time.Time{now, now, now.Add(29 * time.Second)} {
		// Each sample is that of a new source, without state of the others.
		if d := cmp.Diff(want, sampleAt(t.Context(), now, target)); d != "" {
			t.Errorf("at %s (-want +got):\n%s", now, d)
		}
	}
}

// Events that are published late are in the next sum, and none are counted twice.
func TestLateEventsAreCounted(t *testing.T) {
	var published atomic.Int64
	fakeAWS(t, func(w http.ResponseWriter, r *http.Request) {
		q := decodeRequest(t, r)
		total := everyMinute("total", q, 10)
		total.Values[len(total.Values)-1] = float64(published.Load())
		sendCBOR(w, 200, encodeCBOR(t, metricDataResponse{MetricDataResults: []result{everyMinute("bad", q, 0), total}}))
	})
	for _, c := range []struct {
		late int64
		want int64
	}{{0, 60}, {4, 64}, {10, 70}, {10, 70}} {
		published.Store(c.late)
		if got := countsOfRevision(sampleAt(t.Context(), now, aCloudWatchTarget()), "8f2c1a3b")[canary.ErrorRate].Total; got != c.want {
			t.Errorf("with %d events in the last minute the sum is %d, want %d", c.late, got, c.want)
		}
	}
}

func TestPagesOfOneResultAreCombined(t *testing.T) {
	fakeAWS(t, func(w http.ResponseWriter, r *http.Request) {
		q := decodeRequest(t, r)
		bad, total := everyMinute("bad", q, 1), everyMinute("total", q, 10)
		page := metricDataResponse{MetricDataResults: []result{bad, total}}
		half := func(r *result, status string, from, to int) {
			r.StatusCode, r.Timestamps, r.Values = status, r.Timestamps[from:to], r.Values[from:to]
		}
		if q.NextToken == "" {
			half(&page.MetricDataResults[1], "PartialData", 0, 3)
			page.NextToken = "more"
		} else {
			half(&page.MetricDataResults[1], "Complete", 3, 7)
			page.MetricDataResults = page.MetricDataResults[1:]
		}
		sendCBOR(w, 200, encodeCBOR(t, page))
	})
	sample := sampleAt(t.Context(), now, aCloudWatchTarget())
	if got := countsOfRevision(sample, "8f2c1a3b")[canary.ErrorRate]; got != (analysis.Counts{Bad: 7, Total: 70}) || sample.Missing != "" {
		t.Errorf("counted %+v, missing %q", got, sample.Missing)
	}
}

func TestMissingDataOfBadEvents(t *testing.T) {
	for name, c := range map[string]struct {
		expression string
		results    func(q metricDataRequest) []result
		missing    string
	}{
		"an empty series": {"", func(q metricDataRequest) []result {
			return []result{{ID: "bad", StatusCode: "Complete"}, everyMinute("total", q, 3)}
		}, ""},
		"a search without matches": {"SUM(SEARCH('r=$revision', 'Sum'))", func(q metricDataRequest) []result { return []result{everyMinute("total", q, 3)} }, ""},
		"a missing metric":         {"", func(q metricDataRequest) []result { return []result{everyMinute("total", q, 3)} }, errIncomplete.Error()},
		"no data about all events": {"", func(q metricDataRequest) []result { return []result{everyMinute("bad", q, 0)} }, errNoEvents.Error()},
		"an empty series of all events": {"", func(q metricDataRequest) []result {
			return []result{everyMinute("bad", q, 0), {ID: "total", StatusCode: "Complete"}}
		}, errNoEvents.Error()},
		"an expression with FILL": {"FILL(SUM(SEARCH('r=$revision', 'Sum')), 0)", func(q metricDataRequest) []result {
			return []result{everyMinute("bad", q, 0), everyMinute("total", q, 3)}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			target := aCloudWatchTarget()
			if c.expression != "" {
				target.CloudWatch.Queries["errorRate.bad"] = v1alpha1.CloudWatchQuery{Expression: c.expression}
			}
			fakeAWS(t, func(w http.ResponseWriter, r *http.Request) {
				q := decodeRequest(t, r)
				if bad := q.MetricDataQueries[0]; c.expression != "" && (strings.Contains(bad.Expression, "$") || bad.Period != 60) {
					t.Errorf("queried %+v", bad)
				}
				sendCBOR(w, 200, encodeCBOR(t, metricDataResponse{MetricDataResults: c.results(q)}))
			})
			sample := sampleAt(t.Context(), now, target)
			want := analysis.Counts{Total: 21}
			if c.missing != "" {
				want, c.missing = analysis.Counts{}, "errorRate: "+c.missing
			}
			if got := countsOfRevision(sample, "8f2c1a3b")[canary.ErrorRate]; got != want || sample.Missing != c.missing {
				t.Errorf("counted %+v, missing %q", got, sample.Missing)
			}
		})
	}
}

// invalidResponses are responses of CloudWatch with the expected message.
func invalidResponses(t *testing.T) map[string]struct {
	respond func(w http.ResponseWriter, r *http.Request, q metricDataRequest)
	want    error
} {
	type responder = func(w http.ResponseWriter, r *http.Request, q metricDataRequest)
	changed := func(change func(bad, total *result)) responder {
		return func(w http.ResponseWriter, _ *http.Request, q metricDataRequest) {
			results := []result{everyMinute("bad", q, 1), everyMinute("total", q, 10)}
			change(&results[0], &results[1])
			sendCBOR(w, 200, encodeCBOR(t, metricDataResponse{MetricDataResults: results}))
		}
	}
	value := func(v float64) responder { return changed(func(_, total *result) { total.Values[2] = v }) }
	bad := func(v float64) responder { return changed(func(bad, _ *result) { bad.Values[2] = v }) }
	at := func(at time.Time) responder { return changed(func(_, total *result) { total.Timestamps[2] = at }) }
	whole := func(change func(*metricDataResponse)) responder {
		return func(w http.ResponseWriter, _ *http.Request, q metricDataRequest) {
			a := metricDataResponse{MetricDataResults: []result{everyMinute("bad", q, 1), everyMinute("total", q, 10)}}
			change(&a)
			sendCBOR(w, 200, encodeCBOR(t, a))
		}
	}
	fails := func(status int, code string) responder {
		return func(w http.ResponseWriter, _ *http.Request, _ metricDataRequest) {
			sendCBOR(w, status, encodeCBOR(t, map[string]string{"__type": "com.amazonaws.cloudwatch#" + code, "message": "secret"}))
		}
	}
	respondWith := func(status int, body string) responder {
		return func(w http.ResponseWriter, _ *http.Request, _ metricDataRequest) { sendCBOR(w, status, []byte(body)) }
	}
	return map[string]struct {
		respond responder
		want    error
	}{
		"not a number":                     {value(math.NaN()), errNotCounts},
		"infinite":                         {value(math.Inf(1)), errNotCounts},
		"negative infinite":                {bad(math.Inf(-1)), errNotCounts},
		"negative":                         {value(-1), errNotCounts},
		"a fraction":                       {value(0.5), errNotCounts},
		"inexact":                          {value(1e308), errNotCounts},
		"an inexact sum":                   {changed(func(_, total *result) { total.Values[1], total.Values[2] = 1<<53, 1 }), errNotCounts},
		"bad events that are not a number": {bad(math.NaN()), errNotCounts},
		"more bad events than events":      {bad(1000), errBadExceedsTotal},
		"before the canary":                {at(firstMinute.Add(-time.Minute)), errTimestamps},
		"an incomplete minute":             {at(endMinute), errTimestamps},
		"half a minute":                    {at(firstMinute.Add(90 * time.Second)), errTimestamps},
		"a duplicate minute":               {at(firstMinute), errTimestamps},
		"more timestamps than values":      {changed(func(_, total *result) { total.Values = total.Values[1:] }), errNotCounts},
		"partial data":                     {changed(func(_, total *result) { total.StatusCode = "PartialData" }), errIncomplete},
		"partial data of bad events":       {changed(func(bad, _ *result) { bad.StatusCode = "PartialData" }), errIncomplete},
		"an error in a result":             {changed(func(_, total *result) { total.StatusCode = "InternalError" }), errIncomplete},
		"no status":                        {changed(func(_, total *result) { total.StatusCode = "" }), errIncomplete},
		"forbidden":                        {changed(func(bad, _ *result) { bad.StatusCode = "Forbidden" }), errForbidden},
		"a message about a result":         {changed(func(bad, _ *result) { bad.Messages = []message{{"ArithmeticError", "secret"}} }), errIncomplete},
		"a message":                        {whole(func(a *metricDataResponse) { a.Messages = []message{{"MaxMetricsExceeded", "secret"}} }), errIncomplete},
		"several series": {whole(func(a *metricDataResponse) {
			a.MetricDataResults = append(a.MetricDataResults, result{ID: "total", Label: "other", StatusCode: "Complete"})
		}), errSeveralSeries},
		"the same series twice": {whole(func(a *metricDataResponse) { a.MetricDataResults = append(a.MetricDataResults, a.MetricDataResults[1]) }), errTimestamps},
		"a result of no query": {whole(func(a *metricDataResponse) {
			a.MetricDataResults = append(a.MetricDataResults, result{ID: "x", StatusCode: "Complete"})
		}), errNotCounts},
		"no results":                      {whole(func(a *metricDataResponse) { a.MetricDataResults = nil }), errIncomplete},
		"endless pages":                   {whole(func(a *metricDataResponse) { a.NextToken, a.MetricDataResults = "more", nil }), errResponseTooLarge},
		"throttled":                       {fails(400, "ThrottlingException"), errThrottled},
		"throttled by the query protocol": {fails(400, "Throttling"), errThrottled},
		"not allowed":                     {fails(403, "AccessDeniedException"), errForbidden},
		"an expired token":                {fails(403, "ExpiredTokenException"), errCredentials},
		"an invalid query":                {fails(400, "ValidationError"), errRejected},
		"an invalid parameter":            {fails(400, "InvalidParameterValueException"), errRejected},
		"an internal error":               {fails(500, "InternalServiceFault"), errNoResponse},
		"unavailable":                     {fails(503, "ServiceUnavailable"), errNoResponse},
		"a gateway error":                 {respondWith(502, "<html>secret</html>"), errNoResponse},
		"HTML":                            {respondWith(200, "<html>secret</html>"), errNoResponse},
		"a truncated response":            {respondWith(200, string(encodeCBOR(t, metricDataResponse{NextToken: "x", MetricDataResults: []result{{ID: "bad"}}})[:20])), errNoResponse},
		"an oversized response":           {respondWith(200, strings.Repeat(" ", maxResponseBytes+1)), errResponseTooLarge},
		"an oversized error":              {respondWith(400, strings.Repeat(" ", maxResponseBytes+1)), errResponseTooLarge},
		"a decompression bomb": {func(w http.ResponseWriter, _ *http.Request, _ metricDataRequest) {
			var packed bytes.Buffer
			zip := gzip.NewWriter(&packed)
			_, _ = io.WriteString(zip, strings.Repeat(" ", maxResponseBytes+1))
			_ = zip.Close()
			w.Header().Set("Content-Encoding", "gzip")
			sendCBOR(w, 200, packed.Bytes())
		}, nil},
		"a closed connection": {func(http.ResponseWriter, *http.Request, metricDataRequest) { panic(http.ErrAbortHandler) }, errNoResponse},
		"no response":         {func(_ http.ResponseWriter, r *http.Request, _ metricDataRequest) { <-r.Context().Done() }, errNoResponse},
		"a stalled response": {func(w http.ResponseWriter, r *http.Request, _ metricDataRequest) {
			sendCBOR(w, 200, []byte{0xa1})
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, errNoResponse},
	}
}

func TestInvalidCloudWatchResponseIsAbsent(t *testing.T) {
	cases := invalidResponses(t)
	names := make([]string, 0, len(cases))
	for name := range cases {
		names = append(names, name)
	}
	slices.Sort(names)
	// All cases share one server, because the SDK is configured by environment
	// variables: the name of the FlagCache selects the case.
	fakeAWS(t, func(w http.ResponseWriter, r *http.Request) {
		q := decodeRequest(t, r)
		var number int
		if _, err := fmt.Sscanf(q.MetricDataQueries[0].MetricStat.Metric.Dimensions[1].Value, "shop/case-%d", &number); err != nil {
			t.Errorf("request %+v of no case", q)
			return
		}
		cases[names[number]].respond(w, r, q)
	})
	for number, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := aCloudWatchTarget()
			target.FlagCache.Name = fmt.Sprintf("case-%d", number)
			sample := sampleAt(t.Context(), now, target)
			counted := countsOfRevision(sample, target.Candidate)
			if _, ok := counted[canary.ErrorRate]; ok {
				t.Errorf("counted %+v", counted)
			}
			if counted[canary.LatencyP95].Total != 7 {
				t.Error("the checks of the pods are missing as well")
			}
			switch want := cases[name].want; {
			case sample.Missing == "", strings.Contains(sample.Missing, "secret"):
				t.Errorf("missing %q", sample.Missing)
			case want != nil && sample.Missing != "errorRate: "+want.Error():
				t.Errorf("missing %q, want %q", sample.Missing, want)
			}
		})
	}
}

func TestMissingCloudWatchConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Target)
		want   error
	}{
		"credentials": {func(*Target) {}, errCredentials},
		"a region":    {func(t *Target) { t.CloudWatch.Region = "" }, errNoRegion},
		"minutes":     {func(t *Target) { t.Since = t.Since.Add(-15 * 24 * time.Hour) }, errCanaryTooOld},
	} {
		t.Run(name, func(t *testing.T) {
			withoutAWS(t)
			target := aCloudWatchTarget()
			c.change(&target)
			sample := sampleAt(t.Context(), now, target)
			if sample.Missing != c.want.Error() || countsOfRevision(sample, target.Candidate)[canary.LatencyP95].Total != 7 {
				t.Errorf("got %+v", sample)
			}
		})
	}
}

func TestCloudWatchIsNotQueriedBeforeAMinuteIsComplete(t *testing.T) {
	fakeAWS(t, func(http.ResponseWriter, *http.Request) { t.Error("queried minutes that are not complete") })
	for _, after := range []time.Duration{0, time.Minute, 3*time.Minute + 39*time.Second} {
		if sample := sampleAt(t.Context(), canaryStart.Add(after), aCloudWatchTarget()); sample.Missing != "" || len(sample.Streams) != 1 {
			t.Errorf("after %s: %+v", after, sample)
		}
	}
}

func TestQueriedMinutes(t *testing.T) {
	for name, c := range map[string]struct {
		since, now, from, until string
	}{
		"at the full minute":               {"12:00:00", "12:05:00", "12:00", "12:03"},
		"just after it":                    {"12:00:01", "12:05:59", "12:01", "12:03"},
		"just before it":                   {"12:00:59", "12:06:00", "12:01", "12:04"},
		"before the first complete minute": {"12:05:00", "12:05:00", "12:05", "12:03"},
	} {
		clock := func(text string) time.Time {
			at, err := time.Parse("15:04:05", text)
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		from, until := minutes(clock(c.since), clock(c.now))
		if got := from.Format("15:04") + " " + until.Format("15:04"); got != c.from+" "+c.until {
			t.Errorf("%s: %s", name, got)
		}
	}
}
