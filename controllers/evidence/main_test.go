// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// aTarget returns the canary of these tests.
func aTarget() Target {
	return Target{
		FlagCache: types.NamespacedName{Namespace: "shop", Name: "checkout"},
		Candidate: "8f2c1a3b", Stable: "5d1a9c00",
		Split: true, Interval: 10 * time.Second,
		LatencyP95: 100 * time.Millisecond, LatencyP99: 300 * time.Millisecond, MissLatencyP95: 300 * time.Millisecond,
	}
}
