// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/test/leak"
)

// TestPrintedStructsHaveNoToken prints everything that holds a token, as a log line for
// debugging does.
func TestPrintedStructsHaveNoToken(t *testing.T) {
	const token = "kQ7-marked-token-of-a-cache"
	used := connection.Connection{Provider: Provider, Host: "cache", Port: 6379, Password: secret.New(token)}
	c := planned{
		desired: desired{names: names{fc: aFlagCache(), id: "id", aws: "fc-id"}, token: secret.New(token)},
		seen:    Observed{ID: "fc-id", Users: []user{{deployment: &appsv1.Deployment{}, connection: used, known: true}}},
	}
	values := []any{
		c, &c, c.desired, c.seen, c.seen.Users, used, used.URI(), observed.Fresh{Token: secret.New(token)},
		tokenInput{stored: secret.New(token), inUse: secret.New(token), fresh: secret.New(token)},
		asProbe(aFlagCache(), used, secret.New(token)),
	}
	var all strings.Builder
	for _, value := range values {
		fmt.Fprintf(&all, "%v\n%+v\n%#v\n%x\n", value, value, value, value)
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(encoded)
	}
	searcher := leak.NewSearcher()
	if err := searcher.Add("the token", token); err != nil {
		t.Fatal(err)
	}
	for _, found := range searcher.Search("the output", all.String()) {
		t.Error(found)
	}
	if !strings.Contains(all.String(), "fc-id") || !strings.Contains(all.String(), "***") {
		t.Errorf("the output lacks what is no secret, or stars:\n%s", &all)
	}
}
