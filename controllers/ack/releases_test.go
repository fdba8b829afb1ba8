// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	"strings"
	"testing"

	"k8s.io/utils/ptr"
)

func TestFit(t *testing.T) {
	group := func() *ReplicationGroup {
		return &ReplicationGroup{Spec: ReplicationGroupSpec{
			Durability: ptr.To("default"), NumNodeGroups: ptr.To[int64](1), AuthToken: &SecretKey{Key: "token"},
			Tags: []*Tag{nil, {Key: ptr.To("k")}},
		}}
	}
	for field, want := range map[string]string{
		"durability":           "",
		"port":                 "",
		"tags[].value":         "",
		"authToken.name":       "",
		"userGroupRefs[].from": "",
		"tags[].key":           "lacks spec.tags[].key, which is needed: update ACK's elasticache-controller, together with its CRDs, to a release that has it",
		"authToken.key":        "spec.authToken.key",
		"numNodeGroups":        "The CustomResourceDefinition replicationgroups.elasticache.services.k8s.aws lacks spec.numNodeGroups",
	} {
		g := group()
		missing := Fit(map[string][]string{"ReplicationGroup": {field}}, g)
		switch {
		case (missing == nil) != (want == ""), missing != nil && !strings.Contains(missing.String(), want):
			t.Errorf("a group without %s lacks %v, want %q", field, missing, want)
		case (g.Spec.Durability == nil) != (field == "durability"):
			t.Errorf("a group without %s has the durability %v", field, g.Spec.Durability)
		}
	}
	user := &User{Spec: UserSpec{AuthenticationMode: &AuthenticationMode{Type: ptr.To("iam")}}}
	for _, field := range []string{"authenticationMode", "authenticationMode.type"} {
		if missing := Fit(map[string][]string{"User": {field}}, user); missing == nil || !strings.Contains(missing.String(), "v1.3.5 or later") {
			t.Errorf("a user without %s lacks %v", field, missing)
		}
	}
}
