// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/rest"

	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/policy"
)

// envAPIServer is the ClusterIP of the API server, which Kubernetes sets in every pod.
const envAPIServer = "KUBERNETES_SERVICE_HOST"

// resolveTimeout limits the resolution of the API server's host at the start.
const resolveTimeout = 10 * time.Second

// dialRules returns the rules for what FlagCaches name: the current policy, which is nil
// without a file, and the API server, by its ClusterIP and by the host that the operator
// itself uses.
func dialRules(ctx context.Context, config *rest.Config, current func() *policy.Policy) (*dial.Rules, error) {
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("parsing the address of the API server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addresses, err := dial.AddressesOf(ctx, server.Hostname(), os.Getenv(envAPIServer))
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	return &dial.Rules{
		APIServer: addresses,
		Lists: func() *policy.Addresses {
			if p := current(); p != nil {
				return &p.Addresses
			}
			return nil
		},
	}, nil
}
