// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"errors"
	"fmt"
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

// Limits of a question to CloudWatch, beside queryTimeout and mostAnswerBytes.
const (
	// cloudWatchAttempts of one request; queryTimeout is for all of them.
	cloudWatchAttempts = 2
	// mostPages of one answer.
	mostPages = 8
	// minute is the period of all questions: what CloudWatch has for every metric and
	// keeps for 15 days.
	minute = time.Minute
	// settling is how old a minute must be. What is published later than that is
	// counted later, so this only spares looks at minutes of which half is there.
	settling = 2 * time.Minute
	// longestCanary is how far back questions go. Minutes that CloudWatch has begun to
	// drop would make the sums smaller.
	longestCanary = 14 * 24 * time.Hour
)

// CloudWatch asks Amazon CloudWatch what a canary's queries count, and the pods what
// there are no queries for.
//
// CloudWatch has events per minute and no counters. They are made here, without any
// memory: each look asks for all minutes since the canary began and adds them up.
// Then an operator that starts anew, or looks twice, says the same again; a minute
// is in the sum once; and what CloudWatch learns late of a minute is counted when it
// is known. To ask for new minutes alone would need a record of which were counted,
// and would lose what comes late.
type CloudWatch struct {
	// Clock says which minutes are over.
	Clock clock.PassiveClock
	// Pods count for the checks without queries.
	Pods Source

	mu sync.Mutex
	// config is what the AWS SDK found, nil before; it renews its own credentials.
	config *aws.Config
}

// Sample asks for all checks of both revisions.
func (c *CloudWatch) Sample(ctx context.Context, t Target) Sample {
	from, until := minutes(t.Since, c.Clock.Now())
	sample := Sample{At: until, Lag: settling + minute + max(minute, t.Interval)}
	asked, rest := checksOf(t.CloudWatch)
	var troubles []string
	if len(rest) > 0 {
		pods := c.Pods.Sample(ctx, t)
		sample.Streams, troubles = keepChecks(pods.Streams, rest), append(troubles, pods.Trouble)
	}
	switch client, err := c.client(ctx, t, from, until); {
	case err != nil:
		troubles = append(troubles, cloudWatchTrouble(err))
	case until.After(from): // before that no minute of the canary is over, which is no trouble
		streams, more := askAll(ctx, client, asked, t, from, until)
		sample.Streams, troubles = append(sample.Streams, streams...), append(troubles, more...)
	}
	sample.Trouble = oneText(troubles)
	return sample
}

// askAll asks for checks of both revisions.
func askAll(ctx context.Context, client *cloudwatch.Client, checks []canary.Check, t Target, from, until time.Time) (all []Stream, troubles []string) {
	streams := make([][]Stream, 2*len(checks))
	troubles = make([]string, 2*len(checks))
	var group errgroup.Group
	group.SetLimit(queriesAtOnce)
	for i, check := range checks {
		for j, revision := range []string{t.Candidate, t.Stable} {
			group.Go(func() error {
				counts, err := ask(ctx, client, check, revision, t, from, until)
				if err != nil {
					troubles[2*i+j] = string(check) + ": " + cloudWatchTrouble(err)
					return nil
				}
				streams[2*i+j] = []Stream{streamOf(check, revision, counts, t)}
				return nil
			})
		}
	}
	_ = group.Wait() // no question returns an error
	return slices.Concat(streams...), troubles
}

// checksOf are those that there are queries for, and the rest.
func checksOf(spec *v1alpha1.CloudWatchSpec) (asked, rest []canary.Check) {
	for _, check := range allChecks() {
		if _, ok := spec.Queries[string(check)+"."+kindTotal]; ok {
			asked = append(asked, check)
		} else {
			rest = append(rest, check)
		}
	}
	return asked, rest
}

// minutes are those that are asked for: all that began after the canary did and are
// settled.
func minutes(since, now time.Time) (from, until time.Time) {
	from = since.UTC().Truncate(minute)
	if from.Before(since) {
		from = from.Add(minute)
	}
	return from, now.UTC().Add(-settling).Truncate(minute)
}

// streamOf is the sum of a revision's events since the canary began. Another canary
// of the revision begins at another minute and is another stream.
func streamOf(check canary.Check, revision string, counts analysis.Counts, t Target) Stream {
	stream := Stream{
		ID:       fmt.Sprintf("cloudwatch/%s/%s/%d", check, revision, t.Since.Unix()),
		Revision: revision,
		Counts:   map[canary.Check]analysis.Counts{check: counts},
		Lasting:  true,
	}
	if check == canary.ErrorRate && revision == t.Stable {
		stream.Kept = counts.Total
	}
	return stream
}

