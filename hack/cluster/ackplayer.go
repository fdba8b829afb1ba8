// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"

	"github.com/flagcache/flagcache/controllers/ack"
)

// DeployACKPlayer puts the player of ACK and ElastiCache into the cluster, whose
// images must have it, and returns when ACK's kinds are served.
func (c *Cluster) DeployACKPlayer(ctx context.Context) error {
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", "hack/ackplayer/deploy.yaml"); err != nil {
		return fmt.Errorf("installing the player of ACK: %w", err)
	}
	for _, k := range ack.Kinds() {
		for _, event := range []string{"create", "condition=Established"} {
			if _, err := c.Kubectl(ctx, "wait", "--for="+event, "crd/"+k.CRD(), "--timeout", deployLimit.String()); err != nil {
				return fmt.Errorf("waiting for the player of ACK: %w\n%s", err, c.tell(ctx, "logs", "--namespace", "ack-system", "deployment/ackplayer", "--tail", "20"))
			}
		}
	}
	return nil
}
