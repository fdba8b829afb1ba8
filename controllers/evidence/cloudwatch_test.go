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

func TestAddsUpWholeMinutesSinceTheCanaryBegan(t *testing.T) {
	target := aCloudWatchTarget()
	anAWS(t, func(w http.ResponseWriter, r *http.Request) {
		q := received(t, r)
		if !q.StartTime.Equal(first) || !q.EndTime.Equal(behind) {
			t.Errorf("asked for %s to %s", q.StartTime, q.EndTime)
		}
		total := q.MetricDataQueries[1].MetricStat
		dimensions := fmt.Sprint(total.Metric.Dimensions)
		n := 100.0
		switch dimensions {
		case "[{Revision " + target.Candidate + "} {Service shop/checkout}]":
			n = 5
		case "[{Revision " + target.Stable + "} {Service shop/checkout}]":
		default:
			t.Errorf("asked for the dimensions %s", dimensions)
		}
		if total.Metric.Namespace != "Shop" || total.Metric.MetricName != "requests" || total.Period != 60 || total.Stat != "Sum" {
			t.Errorf("asked for %+v", total)
		}
		sendCBOR(w, 200, encoded(t, metricDataAnswer{MetricDataResults: []result{perMinute("bad", q, 1), perMinute("total", q, n)}}))
	})
	want := Sample{
		At: behind, Lag: 4 * time.Minute,
		Streams: []Stream{
			{ID: "pod", Revision: target.Candidate, Counts: map[canary.Check]analysis.Counts{
				canary.LatencyP95: {Bad: 1, Total: 7}, canary.LatencyP99: {Bad: 1, Total: 7}, canary.CacheHitRate: {Bad: 1, Total: 7}, canary.MissLatencyP95: {Bad: 1, Total: 7},
			}},
			{ID: "cloudwatch/errorRate/8f2c1a3b/1780315220", Revision: target.Candidate, Lasting: true,
				Counts: map[canary.Check]analysis.Counts{canary.ErrorRate: {Bad: 7, Total: 35}}},
			{ID: "cloudwatch/errorRate/5d1a9c00/1780315220", Revision: target.Stable, Lasting: true, Kept: 700,
				Counts: map[canary.Check]analysis.Counts{canary.ErrorRate: {Bad: 7, Total: 700}}},
		},
	}
	for _, now := range []time.Time{itIs, itIs, itIs.Add(29 * time.Second)} {
		// Each is an operator that was just started, and none knows of the others.
		if d := cmp.Diff(want, sampledAt(t.Context(), now, target)); d != "" {
			t.Errorf("at %s (-want +got):\n%s", now, d)
		}
	}
}

// What becomes known late of a minute is in the next sum, and what is known is never
// in it twice.
func TestWhatIsPublishedLateIsCountedWhenItIsKnown(t *testing.T) {
	var published atomic.Int64
	anAWS(t, func(w http.ResponseWriter, r *http.Request) {
		q := received(t, r)
		total := perMinute("total", q, 10)
		total.Values[len(total.Values)-1] = float64(published.Load())
		sendCBOR(w, 200, encoded(t, metricDataAnswer{MetricDataResults: []result{perMinute("bad", q, 0), total}}))
	})
	for _, c := range []struct {
		late int64
		want int64
	}{{0, 60}, {4, 64}, {10, 70}, {10, 70}} {
		published.Store(c.late)
		if got := countsAbout(sampledAt(t.Context(), itIs, aCloudWatchTarget()), "8f2c1a3b")[canary.ErrorRate].Total; got != c.want {
			t.Errorf("%d events are known of the last minute, and %d of all, want %d", c.late, got, c.want)
		}
	}
}

func TestPutsPagesTogether(t *testing.T) {
	anAWS(t, func(w http.ResponseWriter, r *http.Request) {
		q := received(t, r)
		bad, total := perMinute("bad", q, 1), perMinute("total", q, 10)
		answer := metricDataAnswer{MetricDataResults: []result{bad, total}}
		half := func(r *result, status string, from, to int) {
			r.StatusCode, r.Timestamps, r.Values = status, r.Timestamps[from:to], r.Values[from:to]
		}
		if q.NextToken == "" {
			half(&answer.MetricDataResults[1], "PartialData", 0, 3)
			answer.NextToken = "more"
		} else {
			half(&answer.MetricDataResults[1], "Complete", 3, 7)
			answer.MetricDataResults = answer.MetricDataResults[1:]
		}
		sendCBOR(w, 200, encoded(t, answer))
	})
	sample := sampledAt(t.Context(), itIs, aCloudWatchTarget())
	if got := countsAbout(sample, "8f2c1a3b")[canary.ErrorRate]; got != (analysis.Counts{Bad: 7, Total: 70}) || sample.Trouble != "" {
		t.Errorf("counted %+v, trouble %q", got, sample.Trouble)
	}
}