// What else can be, beside counts; the texts are for people and the same each time.
var (
	errUnfinished  = errors.New("CloudWatch calls its answer incomplete")
	errNoEvents    = errors.New("CloudWatch has no events of a revision")
	errNoNumbers   = errors.New("a query's result has values that are no numbers of events")
	errTimes       = errors.New("a query's result has a minute that was not asked for, or one twice")
	errSeveral     = errors.New("a query's result has several series: add them up by SUM")
	errMoreBad     = errors.New("there are more bad events than events")
	errLongCanary  = errors.New("the canary began more than 14 days ago, and CloudWatch keeps minutes for 15")
	errNoRegion    = errors.New("no AWS region is known: set canary.metrics.cloudWatch.region")
	errCredentials = errors.New("the operator has no AWS credentials that are accepted")
	errForbidden   = errors.New("the operator's AWS identity is not allowed cloudwatch:GetMetricData")
	errThrottled   = errors.New("CloudWatch throttles the operator's questions: let canary.metrics.interval be longer")
	errRefused     = errors.New("CloudWatch refuses a query")
	errSilent      = errors.New("CloudWatch does not answer")
)

// cloudWatchTrouble is an error in words that stay the same: AWS' own have the
// number of the request in them.
func cloudWatchTrouble(err error) string {
	for _, known := range []error{
		errLargeAnswer, errUnfinished, errNoEvents, errNoNumbers, errTimes, errSeveral, errMoreBad, errLongCanary, errNoRegion, errCredentials, errForbidden,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var answered smithy.APIError
	if !errors.As(err, &answered) {
		return errSilent.Error()
	}
	if meaning := codes[answered.ErrorCode()]; meaning != nil {
		return meaning.Error()
	}
	return errSilent.Error()
}

// codes of AWS' errors that a person can do something about.
var codes = map[string]error{
	"AccessDenied": errForbidden, "AccessDeniedException": errForbidden, "NotAuthorized": errForbidden, "OptInRequired": errForbidden,
	"ExpiredToken": errCredentials, "ExpiredTokenException": errCredentials, "InvalidClientTokenId": errCredentials,
	"UnrecognizedClientException": errCredentials, "MissingAuthenticationToken": errCredentials, "MissingAuthenticationTokenException": errCredentials,
	"InvalidSignatureException": errCredentials, "SignatureDoesNotMatch": errCredentials, "IncompleteSignature": errCredentials,
	"Throttling": errThrottled, "ThrottlingException": errThrottled, "RequestLimitExceeded": errThrottled, "TooManyRequestsException": errThrottled,
	"LimitExceeded": errThrottled, "LimitExceededException": errThrottled,
	"ValidationError": errRefused, "ValidationException": errRefused, "InvalidParameterValue": errRefused, "InvalidParameterValueException": errRefused,
	"InvalidParameterCombination": errRefused, "InvalidParameterCombinationException": errRefused,
	"MissingParameter": errRefused, "MissingRequiredParameterException": errRefused,
}

// client of a region, with credentials.
func (c *CloudWatch) client(ctx context.Context, t Target, from, until time.Time) (*cloudwatch.Client, error) {
	if until.Sub(from) > longestCanary {
		return nil, errLongCanary
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
		o.HTTPClient = cappedClient{config.HTTPClient}
		o.RetryMaxAttempts = cloudWatchAttempts
	}), nil
}

// aws is what the AWS SDK finds where the operator runs. Unlike Prometheus, AWS has
// no address that a user chooses, so it is reached as the SDK does: by a proxy, too,
// and for credentials at link-local addresses. Its log would say at each look what is
// in the trouble of the sample.
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

// cappedClient ends answers that are too long. It counts after decompression.
type cappedClient struct{ next aws.HTTPClient }

// Do implements aws.HTTPClient.
func (c cappedClient) Do(request *http.Request) (*http.Response, error) {
	response, err := c.next.Do(request)
	if err != nil {
		return nil, err
	}
	response.Body = &cappedBody{ReadCloser: response.Body, left: mostAnswerBytes}
	return response, nil
}

// fill puts names in the places that a query has for them. They are names and
// hashes: nothing in them can end a string.
func fill(text, revision string, t Target) string {
	return strings.NewReplacer("$revision", revision, "$namespace", t.FlagCache.Namespace, "$name", t.FlagCache.Name).Replace(text)
}
