// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import "testing"

func TestTargetingKey(t *testing.T) {
	tests := map[string]string{
		`{"context":{"targetingKey":"user-1","email":"a@b.c"}}`:                            "user-1",
		` { "context" : { "x":{"targetingKey":"inner"}, "targetingKey" : "\u0061\"b" } } `: `a"b`,
		`{"targetingKey":"outside","context":{}}`:                                          "",
		`{"context":{"targetingKey":""}}`:                                                  "",
		`{"context":{"targetingKey":5}}`:                                                   "",
		`{"context":{"targetingKey":null}}`:                                                "",
		`{"context":[]}`:                                                                   "",
		`{"context":{"targetingKey":"user-1"}`:                                             "",
		``:                                                                                 "",
	}
	for body, want := range tests {
		if key, ok := TargetingKey([]byte(body)); key != want || ok != (want != "") {
			t.Errorf("the targeting key in %s is %q (%t), not %q", body, key, ok, want)
		}
	}
}
