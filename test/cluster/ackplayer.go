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

	"github.com/flagcache/flagcache/controllers/ack"
)

// DeployACKPlayer puts the player of ACK and ElastiCache into the cluster, whose
// images must have it, and returns when ACK's kinds are served.
func (c *Cluster) DeployACKPlayer(ctx context.Context) error {
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", "test/ackplayer/deploy.yaml"); err != nil {
		return fmt.Errorf("installing the player of ACK: %w", err)
	}
	for _, k := range ack.Kinds() {
		for _, event := range []string{"create", "condition=Established"} {
			if _, err := c.Kubectl(ctx, "wait", "--for="+event, "crd/"+k.CRD(), "--timeout", deployLimit.String()); err != nil {
				return fmt.Errorf("waiting for the player of ACK: %w\n%s", err, c.tell(ctx, "logs", "--namespace", playerNamespace, "deployment/ackplayer", "--tail", "20"))
			}
		}
	}
	return nil
}

// playerControl is where the player takes orders, the name of its endpoints.
const playerControl = "http://cache." + playerNamespace + ".svc:8090"

// OrderACKPlayer has the player make something happen, such as /failover?id=ID.
func (c *Cluster) OrderACKPlayer(ctx context.Context, order string) error {
	_, err := c.askPlayer(ctx, http.MethodPost, order)
	return err
}

// CloudGroups are the IDs of the replication groups that the player's AWS has.
func (c *Cluster) CloudGroups(ctx context.Context) ([]string, error) {
	text, err := c.askPlayer(ctx, http.MethodGet, "/groups")
	if err != nil {
		return nil, err
	}
	var groups []string
	if err := json.Unmarshal(text, &groups); err != nil {
		return nil, fmt.Errorf("understanding the player of ACK: %w", err)
	}
	return groups, nil
}

func (c *Cluster) askPlayer(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, playerControl+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.HTTPClient(false).Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the player of ACK: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("hearing the player of ACK: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the player of ACK answers %s to %s: %s", response.Status, path, strings.TrimSpace(string(text)))
	}
	return text, nil
}
