// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

// Limits of CloudWatch queries, in addition to queryTimeout and maxResponseBytes.
const (
	// cloudWatchAttempts of one request, all within queryTimeout.
	cloudWatchAttempts = 2
	// maxPages of one result.
	maxPages = 8
	// minute is the period of all queries, which CloudWatch supports for every metric
	// and retains for 15 days.
	minute = time.Minute
	// settlingDelay is the age at which a minute is first queried. Data published later
	// is counted by later samples.
	settlingDelay = 2 * time.Minute
	// maxCanaryAge is how far back queries reach: sums would shrink when CloudWatch
	// drops minutes after its retention.
	maxCanaryAge = 14 * 24 * time.Hour
)

// CloudWatch reads the checks that a canary has queries for from Amazon CloudWatch,
// and the other checks from the pods.
//
// CloudWatch has events per minute, not counters. Each sample computes the counters
// without state, by adding up all minutes since the canary started: a restarted
// operator gets the same sums, each minute is counted once, and events that are
// published late are counted as soon as they are known. Querying only the new minutes
// would require a record of those already counted, and would lose late events.
type CloudWatch struct {
	// Clock decides which minutes are complete.
	Clock clock.PassiveClock
	// Pods is the source of the checks without queries.
	Pods Source

	// decoding lets one response at a time cost the memory of being decoded, over all
	// canaries, and each canary receives one at a time: see Prometheus.
	decoding sync.Mutex

	mu sync.Mutex
	// config is the AWS SDK's configuration, nil until it is loaded; it refreshes its
	// credentials.
	config *aws.Config
}

// Sample implements Source: it queries all checks of both revisions.
func (c *CloudWatch) Sample(ctx context.Context, t Target) canary.Evidence {
	from, until := minutes(t.Since, c.Clock.Now())
	sample := canary.Evidence{At: until, Lag: settlingDelay + minute + max(minute, t.Interval)}
	queried, rest := checksOf(t.CloudWatch)
	var missing []string
	if len(rest) > 0 {
		pods := c.Pods.Sample(ctx, t)
		sample.Streams, missing = keepChecks(pods.Streams, rest), append(missing, pods.Missing)
	}
	switch client, err := c.client(ctx, t, from, until); {
	case err != nil:
		missing = append(missing, cloudWatchMessage(err))
	case until.After(from): // otherwise no minute of the canary is complete yet
		streams, more := c.queryAll(ctx, client, queried, t, from, until)
		sample.Streams, missing = append(sample.Streams, streams...), append(missing, more...)
	}
	sample.Missing = joinMessages(missing)
	return sample
}

// queryAll queries checks of both revisions.
func (c *CloudWatch) queryAll(ctx context.Context, client *cloudwatch.Client, checks []canary.Check, t Target, from, until time.Time) (all []canary.Stream, missing []string) {
	streams := make([][]canary.Stream, 2*len(checks))
	missing = make([]string, 2*len(checks))
	var receiving sync.Mutex
	var group errgroup.Group
	group.SetLimit(maxConcurrentQueries)
	for i, check := range checks {
		for j, revision := range []string{t.Candidate, t.Stable} {
			group.Go(func() error {
				q := countsQuery{client: client, receiving: &turn{mu: &receiving}, decoding: &turn{mu: &c.decoding}}
				counts, err := q.run(ctx, check, revision, t, from, until)
				if err != nil {
					missing[2*i+j] = string(check) + ": " + cloudWatchMessage(err)
					return nil
				}
				streams[2*i+j] = []canary.Stream{streamOf(check, revision, counts, t)}
				return nil
			})
		}
	}
	_ = group.Wait() // no query returns an error
	return slices.Concat(streams...), missing
}

// checksOf returns the checks with queries, and the rest.
func checksOf(spec *v1alpha1.CloudWatchSpec) (queried, rest []canary.Check) {
	for _, check := range canary.Names() {
		if _, ok := spec.Queries[string(check)+"."+partTotal]; ok {
			queried = append(queried, check)
		} else {
			rest = append(rest, check)
		}
	}
	return queried, rest
}

// minutes returns the range to query: the minutes that started after the canary did
// and are settled.
func minutes(since, now time.Time) (from, until time.Time) {
	from = since.UTC().Truncate(minute)
	if from.Before(since) {
		from = from.Add(minute)
	}
	return from, now.UTC().Add(-settlingDelay).Truncate(minute)
}

// streamOf returns the stream of a revision's events since the canary started.
// Another canary of the revision starts at another time and has another stream.
func streamOf(check canary.Check, revision string, counts analysis.Counts, t Target) canary.Stream {
	stream := canary.Stream{
		ID:        fmt.Sprintf("cloudwatch/%s/%s/%d", check, revision, t.Since.Unix()),
		Revision:  revision,
		Counts:    map[canary.Check]analysis.Counts{check: counts},
		Monotonic: true,
	}
	if check == canary.ErrorRate && revision == t.Stable {
		stream.Local = counts.Total
	}
	return stream
}

