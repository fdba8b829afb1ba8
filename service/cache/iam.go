// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
)

// IAM configures authentication to ElastiCache by AWS credentials instead of a
// password. It is disabled while CacheName is empty.
type IAM struct {
	// CacheName is the name of the replication group or the serverless cache.
	CacheName string
	// User is the ElastiCache user, whose ID and name must be identical.
	User string
	// Region is the cache's AWS region; if empty, it is determined by the AWS SDK.
	Region string
	// Serverless must be set for a serverless cache.
	Serverless bool
}

const (
	// tokenLife is the maximum lifetime of a token for a new connection
	// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html).
	tokenLife = 900 * time.Second
	// iamConnectionLife is the maximum age of a connection: ElastiCache closes it
	// after 12 hours.
	iamConnectionLife = 11 * time.Hour
	// emptyPayload is the SHA-256 of an empty payload.
	emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// check returns an error if the configuration is incomplete.
func (i IAM) check() error {
	if i.CacheName != "" && i.User == "" {
		return errors.New("IAM authentication requires a user name")
	}
	return nil
}

// authenticator creates tokens. Signing is local and takes microseconds, so each
// connection gets a new token and none is ever expired.
type authenticator struct {
	iam IAM
	now func() time.Time

	mu sync.Mutex
	// load determines region and credentials; it is called until it succeeds.
	load   func(ctx context.Context) (aws.Config, error)
	loaded *aws.Config
}

func newAuthenticator(iam IAM) *authenticator {
	return &authenticator{iam: iam, now: time.Now, load: func(ctx context.Context) (aws.Config, error) {
		return awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(iam.Region))
	}}
}

// credentials returns user and token for a new connection.
func (a *authenticator) credentials(ctx context.Context) (user, token string, err error) {
	config, err := a.config(ctx)
	if err != nil {
		return "", "", err
	}
	credentials, err := config.Credentials.Retrieve(ctx)
	if err != nil {
		return "", "", fmt.Errorf("finding AWS credentials: %w", err)
	}
	token, err = a.sign(ctx, credentials, config.Region)
	return a.iam.User, token, err
}

func (a *authenticator) config(ctx context.Context) (aws.Config, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.loaded != nil {
		return *a.loaded, nil
	}
	config, err := a.load(ctx)
	if err != nil {
		return aws.Config{}, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	if config.Region == "" {
		return aws.Config{}, errors.New("IAM authentication requires a region")
	}
	a.loaded = &config
	return config, nil
}

// sign presigns a request to connect; the token is its URL without the scheme.
func (a *authenticator) sign(ctx context.Context, credentials aws.Credentials, region string) (string, error) {
	query := url.Values{
		"Action":        {"connect"},
		"User":          {a.iam.User},
		"X-Amz-Expires": {fmt.Sprint(int(tokenLife.Seconds()))},
	}
	if a.iam.Serverless {
		query.Set("ResourceType", "ServerlessCache")
	}
	// ElastiCache stores names in lower case.
	target := url.URL{Scheme: "http", Host: strings.ToLower(a.iam.CacheName), Path: "/", RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return "", fmt.Errorf("creating a token: %w", err)
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, credentials, request, emptyPayload, "elasticache", region, a.now())
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return strings.TrimPrefix(signed, "http://"), nil
}
