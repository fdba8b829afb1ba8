// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/flagcache/flagcache/test/awsplayer"
)

// awsNamespace is the namespace of test/awsplayer/deploy.yaml, and awsControl the URL of
// awsplayer's control endpoint.
const (
	awsNamespace = "aws"
	awsControl   = "http://elasticache." + awsNamespace + ".svc:8090"
)

// DeployAWS deploys test/awsplayer, which must be one of the cluster's images, and waits
// until it responds.
func (c *Cluster) DeployAWS(ctx context.Context) error {
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", "test/awsplayer/deploy.yaml"); err != nil {
		return fmt.Errorf("deploying awsplayer: %w", err)
	}
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, deployLimit, true, func(ctx context.Context) (bool, error) {
		_, last = c.CloudGroups(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for awsplayer: %w: %w\n%s", err, last,
			c.kubectlOutput(ctx, "logs", "--namespace", awsNamespace, "deployment/awsplayer", "--tail", "20"))
	}
	return nil
}

// ControlAWS sends awsplayer a control request, such as /failover?id=ID.
func (c *Cluster) ControlAWS(ctx context.Context, path string) error {
	_, err := c.requestAWS(ctx, http.MethodPost, path)
	return err
}

// CloudGroups returns the IDs of the replication groups that exist in AWS.
func (c *Cluster) CloudGroups(ctx context.Context) ([]string, error) {
	text, err := c.requestAWS(ctx, http.MethodGet, "/groups")
	if err != nil {
		return nil, err
	}
	var groups []string
	if err := json.Unmarshal(text, &groups); err != nil {
		return nil, fmt.Errorf("parsing the response of awsplayer: %w", err)
	}
	return groups, nil
}

// AWSCalls returns the latest calls of the API of AWS.
func (c *Cluster) AWSCalls(ctx context.Context) ([]awsplayer.Call, error) {
	text, err := c.requestAWS(ctx, http.MethodGet, "/calls")
	if err != nil {
		return nil, err
	}
	var calls []awsplayer.Call
	if err := json.Unmarshal(text, &calls); err != nil {
		return nil, fmt.Errorf("parsing the response of awsplayer: %w", err)
	}
	return calls, nil
}

func (c *Cluster) requestAWS(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, awsControl+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.HTTPClient(false).Do(request)
	if err != nil {
		return nil, fmt.Errorf("calling awsplayer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the response of awsplayer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("awsplayer responded %s to %s: %s", response.Status, path, strings.TrimSpace(string(text)))
	}
	return text, nil
}
