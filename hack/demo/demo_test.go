// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestScenarioFor(t *testing.T) {
	for cache := range scenarios {
		if _, err := scenarioFor(cache); err != nil {
			t.Errorf("cache %s: %v", cache, err)
		}
	}
	_, err := scenarioFor("memcached")
	if err == nil {
		t.Fatal("an unknown cache is accepted")
	}
	for cache := range scenarios {
		if !strings.Contains(err.Error(), cache) {
			t.Errorf("the error %q does not list %s", err, cache)
		}
	}
}
