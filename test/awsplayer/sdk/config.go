// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sdk sets up the AWS SDK's clients of a player.
package sdk

import (
	"context"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// Config returns the configuration of clients that call an endpoint, once for each
// operation, with any credentials.
func Config(endpoint string) aws.Config {
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: &endpoint, RetryMaxAttempts: 1, HTTPClient: httpClient{awshttp.NewBuildableClient()},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
	}
}

// httpClient sends bodies that are read by Read alone. The SDK closes a request's body
// when the response begins, and WriteTo of its closed body returns io.EOF, an error for
// net/http, which then closes the connection before the response is read. Servers on
// the loopback respond early enough for that. The SDK's retries usually hide it.
type httpClient struct{ aws.HTTPClient }

// Do implements aws.HTTPClient.
func (c httpClient) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return c.HTTPClient.Do(r)
}
