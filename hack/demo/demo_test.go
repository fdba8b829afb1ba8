// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestStoryAbout(t *testing.T) {
	for cache := range stories {
		if _, err := storyAbout(cache); err != nil {
			t.Errorf("%s has a story: %v", cache, err)
		}
	}
	_, err := storyAbout("memcached")
	if err == nil {
		t.Fatal("memcached has no story, and there is no error")
	}
	for cache := range stories {
		if !strings.Contains(err.Error(), cache) {
			t.Errorf("the error %q does not tell of %s", err, cache)
		}
	}
}