// Reasons why counts are not available. They are part of condition messages, so their
// texts are constant.
var (
	errIncomplete      = errors.New("CloudWatch returned an incomplete result")
	errNoEvents        = errors.New("CloudWatch has no events of a revision")
	errNotCounts       = errors.New("a query's result has values that are not numbers of events")
	errTimestamps      = errors.New("a query's result has a minute outside the queried range or a duplicate minute")
	errSeveralSeries   = errors.New("a query's result has several series: aggregate them with SUM")
	errBadExceedsTotal = errors.New("a query counts more bad events than events")
	errCanaryTooOld    = errors.New("the canary started more than 14 days ago, and CloudWatch retains minutes for 15 days")
	errNoRegion        = errors.New("the AWS region is unknown: set canary.metrics.cloudWatch.region")
	errCredentials     = errors.New("the operator has no valid AWS credentials")
	errForbidden       = errors.New("the operator's AWS identity is not allowed cloudwatch:GetMetricData")
	errThrottled       = errors.New("CloudWatch throttles the operator's requests: increase canary.metrics.interval")
	errRejected        = errors.New("CloudWatch rejects a query")
	errNoResponse      = errors.New("no valid response from CloudWatch")
)

// cloudWatchMessage returns a constant message for an error. Messages of AWS contain
// request IDs.
func cloudWatchMessage(err error) string {
	for _, known := range []error{
		errResponseTooLarge, errIncomplete, errNoEvents, errNotCounts, errTimestamps, errSeveralSeries, errBadExceedsTotal, errCanaryTooOld, errNoRegion, errCredentials, errForbidden,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var apiErr smithy.APIError
	if errors.As(err, &apiErr) && errorCodes[apiErr.ErrorCode()] != nil {
		return errorCodes[apiErr.ErrorCode()].Error()
	}
	return errNoResponse.Error()
}

// errorCodes are AWS error codes that a user can act on.
var errorCodes = map[string]error{
	"AccessDenied": errForbidden, "AccessDeniedException": errForbidden, "NotAuthorized": errForbidden, "OptInRequired": errForbidden,
	"ExpiredToken": errCredentials, "ExpiredTokenException": errCredentials, "InvalidClientTokenId": errCredentials,
	"UnrecognizedClientException": errCredentials, "MissingAuthenticationToken": errCredentials, "MissingAuthenticationTokenException": errCredentials,
	"InvalidSignatureException": errCredentials, "SignatureDoesNotMatch": errCredentials, "IncompleteSignature": errCredentials,
	"Throttling": errThrottled, "ThrottlingException": errThrottled, "RequestLimitExceeded": errThrottled, "TooManyRequestsException": errThrottled,
	"LimitExceeded": errThrottled, "LimitExceededException": errThrottled,
	"ValidationError": errRejected, "ValidationException": errRejected, "InvalidParameterValue": errRejected, "InvalidParameterValueException": errRejected,
	"InvalidParameterCombination": errRejected, "InvalidParameterCombinationException": errRejected,
	"MissingParameter": errRejected, "MissingRequiredParameterException": errRejected,
}

// client returns a client of the target's region with valid credentials.
func (c *CloudWatch) client(ctx context.Context, t Target, from, until time.Time) (*cloudwatch.Client, error) {
	if until.Sub(from) > maxCanaryAge {
		return nil, errCanaryTooOld
	}
	config, err := c.aws(ctx)
	if err != nil {
		return nil, err
	}
	if t.CloudWatch.Region == "" && config.Region == "" {
		return nil, errNoRegion
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if _, err := config.Credentials.Retrieve(ctx); err != nil {
		return nil, errors.Join(errCredentials, err)
	}
	return cloudwatch.NewFromConfig(config, func(o *cloudwatch.Options) {
		if t.CloudWatch.Region != "" {
			o.Region = t.CloudWatch.Region
		}
		o.RetryMaxAttempts = cloudWatchAttempts
	}), nil
}

// aws returns the AWS SDK's default configuration. Users cannot choose the address of
// AWS, unlike that of Prometheus, so the SDK connects as it does by default: through a
// proxy, and to link-local addresses for credentials. Its log is discarded because the
// Missing of a sample contains the same errors.
func (c *CloudWatch) aws(ctx context.Context) (aws.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.config != nil {
		return *c.config, nil
	}
	direct := awshttp.NewBuildableClient().WithTimeout(queryTimeout).
		WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	config, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithHTTPClient(direct), awsconfig.WithLogger(logging.Nop{}))
	if err != nil {
		return aws.Config{}, errors.Join(errCredentials, err)
	}
	c.config = &config
	return config, nil
}

// boundedClient limits the size of decompressed responses, and returns one when it was received
// and may be decoded.
type boundedClient struct {
	next aws.HTTPClient
	// receiving is that of the canary, decoding that of all.
	receiving, decoding *turn
}

// Do implements aws.HTTPClient.
func (c boundedClient) Do(request *http.Request) (*http.Response, error) {
	c.decoding.end() // of the attempt before
	response, err := c.next.Do(request)
	if err != nil {
		return nil, err
	}
	c.receiving.begin()
	body, err := io.ReadAll(&cappedBody{ReadCloser: response.Body, left: maxResponseBytes})
	_ = response.Body.Close()
	if err != nil {
		response.Body = io.NopCloser(failedBody{err}) // for the SDK, reading it failed
		return response, nil
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	c.decoding.begin()
	return response, nil
}

// failedBody is a body that could not be received.
type failedBody struct{ err error }

// Read implements io.Reader.
func (b failedBody) Read([]byte) (int, error) { return 0, b.err }

// fill substitutes the placeholders of a query. The values are names and hashes,
// which contain no character that could end a string.
func fill(text, revision string, t Target) string {
	return strings.NewReplacer("$revision", revision, "$namespace", t.FlagCache.Namespace, "$name", t.FlagCache.Name).Replace(text)
}
