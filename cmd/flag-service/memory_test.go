// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	tests := map[string]struct {
		cgroup string
		want   int64
	}{
		"a container of 128 MiB":    {"134217728\n", 107374160},
		"a container without limit": {"max\n", math.MaxInt64},
		"no container":              {"", math.MaxInt64},
		"an invalid limit":          {"-5", math.MaxInt64},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := memoryLimit(test.cgroup); got != test.want {
				t.Errorf("the limit is %d, not %d", got, test.want)
			}
		})
	}
}
