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

	"github.com/flagcache/flagcache/test/ackcrds"
)

// DeployACKPlayer installs ACK's CRDs and deploys test/ackplayer, which must be one of the
// cluster's images.
func (c *Cluster) DeployACKPlayer(ctx context.Context) error {
	if err := ackcrds.Install(ctx, c.Client); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", "test/ackplayer/deploy.yaml"); err != nil {
		return fmt.Errorf("deploying ackplayer: %w", err)
	}
	return nil
}

// playerControl is the URL of ackplayer's control endpoint.
const playerControl = "http://cache." + playerNamespace + ".svc:8090"

// ControlACKPlayer sends ackplayer a control request, such as /failover?id=ID.
func (c *Cluster) ControlACKPlayer(ctx context.Context, path string) error {
	_, err := c.requestPlayer(ctx, http.MethodPost, path)
	return err
}

// CloudGroups returns the IDs of the replication groups that exist in the simulated AWS.
func (c *Cluster) CloudGroups(ctx context.Context) ([]string, error) {
	text, err := c.requestPlayer(ctx, http.MethodGet, "/groups")
	if err != nil {
		return nil, err
	}
	var groups []string
	if err := json.Unmarshal(text, &groups); err != nil {
		return nil, fmt.Errorf("parsing the response of ackplayer: %w", err)
	}
	return groups, nil
}

func (c *Cluster) requestPlayer(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, playerControl+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.HTTPClient(false).Do(request)
	if err != nil {
		return nil, fmt.Errorf("calling ackplayer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the response of ackplayer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ackplayer responded %s to %s: %s", response.Status, path, strings.TrimSpace(string(text)))
	}
	return text, nil
}