func TestNoBadEventsAreNoneOfThem(t *testing.T) {
	for name, c := range map[string]struct {
		expression string
		results    func(q metricDataRequest) []result
		trouble    string
	}{
		"an empty series": {"", func(q metricDataRequest) []result {
			return []result{{ID: "bad", StatusCode: "Complete"}, perMinute("total", q, 3)}
		}, ""},
		"a search that finds nothing": {"SUM(SEARCH('r=$revision', 'Sum'))", func(q metricDataRequest) []result { return []result{perMinute("total", q, 3)} }, ""},
		"a metric that is left out":   {"", func(q metricDataRequest) []result { return []result{perMinute("total", q, 3)} }, errUnfinished.Error()},
		"nothing about all events":    {"", func(q metricDataRequest) []result { return []result{perMinute("bad", q, 0)} }, errNoEvents.Error()},
		"an empty series of all": {"", func(q metricDataRequest) []result {
			return []result{perMinute("bad", q, 0), {ID: "total", StatusCode: "Complete"}}
		}, errNoEvents.Error()},
		"an expression that is filled": {"FILL(SUM(SEARCH('r=$revision', 'Sum')), 0)", func(q metricDataRequest) []result { return []result{perMinute("bad", q, 0), perMinute("total", q, 3)} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			target := aCloudWatchTarget()
			if c.expression != "" {
				target.CloudWatch.Queries["errorRate.bad"] = v1alpha1.CloudWatchQuery{Expression: c.expression}
			}
			anAWS(t, func(w http.ResponseWriter, r *http.Request) {
				q := received(t, r)
				if bad := q.MetricDataQueries[0]; c.expression != "" && (strings.Contains(bad.Expression, "$") || bad.Period != 60) {
					t.Errorf("asked for %+v", bad)
				}
				sendCBOR(w, 200, encoded(t, metricDataAnswer{MetricDataResults: c.results(q)}))
			})
			sample := sampledAt(t.Context(), itIs, target)
			want := analysis.Counts{Total: 21}
			if c.trouble != "" {
				want, c.trouble = analysis.Counts{}, "errorRate: "+c.trouble
			}
			if got := countsAbout(sample, "8f2c1a3b")[canary.ErrorRate]; got != want || sample.Trouble != c.trouble {
				t.Errorf("counted %+v, trouble %q", got, sample.Trouble)
			}
		})
	}
}

