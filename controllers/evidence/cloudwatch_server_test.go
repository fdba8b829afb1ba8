// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

// A fake of CloudWatch on a real HTTP server. It implements the protocol of the AWS
// SDK, Smithy's RPC v2 in CBOR, with a codec other than the SDK's.

// metricDataRequest is the input of GetMetricData.
type metricDataRequest struct {
	StartTime, EndTime time.Time
	NextToken          string
	MetricDataQueries  []struct {
		ID         string `cbor:"Id"`
		Expression string
		Period     int
		MetricStat struct {
			Metric struct {
				Namespace, MetricName string
				Dimensions            []struct{ Name, Value string }
			}
			Period int
			Stat   string
		}
	}
}

// result is the result of a query.
type result struct {
	ID         string `cbor:"Id"`
	Label      string
	StatusCode string
	Timestamps []time.Time
	Values     []float64
	Messages   []message `cbor:",omitempty"`
}

type message struct{ Code, Value string }

type metricDataResponse struct {
	MetricDataResults []result
	NextToken         string    `cbor:",omitempty"`
	Messages          []message `cbor:",omitempty"`
}

// encodeCBOR encodes like AWS: times are tagged seconds.
func encodeCBOR(t *testing.T, v any) []byte {
	t.Helper()
	mode, err := cbor.EncOptions{Time: cbor.TimeUnixMicro, TimeTag: cbor.EncTagRequired}.EncMode()
	if err != nil {
		t.Fatal(err)
	}
	body, err := mode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// sendCBOR sends a response of the protocol.
func sendCBOR(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("X-Amzn-RequestId", "secret")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// decodeRequest decodes a request and checks that it conforms to the protocol.
func decodeRequest(t *testing.T, r *http.Request) (q metricDataRequest) {
	t.Helper()
	if r.Method != http.MethodPost || r.URL.Path != "/service/GraniteServiceVersion20100801/operation/GetMetricData" || r.Header.Get("Smithy-Protocol") != "rpc-v2-cbor" {
		t.Errorf("%s %s is not a request of GetMetricData", r.Method, r.URL.Path)
	}
	if !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/monitoring/aws4_request") {
		t.Error("the request is not signed for CloudWatch in the region")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Errorf("reading a request: %v", err)
	}
	if err := cbor.Unmarshal(body, &q); err != nil {
		t.Errorf("decoding a request: %v", err)
	}
	return q
}

// fakeAWS configures the AWS SDK with credentials and a fake CloudWatch.
func fakeAWS(t *testing.T, respond http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(respond)
	t.Cleanup(server.Close)
	withoutAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_ENDPOINT_URL_CLOUDWATCH", server.URL)
}

// withoutAWS hides the AWS configuration of the machine from the AWS SDK.
func withoutAWS(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_CLOUDWATCH",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
}

// The canary of these tests started at 12:00:20, and it is 12:10:30: the minutes from
// 12:01 to 12:07 are queried.
var (
	canaryStart = time.Date(2026, 6, 1, 12, 0, 20, 0, time.UTC)
	now         = time.Date(2026, 6, 1, 12, 10, 30, 0, time.UTC)
	firstMinute = time.Date(2026, 6, 1, 12, 1, 0, 0, time.UTC)
	endMinute   = time.Date(2026, 6, 1, 12, 8, 0, 0, time.UTC)
)

func aCloudWatchTarget() Target {
	t := aTarget()
	t.Since, t.Interval = canaryStart, time.Minute
	query := func(metric string) v1alpha1.CloudWatchQuery {
		return v1alpha1.CloudWatchQuery{Metric: metric, Dimensions: map[string]v1alpha1.DimensionValue{
			"Service": "$namespace/$name", "Revision": "$revision",
		}}
	}
	t.CloudWatch = &v1alpha1.CloudWatchSpec{Region: "eu-central-1", Namespace: "Shop", Queries: map[string]v1alpha1.CloudWatchQuery{
		"errorRate.bad": query("errors"), "errorRate.total": query("requests"),
	}}
	return t
}

// sampleAt returns a sample of a new CloudWatch source at the given time.
func sampleAt(ctx context.Context, now time.Time, t Target) canary.Evidence {
	c := &CloudWatch{Clock: clocktesting.NewFakePassiveClock(now), Pods: &everyCheck{}}
	return c.Sample(ctx, t)
}

// everyCheck is a source with counts for every check.
type everyCheck struct{}

func (*everyCheck) Sample(_ context.Context, t Target) canary.Evidence {
	counts := map[canary.Check]analysis.Counts{}
	for _, check := range canary.Names() {
		counts[check] = analysis.Counts{Bad: 1, Total: 7}
	}
	return canary.Evidence{Streams: []canary.Stream{{ID: "pod", Revision: t.Candidate, Counts: counts}}}
}

// everyMinute returns a result with the same number in each queried minute.
func everyMinute(id string, q metricDataRequest, n float64) result {
	r := result{ID: id, Label: id, StatusCode: "Complete"}
	for at := q.StartTime; at.Before(q.EndTime); at = at.Add(time.Minute) {
		r.Timestamps, r.Values = append(r.Timestamps, at), append(r.Values, n)
	}
	return r
}
