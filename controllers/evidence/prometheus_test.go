// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// anAnswer is Prometheus' to a query: samples of what the default query asks for,
// evaluated and scraped some time ago.
func anAnswer(evaluated, scraped time.Duration, value string) string {
	at := float64(time.Now().Add(-evaluated).UnixMilli()) / 1000
	sample := func(labels, value string) string {
		return fmt.Sprintf(`{"metric":{%s"namespace":"shop","pod":"p"},"value":[%f,%q]}`, labels, at, value)
	}
	return vector(
		sample(`"__name__":"process_start_time_seconds",`, "1795432369"),
		sample(`"__name__":"ofrep_requests_total","endpoint":"single","code":"200",`, value),
		sample(`"flagcache":"scraped",`, fmt.Sprint(at-scraped.Seconds())),
	)
}

func vector(samples ...string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
}

// asked is the sample that comes of one server's answers.
func asked(t *testing.T, answer http.HandlerFunc) Sample {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return askedAt(t, server.URL)
}

func askedAt(t *testing.T, address string) Sample {
	t.Helper()
	target := aTarget()
	target.Split = false
	target.Prometheus = &v1alpha1.PrometheusSpec{Address: address}
	p := &Prometheus{Clock: clock.RealClock{}, HTTP: fromHere(NewPrometheusHTTPClient())}
	return p.Sample(t.Context(), target)
}

func TestAGoodAnswerCounts(t *testing.T) {
	sample := asked(t, says(anAnswer(0, 10*time.Second, "7")))
	if got := countsAbout(sample, "8f2c1a3b")[canary.ErrorRate]; got.Total != 7 || sample.Trouble != "" {
		t.Errorf("counted %+v, trouble %q", got, sample.Trouble)
	}
}

func TestWhatIsNoGoodAnswerIsAbsent(t *testing.T) {
	const unreachable = "Prometheus does not answer at canary.metrics.prometheus.address"
	good := anAnswer(0, 0, "7")
	result := func(kind, result string) http.HandlerFunc {
		return says(`{"status":"success","data":{"resultType":"` + kind + `","result":` + result + `}}`)
	}
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); _, _ = io.WriteString(w, body) }
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a scalar":              {result("scalar", `[1,"1"]`), errNoVector.Error()},
		"a string":              {result("string", `[1,"a"]`), unreachable},
		"a matrix":              {result("matrix", `[]`), errNoVector.Error()},
		"an empty vector":       {result("vector", `[]`), errNothing.Error()},
		"null":                  {result("vector", `null`), errNothing.Error()},
		"an unknown type":       {result("tensor", `[]`), unreachable},
		"a histogram":           {says(vector(fmt.Sprintf(`{"metric":{},"histogram":[%d,{"count":"1","sum":"1","buckets":[]}]}`, time.Now().Unix()))), errNoCounters.Error()},
		"no value":              {says(vector(`{"metric":{},"value":[1,""]}`)), unreachable},
		"a number":              {says(vector(`{"metric":{},"value":[1,1]}`)), unreachable},
		"not a number":          {says(anAnswer(0, 0, "NaN")), errNoCounters.Error()},
		"infinite":              {says(anAnswer(0, 0, "+Inf")), errNoCounters.Error()},
		"negative":              {says(anAnswer(0, 0, "-1")), errNoCounters.Error()},
		"inexact":               {says(anAnswer(0, 0, "1e308")), errNoCounters.Error()},
		"a fraction":            {says(anAnswer(0, 0, "0.5")), errNoCounters.Error()},
		"a warning":             {says(strings.Replace(good, `"data"`, `"warnings":["a store did not answer"],"data"`, 1)), errPartial.Error()},
		"a late scrape":         {says(anAnswer(0, 30*time.Second, "7")), errLate.Error()},
		"a scrape to come":      {says(anAnswer(0, -time.Minute, "7")), errLate.Error()},
		"a late evaluation":     {says(anAnswer(5*time.Minute, 0, "7")), errSkew.Error()},
		"an evaluation to come": {says(anAnswer(-5*time.Minute, 0, "7")), errSkew.Error()},
		"no scrape":             {says(strings.Replace(good, "scraped", "other", 1)), errNoCounters.Error()},
		"a refused query":       {status(400, `{"status":"error","errorType":"bad_data","error":"secret"}`), "Prometheus refuses a query"},
		"too many samples":      {status(422, `{"status":"error","errorType":"execution","error":"secret"}`), "Prometheus refuses a query"},
		"a time-out of its":     {status(503, `{"status":"error","errorType":"timeout","error":"secret"}`), unreachable},
		"a gateway's error":     {status(502, "secret"), unreachable},
		"a log-in":              {status(401, "secret"), unreachable},
		"nothing at all":        {says(""), unreachable},
		"HTML":                  {says("<html>secret</html>"), unreachable},
		"half":                  {says(good[:len(good)/2]), unreachable},
		"too much":              {says(good + strings.Repeat(" ", mostAnswerBytes)), errLargeAnswer.Error()},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				_, _ = io.WriteString(w, good)
				return
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, unreachable},
		"a bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			_, _ = io.WriteString(zip, good+strings.Repeat(" ", mostAnswerBytes))
			_ = zip.Close()
		}, errLargeAnswer.Error()},
		"a hang-up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, unreachable},
		"silence":   {func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, unreachable},
		"a trickle": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sample := asked(t, c.answer)
			if len(countsAbout(sample, "8f2c1a3b")) > 0 || sample.Trouble != c.want {
				t.Errorf("got %+v, trouble %q", sample.Streams, sample.Trouble)
			}
		})
	}
}

func TestAnAddressThatCannotBeReachedIsAbsence(t *testing.T) {
	for _, address := range []string{"http://127.0.0.1:1", "http://no-such-host.invalid", "https://127.0.0.1:1", "http://[::1", "ftp://a"} {
		if sample := askedAt(t, address); len(sample.Streams) > 0 || sample.Trouble != "Prometheus does not answer at canary.metrics.prometheus.address" {
			t.Errorf("%s: got %+v, trouble %q", address, sample.Streams, sample.Trouble)
		}
	}
}

// A name can be of any text as far as the query is concerned.
func TestNamesCannotLeaveTheirPlaceInAQuery(t *testing.T) {
	for _, hostile := range []string{`"} or vector(1) #`, `\`, `\"`, "a\nb", "'", "`", ".*", "a|b", "\x00", "Ä"} {
		target := aTarget()
		target.FlagCache.Namespace, target.FlagCache.Name = hostile, hostile
		query := serviceQuery(hostile, target)
		left := strings.Builder{}
		for inside, escaped := false, false; len(query) > 0; query = query[1:] {
			switch c := query[0]; {
			case escaped:
				escaped = false
			case inside && c == '\\':
				escaped = true
			case c == '"':
				inside = !inside
			case !inside:
				left.WriteByte(c)
			}
		}
		const want = `{__name__=~,namespace=,pod=~} or label_replace(timestamp(process_start_time_seconds{namespace=,pod=~}),,,,)`
		if left.String() != want {
			t.Errorf("%q gives a query that says %s outside of its strings", hostile, left.String())
		}
	}
}