// badAnswers of CloudWatch, and what is said of each.
func badAnswers(t *testing.T) map[string]struct {
	answer func(w http.ResponseWriter, r *http.Request, q metricDataRequest)
	want   error
} {
	type answer = func(w http.ResponseWriter, r *http.Request, q metricDataRequest)
	changed := func(change func(bad, total *result)) answer {
		return func(w http.ResponseWriter, _ *http.Request, q metricDataRequest) {
			results := []result{perMinute("bad", q, 1), perMinute("total", q, 10)}
			change(&results[0], &results[1])
			sendCBOR(w, 200, encoded(t, metricDataAnswer{MetricDataResults: results}))
		}
	}
	value := func(v float64) answer { return changed(func(_, total *result) { total.Values[2] = v }) }
	bad := func(v float64) answer { return changed(func(bad, _ *result) { bad.Values[2] = v }) }
	at := func(at time.Time) answer { return changed(func(_, total *result) { total.Timestamps[2] = at }) }
	whole := func(change func(*metricDataAnswer)) answer {
		return func(w http.ResponseWriter, _ *http.Request, q metricDataRequest) {
			a := metricDataAnswer{MetricDataResults: []result{perMinute("bad", q, 1), perMinute("total", q, 10)}}
			change(&a)
			sendCBOR(w, 200, encoded(t, a))
		}
	}
	fails := func(status int, code string) answer {
		return func(w http.ResponseWriter, _ *http.Request, _ metricDataRequest) {
			sendCBOR(w, status, encoded(t, map[string]string{"__type": "com.amazonaws.cloudwatch#" + code, "message": "secret"}))
		}
	}
	says := func(status int, body string) answer {
		return func(w http.ResponseWriter, _ *http.Request, _ metricDataRequest) { sendCBOR(w, status, []byte(body)) }
	}
	return map[string]struct {
		answer answer
		want   error
	}{
		"not a number":                   {value(math.NaN()), errNoNumbers},
		"infinite":                       {value(math.Inf(1)), errNoNumbers},
		"negative infinite":              {bad(math.Inf(-1)), errNoNumbers},
		"negative":                       {value(-1), errNoNumbers},
		"a fraction":                     {value(0.5), errNoNumbers},
		"inexact":                        {value(1e308), errNoNumbers},
		"too many in all":                {changed(func(_, total *result) { total.Values[1], total.Values[2] = 1<<53, 1 }), errNoNumbers},
		"bad ones that are not a number": {bad(math.NaN()), errNoNumbers},
		"more bad ones than events":      {bad(1000), errMoreBad},
		"before the canary":              {at(first.Add(-time.Minute)), errTimes},
		"a minute that is not over":      {at(behind), errTimes},
		"half a minute":                  {at(first.Add(90 * time.Second)), errTimes},
		"a minute twice":                 {at(first), errTimes},
		"more times than values":         {changed(func(_, total *result) { total.Values = total.Values[1:] }), errNoNumbers},
		"partial":                        {changed(func(_, total *result) { total.StatusCode = "PartialData" }), errUnfinished},
		"partial about bad ones":         {changed(func(bad, _ *result) { bad.StatusCode = "PartialData" }), errUnfinished},
		"an error in a result":           {changed(func(_, total *result) { total.StatusCode = "InternalError" }), errUnfinished},
		"no status":                      {changed(func(_, total *result) { total.StatusCode = "" }), errUnfinished},
		"forbidden":                      {changed(func(bad, _ *result) { bad.StatusCode = "Forbidden" }), errForbidden},
		"a message about a result":       {changed(func(bad, _ *result) { bad.Messages = []message{{"ArithmeticError", "secret"}} }), errUnfinished},
		"a message":                      {whole(func(a *metricDataAnswer) { a.Messages = []message{{"MaxMetricsExceeded", "secret"}} }), errUnfinished},
		"several series": {whole(func(a *metricDataAnswer) {
			a.MetricDataResults = append(a.MetricDataResults, result{ID: "total", Label: "other", StatusCode: "Complete"})
		}), errSeveral},
		"the same series twice": {whole(func(a *metricDataAnswer) { a.MetricDataResults = append(a.MetricDataResults, a.MetricDataResults[1]) }), errTimes},
		"what was not asked for": {whole(func(a *metricDataAnswer) {
			a.MetricDataResults = append(a.MetricDataResults, result{ID: "x", StatusCode: "Complete"})
		}), errNoNumbers},
		"nothing in it":                   {whole(func(a *metricDataAnswer) { a.MetricDataResults = nil }), errUnfinished},
		"pages without an end":            {whole(func(a *metricDataAnswer) { a.NextToken, a.MetricDataResults = "more", nil }), errLargeAnswer},
		"throttled":                       {fails(400, "ThrottlingException"), errThrottled},
		"throttled by the query protocol": {fails(400, "Throttling"), errThrottled},
		"not allowed":                     {fails(403, "AccessDeniedException"), errForbidden},
		"a token that is over":            {fails(403, "ExpiredTokenException"), errCredentials},
		"a query that is wrong":           {fails(400, "ValidationError"), errRefused},
		"a parameter that is wrong":       {fails(400, "InvalidParameterValueException"), errRefused},
		"an error of its own":             {fails(500, "InternalServiceFault"), errSilent},
		"unavailable":                     {fails(503, "ServiceUnavailable"), errSilent},
		"a gateway's error":               {says(502, "<html>secret</html>"), errSilent},
		"HTML":                            {says(200, "<html>secret</html>"), errSilent},
		"half an answer":                  {says(200, string(encoded(t, metricDataAnswer{NextToken: "x", MetricDataResults: []result{{ID: "bad"}}})[:20])), errSilent},
		"too much":                        {says(200, strings.Repeat(" ", mostAnswerBytes+1)), errLargeAnswer},
		"too much of an error":            {says(400, strings.Repeat(" ", mostAnswerBytes+1)), errLargeAnswer},
		"a bomb": {func(w http.ResponseWriter, _ *http.Request, _ metricDataRequest) {
			var packed bytes.Buffer
			zip := gzip.NewWriter(&packed)
			_, _ = io.WriteString(zip, strings.Repeat(" ", mostAnswerBytes+1))
			_ = zip.Close()
			w.Header().Set("Content-Encoding", "gzip")
			sendCBOR(w, 200, packed.Bytes())
		}, nil},
		"a hang-up": {func(http.ResponseWriter, *http.Request, metricDataRequest) { panic(http.ErrAbortHandler) }, errSilent},
		"silence":   {func(_ http.ResponseWriter, r *http.Request, _ metricDataRequest) { <-r.Context().Done() }, errSilent},
		"a trickle": {func(w http.ResponseWriter, r *http.Request, _ metricDataRequest) {
			sendCBOR(w, 200, []byte{0xa1})
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, errSilent},
	}
}

func TestWhatIsNoGoodAnswerOfCloudWatchIsAbsent(t *testing.T) {
	cases := badAnswers(t)
	names := make([]string, 0, len(cases))
	for name := range cases {
		names = append(names, name)
	}
	slices.Sort(names)
	// One server for all, so that the SDK's settings are those of the whole test: the
	// name of the FlagCache says which case is meant.
	anAWS(t, func(w http.ResponseWriter, r *http.Request) {
		q := received(t, r)
		var number int
		if _, err := fmt.Sscanf(q.MetricDataQueries[0].MetricStat.Metric.Dimensions[1].Value, "shop/case-%d", &number); err != nil {
			t.Errorf("whose request is %+v?", q)
			return
		}
		cases[names[number]].answer(w, r, q)
	})
	for number, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := aCloudWatchTarget()
			target.FlagCache.Name = fmt.Sprintf("case-%d", number)
			sample := sampledAt(t.Context(), itIs, target)
			counted := countsAbout(sample, target.Candidate)
			if _, ok := counted[canary.ErrorRate]; ok {
				t.Errorf("counted %+v", counted)
			}
			if counted[canary.LatencyP95].Total != 7 {
				t.Error("what the pods count is gone as well")
			}
			switch want := cases[name].want; {
			case sample.Trouble == "", strings.Contains(sample.Trouble, "secret"):
				t.Errorf("trouble %q", sample.Trouble)
			case want != nil && sample.Trouble != "errorRate: "+want.Error():
				t.Errorf("trouble %q, want %q", sample.Trouble, want)
			}
		})
	}
}

