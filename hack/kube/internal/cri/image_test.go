// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import "testing"

func TestRepository(t *testing.T) {
	cases := map[string]struct{ reference, want string }{
		"a plain name":                {"redis", "redis"},
		"a tag":                       {"redis:8.2-alpine", "redis"},
		"a digest after a tag":        {"redis:8@sha256:abc", "redis"},
		"a registry with a port":      {"localhost:5000/redis", "localhost:5000/redis"},
		"a port and a tag":            {"localhost:5000/redis:8", "localhost:5000/redis"},
		"what the kubelet completes":  {"docker.io/library/redis:8", "redis"},
		"a user's repository":         {"docker.io/bitnami/redis", "bitnami/redis"},
		"another registry's library/": {"ghcr.io/library/redis", "ghcr.io/library/redis"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if have := repository(c.reference); have != c.want {
				t.Errorf("repository(%q) = %q, want %q", c.reference, have, c.want)
			}
		})
	}
}
