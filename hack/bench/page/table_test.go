// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestThousands(t *testing.T) {
	got := []string{Thousands(0), Thousands(999), Thousands(1000), Thousands(1234567)}
	if diff := cmp.Diff([]string{"0", "999", "1,000", "1,234,567"}, got); diff != "" {
		t.Errorf("numbers (-want +got):\n%s", diff)
	}
}