func TestSaysWhatTheOperatorLacks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Target)
		want   error
	}{
		"credentials": {func(*Target) {}, errCredentials},
		"a region":    {func(t *Target) { t.CloudWatch.Region = "" }, errNoRegion},
		"minutes":     {func(t *Target) { t.Since = t.Since.Add(-15 * 24 * time.Hour) }, errLongCanary},
	} {
		t.Run(name, func(t *testing.T) {
			withoutAWS(t)
			target := aCloudWatchTarget()
			c.change(&target)
			sample := sampledAt(t.Context(), itIs, target)
			if sample.Trouble != c.want.Error() || countsAbout(sample, target.Candidate)[canary.LatencyP95].Total != 7 {
				t.Errorf("got %+v", sample)
			}
		})
	}
}

func TestAsksNothingBeforeAMinuteIsOver(t *testing.T) {
	anAWS(t, func(http.ResponseWriter, *http.Request) { t.Error("it asks about minutes that are not over") })
	for _, after := range []time.Duration{0, time.Minute, 3*time.Minute + 39*time.Second} {
		if sample := sampledAt(t.Context(), began.Add(after), aCloudWatchTarget()); sample.Trouble != "" || len(sample.Streams) != 1 {
			t.Errorf("after %s: %+v", after, sample)
		}
	}
}

// A canary that begins anew asks for minutes of its own, and has streams of its own.
func TestEachCanaryHasItsOwnMinutes(t *testing.T) {
	for name, c := range map[string]struct {
		since, now, from, until string
	}{
		"at the full minute": {"12:00:00", "12:05:00", "12:00", "12:03"},
		"just after it":      {"12:00:01", "12:05:59", "12:01", "12:03"},
		"just before it":     {"12:00:59", "12:06:00", "12:01", "12:04"},
		"before all":         {"12:05:00", "12:05:00", "12:05", "12:03"},
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
