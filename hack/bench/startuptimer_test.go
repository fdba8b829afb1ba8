// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

func TestStartup(t *testing.T) {
	type update struct {
		pod      string
		starting bool
		at       int
	}
	cases := map[string]struct {
		updates []update
		at      int
		want    int
	}{
		"no pod, no time":                     {nil, 9, 0},
		"from creation to ready":              {[]update{{"a", true, 1}, {"a", false, 4}}, 9, 3},
		"a pod that is still starting counts": {[]update{{"a", true, 1}}, 9, 8},
		"two at once count once":              {[]update{{"a", true, 1}, {"b", true, 2}, {"a", false, 3}, {"b", false, 6}}, 9, 5},
		"the time between two does not count": {[]update{{"a", true, 1}, {"a", false, 2}, {"b", true, 5}, {"b", false, 7}}, 9, 3},
		"repeated updates change nothing":     {[]update{{"a", true, 1}, {"a", true, 2}, {"a", false, 3}, {"a", false, 5}}, 9, 2},
		"a pod that was ready may restart":    {[]update{{"a", true, 1}, {"a", false, 2}, {"a", true, 4}, {"a", false, 5}}, 9, 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var s startupTimer
			for _, u := range c.updates {
				s.record(u.pod, u.starting, time.Unix(int64(u.at), 0))
			}
			if got, want := s.total(time.Unix(int64(c.at), 0)), time.Duration(c.want)*time.Second; got != want {
				t.Errorf("starting for %s, want %s", got, want)
			}
		})
	}
}
