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

// response returns Prometheus' response to the default query, evaluated and scraped
// the given time ago.
func response(evaluated, scraped time.Duration, value string) string {
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

// samplePrometheus samples a server with the given responses.
func samplePrometheus(t *testing.T, respond http.HandlerFunc) canary.Evidence {
	t.Helper()
	server := httptest.NewServer(respond)
	t.Cleanup(server.Close)
	return sampleAddress(t, server.URL)
}

func sampleAddress(t *testing.T, address string) canary.Evidence {
	t.Helper()
	target := aTarget()
	target.Split = false
	target.Prometheus = &v1alpha1.PrometheusSpec{Address: address}
	p := &Prometheus{Clock: clock.RealClock{}, HTTP: NewPrometheusHTTPClient(loopback)}
	return p.Sample(t.Context(), target)
}

func TestPrometheusSampleIsCounted(t *testing.T) {
	sample := samplePrometheus(t, respondWith(response(0, 10*time.Second, "7")))
	if got := countsOfRevision(sample, "8f2c1a3b")[canary.ErrorRate]; got.Total != 7 || sample.Missing != "" {
		t.Errorf("counted %+v, missing %q", got, sample.Missing)
	}
}

func TestInvalidPrometheusResponseIsAbsent(t *testing.T) {
	unreachable := errNotPrometheus.Error()
	good := response(0, 0, "7")
	result := func(kind, result string) http.HandlerFunc {
		return respondWith(`{"status":"success","data":{"resultType":"` + kind + `","result":` + result + `}}`)
	}
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); _, _ = io.WriteString(w, body) }
	}
	for name, c := range map[string]struct {
		respond http.HandlerFunc
		want    string
	}{
		"a scalar":                    {result("scalar", `[1,"1"]`), errNotVector.Error()},
		"a string":                    {result("string", `[1,"a"]`), unreachable},
		"a matrix":                    {result("matrix", `[]`), errNotVector.Error()},
		"an empty vector":             {result("vector", `[]`), errNoSeries.Error()},
		"null":                        {result("vector", `null`), errNoSeries.Error()},
		"an unknown type":             {result("tensor", `[]`), unreachable},
		"a histogram":                 {respondWith(vector(fmt.Sprintf(`{"metric":{},"histogram":[%d,{"count":"1","sum":"1","buckets":[]}]}`, time.Now().Unix()))), errNotCounters.Error()},
		"no value":                    {respondWith(vector(`{"metric":{},"value":[1,""]}`)), unreachable},
		"a number":                    {respondWith(vector(`{"metric":{},"value":[1,1]}`)), unreachable},
		"not a number":                {respondWith(response(0, 0, "NaN")), errNotCounters.Error()},
		"infinite":                    {respondWith(response(0, 0, "+Inf")), errNotCounters.Error()},
		"negative":                    {respondWith(response(0, 0, "-1")), errNotCounters.Error()},
		"inexact":                     {respondWith(response(0, 0, "1e308")), errNotCounters.Error()},
		"a fraction":                  {respondWith(response(0, 0, "0.5")), errNotCounters.Error()},
		"a warning":                   {respondWith(strings.Replace(good, `"data"`, `"warnings":["a store did not respond"],"data"`, 1)), errPartial.Error()},
		"a stale scrape":              {respondWith(response(0, 30*time.Second, "7")), errStale.Error()},
		"a scrape in the future":      {respondWith(response(0, -time.Minute, "7")), errStale.Error()},
		"a stale evaluation":          {respondWith(response(5*time.Minute, 0, "7")), errClockSkew.Error()},
		"an evaluation in the future": {respondWith(response(-5*time.Minute, 0, "7")), errClockSkew.Error()},
		"no scrape time":              {respondWith(strings.Replace(good, "scraped", "other", 1)), errNotCounters.Error()},
		"a rejected query":            {status(400, `{"status":"error","errorType":"bad_data","error":"secret"}`), "Prometheus rejects a query"},
		"too many samples":            {status(422, `{"status":"error","errorType":"execution","error":"secret"}`), "Prometheus rejects a query"},
		"a timeout of the server":     {status(503, `{"status":"error","errorType":"timeout","error":"secret"}`), unreachable},
		"a gateway error":             {status(502, "secret"), unreachable},
		"authentication required":     {status(401, "secret"), unreachable},
		"an empty response":           {respondWith(""), unreachable},
		"HTML":                        {respondWith("<html>secret</html>"), unreachable},
		"a truncated response":        {respondWith(good[:len(good)/2]), unreachable},
		"an oversized response":       {respondWith(good + strings.Repeat(" ", maxResponseBytes)), errResponseTooLarge.Error()},
		"another server's pages":      {respondWith("<html>" + strings.Repeat(" ", maxResponseBytes)), unreachable},
		"another server's JSON":       {respondWith(`{"items":[` + strings.Repeat("0,", maxResponseBytes)), unreachable},
		"another server's errors":     {status(404, strings.Repeat("secret", maxResponseBytes)), unreachable},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				_, _ = io.WriteString(w, good)
				return
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, unreachable},
		"a decompression bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			_, _ = io.WriteString(zip, good+strings.Repeat(" ", maxResponseBytes))
			_ = zip.Close()
		}, errResponseTooLarge.Error()},
		"another server's decompression bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			_, _ = io.WriteString(zip, strings.Repeat(" ", 2*maxResponseBytes))
			_ = zip.Close()
		}, unreachable},
		"a closed connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, unreachable},
		"no response":         {func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, unreachable},
		"a stalled response": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sample := samplePrometheus(t, c.respond)
			if len(countsOfRevision(sample, "8f2c1a3b")) > 0 || sample.Missing != c.want {
				t.Errorf("got %+v, missing %q", sample.Streams, sample.Missing)
			}
		})
	}
}

func TestUnreachableAddressIsAbsent(t *testing.T) {
	for _, address := range []string{"http://127.0.0.1:1", "http://no-such-host.invalid", "https://127.0.0.1:1", "http://[::1", "ftp://a"} {
		if sample := sampleAddress(t, address); len(sample.Streams) > 0 || sample.Missing != errNotPrometheus.Error() {
			t.Errorf("%s: got %+v, missing %q", address, sample.Streams, sample.Missing)
		}
	}
}

func TestNamesAreEscapedInQueries(t *testing.T) {
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
			t.Errorf("the query for name %q has %s outside of its strings", hostile, left.String())
		}
	}
}
