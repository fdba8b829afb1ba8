// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/policy"
)

// loopback are rules for the servers of tests.
var loopback = &dial.Rules{Lists: func() *policy.Addresses {
	return &policy.Addresses{Allow: []policy.Prefix{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}
}}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
