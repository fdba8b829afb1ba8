// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"os"
	"testing"
)

func TestUsageOfThisProcess(t *testing.T) {
	u, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.RSS == 0 || u.PeakRSS < u.RSS {
		t.Errorf("RSS is %d bytes, peak %d", u.RSS, u.PeakRSS)
	}
}
