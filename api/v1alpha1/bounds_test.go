// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// TestEveryNodeOfTheSchemaIsBounded: what anybody may write is bounded by the API server,
// before it costs the operator anything.
func TestEveryNodeOfTheSchemaIsBounded(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "crd", "bases", "flagcache.dev_flagcaches.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(text, crd); err != nil {
		t.Fatal(err)
	}
	nodes := 0
	for _, version := range crd.Spec.Versions {
		root := version.Schema.OpenAPIV3Schema
		for _, part := range []string{"spec", "status"} {
			schema := root.Properties[part]
			for _, problem := range unbounded(part, &schema, &nodes) {
				t.Error(problem)
			}
		}
	}
	if nodes < 300 {
		t.Errorf("only %d nodes were found", nodes)
	}
}

// TestUnboundedNodesAreFound: the test above can fail.
func TestUnboundedNodesAreFound(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type": "string"}`:                                                                  "no maxLength",
		`{"type": "string", "maxLength": 5}`:                                                  "",
		`{"type": "string", "enum": ["a"]}`:                                                   "",
		`{"type": "array", "items": {"type": "integer"}}`:                                     "no maxItems",
		`{"type": "object", "x-kubernetes-preserve-unknown-fields": true}`:                    "no properties",
		`{"type": "object"}`:                                                                  "no properties",
		`{"x-kubernetes-int-or-string": true}`:                                                "no maxLength",
		`{"type": "object", "additionalProperties": {"type": "integer"}}`:                     "no maxProperties",
		`{"type": "object", "maxProperties": 5, "additionalProperties": {"type": "integer"}}`: "no rule for the length of keys",
		`{"type": "object", "maxProperties": 5, "additionalProperties": {"type": "integer"}, "x-kubernetes-validations": [{"rule": "self.all(k, k.size() <= 5)"}]}`: "",
		`{"type": "object", "maxProperties": 5, "additionalProperties": {"type": "string"}, "x-kubernetes-validations": [{"rule": "self.all(k, k in ['a'])"}]}`:     "[*]: no maxLength",
		`{"type": "object", "properties": {"a": {"type": "array", "maxItems": 1, "items": {"type": "string"}}}}`:                                                    "x.a[]: no maxLength",
	} {
		parsed, nodes := &apiextensionsv1.JSONSchemaProps{}, 0
		if err := yaml.UnmarshalStrict([]byte(schema), parsed); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(unbounded("x", parsed, &nodes), "; ")
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, not %q", schema, got, want)
		}
	}
}

// unbounded returns the nodes of a schema that have no bound.
func unbounded(path string, s *apiextensionsv1.JSONSchemaProps, nodes *int) []string {
	*nodes++
	var problems []string
	lacks := func(what string) { problems = append(problems, fmt.Sprintf("%s: no %s", path, what)) }
	switch {
	case s.Type == "string" || s.XIntOrString:
		if s.MaxLength == nil && len(s.Enum) == 0 && s.Format != "date-time" {
			lacks("maxLength")
		}
	case s.Type == "array":
		if s.MaxItems == nil {
			lacks("maxItems")
		}
		problems = append(problems, unbounded(path+"[]", s.Items.Schema, nodes)...)
	case s.AdditionalProperties != nil:
		if s.MaxProperties == nil {
			lacks("maxProperties")
		}
		if !slices.ContainsFunc(s.XValidations, boundsKeys) {
			lacks("rule for the length of keys")
		}
		problems = append(problems, unbounded(path+"[*]", s.AdditionalProperties.Schema, nodes)...)
	case s.Type == "object" && (len(s.Properties) == 0 || s.XPreserveUnknownFields != nil):
		lacks("properties")
	}
	for name, property := range s.Properties {
		problems = append(problems, unbounded(path+"."+name, &property, nodes)...)
	}
	slices.Sort(problems)
	return problems
}

// boundsKeys reports whether a rule bounds the length of keys, or lists them.
func boundsKeys(rule apiextensionsv1.ValidationRule) bool {
	return strings.HasPrefix(rule.Rule, "self.all(k, k.size() <= ") || strings.HasPrefix(rule.Rule, "self.all(k, k in [")
}
