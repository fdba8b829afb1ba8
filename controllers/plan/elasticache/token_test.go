// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/controllers/secret"
)

func TestNextToken(t *testing.T) {
	old := tokenRecord{MadeAt: noon.Add(-2 * time.Hour), Request: "1"}
	hourly := &metav1.Duration{Duration: time.Hour}
	for name, c := range map[string]struct {
		in    tokenInput
		token string
		// renewed: the record is a new one.
		renewed bool
	}{
		"none yet":               {tokenInput{}, "fresh", true},
		"the Secret is lost":     {tokenInput{inUse: secret.New("in use")}, "in use", true},
		"nothing is due":         {tokenInput{stored: secret.New("stored"), rotates: true, request: "1", safe: true}, "stored", false},
		"another request":        {tokenInput{stored: secret.New("stored"), rotates: true, request: "2", safe: true}, "fresh", true},
		"a request, not safe":    {tokenInput{stored: secret.New("stored"), rotates: true, request: "2"}, "stored", false},
		"the schedule":           {tokenInput{stored: secret.New("stored"), rotates: true, request: "1", interval: hourly, safe: true}, "fresh", true},
		"the schedule, not safe": {tokenInput{stored: secret.New("stored"), rotates: true, request: "1", interval: hourly}, "stored", false},
		"no token to rotate":     {tokenInput{stored: secret.New("stored"), request: "2", interval: hourly, safe: true}, "stored", false},
		"the Secret was edited in the middle of a rotation": {
			tokenInput{stored: secret.New("edited"), inUse: secret.New("in use"), rotates: true, request: "2", safe: true, forgetsInUse: true}, "in use", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.now, c.in.fresh, c.in.record = noon, secret.New("fresh"), old
			want := old
			if c.renewed {
				want = tokenRecord{MadeAt: noon, Request: c.in.request}
			}
			if token, record := nextToken(c.in); token.Reveal() != c.token || record != want {
				t.Errorf("token %q with record %+v, want %q with %+v", token.Reveal(), record, c.token, want)
			}
		})
	}
}
