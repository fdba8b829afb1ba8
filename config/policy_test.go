// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/controllers/policy"
)

// TestPolicySchema compares the schema with the operator: both accept the sample and a
// policy without limits, and both refuse each mistake.
func TestPolicySchema(t *testing.T) {
	schema := jsonschema.NewCompiler().MustCompile("policy.schema.json")
	const head = "apiVersion: policy.flagcache.dev/v1alpha1\nkind: Policy\n"
	sample, err := os.ReadFile("samples/policy.yaml")
	must(t, err)
	tests := []struct {
		text  string
		valid bool
	}{
		{string(sample), true},
		{head, true},
		{head + "addresses: {allow: [127.0.0.1, 10.0.0.0/8, 'fd00::/8'], deny: []}", true},
		{head + "elastiCache: []", true},
		{"kind: Policy", false},
		{"apiVersion: policy.flagcache.dev/v1\nkind: Policy", false},
		{head + "image: []", false},
		{head + "images: ghcr.io/acme/", false},
		{head + "pods: {labelPrefixes: ['']}", false},
		{head + "pods: {labels: [a]}", false},
		{head + "metrics: {queries: 'yes'}", false},
		{head + "addresses: {allow: [localhost]}", false},
		{head + "addresses: {allow: 10.0.0.0/8}", false},
		{head + "elastiCache: [{regions: [a]}]", false},
		{head + "elastiCache: [{namespaces: []}]", false},
		{head + "elastiCache: [{namespaces: ['']}]", false},
		{head + "elastiCache: [{namespaces: [a], maxNodes: three}]", false},
		{head + "elastiCache: [{namespaces: [a], maxNodes: -1}]", false},
		{head + "elastiCache: [{namespaces: [a], region: b}]", false},
	}
	for _, test := range tests {
		var document any
		must(t, yaml.Unmarshal([]byte(test.text), &document))
		if err := schema.Validate(document); (err == nil) != test.valid {
			t.Errorf("the schema says %v about\n%s", err, test.text)
		}
		if _, err := policy.Parse([]byte(test.text)); (err == nil) != test.valid {
			t.Errorf("the operator says %v about\n%s", err, test.text)
		}
	}
}
