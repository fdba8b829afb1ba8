// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/policy"
)

// dialRules returns the rules for what FlagCaches name: the current policy, which is nil
// without a file, and the current addresses of the API server.
func dialRules(server *apiServer, current func() *policy.Policy) *dial.Rules {
	return &dial.Rules{
		APIServer: server.addresses,
		Lists: func() *policy.Addresses {
			if p := current(); p != nil {
				return &p.Addresses
			}
			return nil
		},
	}
}
