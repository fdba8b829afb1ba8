// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// schema is a part of a CustomResourceDefinition.
type schema struct {
	Default       any               `json:"default"`
	Properties    map[string]schema `json:"properties"`
	MaxProperties int               `json:"maxProperties"`
	Validations   []struct {
		Rule    string `json:"rule"`
		Message string `json:"message"`
	} `json:"x-kubernetes-validations"`
}

// canarySchema is spec.canary in the CustomResourceDefinition.
func canarySchema(t *testing.T) schema {
	t.Helper()
	files, err := filepath.Glob("../../config/crd/bases/*flagcaches.yaml")
	if err != nil || len(files) != 1 {
		t.Fatalf("%d CustomResourceDefinitions, error %v", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["canary"]
}

// The thresholds of the API are one for each check, with the defaults of the table.
func TestThresholdsOfTheAPI(t *testing.T) {
	want := map[string]any{}
	for _, c := range Checks() {
		switch c.Threshold {
		case LargestShare:
			want[string(c.Check)] = Percent(c.Limit)
		case SmallestShare:
			want[string(c.Check)] = Percent(1 - c.Limit)
		case Latency:
			want[string(c.Check)] = c.Slow.String()
		}
	}
	got := map[string]any{}
	for name, field := range canarySchema(t).Properties["thresholds"].Properties {
		got[name] = field.Default
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the table and the defaults of spec.canary.thresholds differ (-table +API):\n%s", d)
	}
}

// The queries of the API are two for each check, and for nothing else.
func TestQueriesOfTheAPI(t *testing.T) {
	var names, keys []string
	for _, check := range Names() {
		names = append(names, "'"+string(check)+"'")
		keys = append(keys, "'"+string(check)+".bad'", "'"+string(check)+".total'")
	}
	known := fmt.Sprintf("self.all(k, k in [%s])", strings.Join(keys, ", "))
	paired := fmt.Sprintf("[%s].all(c, ((c + '.bad') in self) == ((c + '.total') in self))", strings.Join(names, ", "))
	metrics := canarySchema(t).Properties["metrics"].Properties
	for _, source := range []string{"prometheus", "cloudWatch"} {
		queries := metrics[source].Properties["queries"]
		if queries.MaxProperties != len(keys) {
			t.Errorf("%s has at most %d queries, want %d", source, queries.MaxProperties, len(keys))
		}
		var rules []string
		for _, v := range queries.Validations {
			rules = append(rules, v.Rule)
			for _, check := range Names() {
				if v.Rule == known && !strings.Contains(v.Message, string(check)) {
					t.Errorf("the message %q does not name %s", v.Message, check)
				}
			}
		}
		for _, want := range []string{known, paired} {
			if !slices.Contains(rules, want) {
				t.Errorf("%s lacks the rule %s among %q", source, want, rules)
			}
		}
	}
}

// The documentation has the table.
func TestTableOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/canary.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, c := range Checks() {
		bad := c.BadIf
		if c.Threshold == Latency {
			bad += fmt.Sprintf(" %d ms", c.Slow/time.Millisecond)
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", c.Check, c.Events, bad, strings.ReplaceAll(Percent(c.Limit), "%", " %")))
	}
	_, table, _ := strings.Cut(string(page), "| :-- | :-- | :-- | --: |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if d := cmp.Diff(want, strings.Split(table, "\n")); d != "" {
		t.Errorf("the table of docs/canary.md differs (-table +page):\n%s", d)
	}
}
