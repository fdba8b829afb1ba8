// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/controllers/policy"
)

// fence matches an example in YAML on a page.
var fence = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")

// ofOthers are the first keys of examples that are about something else than FlagCaches and
// policies: pods of applications, and Argo CD.
var ofOthers = []string{"envFrom", "ignoreDifferences"}

// examples returns the examples of the pages, each with the page that has it.
func examples(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/*/*.md"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			page, err := os.ReadFile(file)
			must(t, err)
			for _, match := range fence.FindAllSubmatch(page, -1) {
				found[string(match[1])] = file
			}
		}
	}
	if len(found) < 5 {
		t.Fatalf("the pages have %d examples", len(found))
	}
	return found
}

// tryExamples has the API server accept each FlagCache on a page, without a warning, and
// the operator each policy. A part of a FlagCache is completed.
func tryExamples(t *testing.T, kubectl kubectl) {
	for text, page := range examples(t) {
		var example map[string]any
		if err := yaml.Unmarshal([]byte(text), &example); err != nil {
			t.Errorf("%s: %v in\n%s", page, err, text)
			continue
		}
		if example["kind"] == "Policy" {
			if _, err := policy.Parse([]byte(text)); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, text)
			}
			continue
		}
		if slices.ContainsFunc(ofOthers, func(key string) bool { return example[key] != nil }) {
			continue
		}
		file := filepath.Join(t.TempDir(), "example.json")
		manifest, err := json.Marshal(complete(example))
		must(t, err)
		must(t, os.WriteFile(file, manifest, 0o600))
		if _, warnings := kubectl(t, "apply", "--dry-run=server", "--validate=strict", "-f", file); warnings != "" {
			t.Errorf("%s: kubectl apply warns:\n%s\nabout\n%s", page, warnings, text)
		}
	}
}

// complete returns a whole FlagCache for an example of a part of one: of its spec, or of
// the queries in it.
func complete(example map[string]any) map[string]any {
	spec := map[string]any{}
	switch {
	case example["kind"] != nil:
		return example
	case example["queries"] != nil:
		prometheus := map[string]any{"address": "http://prometheus.monitoring:9090", "queries": example["queries"]}
		spec["canary"] = map[string]any{"metrics": map[string]any{"type": "Prometheus", "prometheus": prometheus}}
	case example["spec"] != nil:
		spec = example["spec"].(map[string]any)
	case example["metadata"] == nil:
		spec = maps.Clone(example)
	}
	if spec["flags"] == nil {
		spec["flags"] = map[string]any{"configMap": map[string]any{"name": "demo-flags"}}
	}
	metadata, _ := example["metadata"].(map[string]any)
	if metadata = maps.Clone(metadata); metadata == nil {
		metadata = map[string]any{}
	}
	metadata["name"] = "example"
	return map[string]any{"apiVersion": "flagcache.dev/v1alpha1", "kind": "FlagCache", "metadata": metadata, "spec": spec}
}

// TestDescribedRangesAreEnforced: each range in a description of the CRD is in the rules of
// the field, or is its minimum and maximum.
func TestDescribedRangesAreEnforced(t *testing.T) {
	text, err := os.ReadFile("crd/bases/flagcache.dev_flagcaches.yaml")
	must(t, err)
	var crd apiextensionsv1.CustomResourceDefinition
	must(t, yaml.UnmarshalStrict(text, &crd))
	described := 0
	spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	walk("spec", &spec, func(path string, field *apiextensionsv1.JSONSchemaProps) {
		if strings.HasPrefix(path, "spec.service.affinity") || strings.HasPrefix(path, "spec.service.tolerations") || strings.HasPrefix(path, "spec.service.topologySpreadConstraints") {
			return // described by Kubernetes
		}
		for _, limits := range ranges.FindAllStringSubmatch(strings.Join(strings.Fields(field.Description), " "), -1) {
			described++
			for _, limit := range limits[1:] {
				if !enforces(field, limit) {
					t.Errorf("%s: nothing enforces the limit %s of its description:\n%s", path, limit, field.Description)
				}
			}
		}
	})
	if described < 15 {
		t.Errorf("%d ranges are described", described)
	}
}

// ranges matches the limits of a field in its description: "between 1s and 1h", "1 to 5".
var ranges = regexp.MustCompile(`(\d[\w.%]*) (?:and|to) (\d+(?:\.\d+)?[a-z%]*)`)

// enforces reports whether the schema of a field has a limit.
func enforces(field *apiextensionsv1.JSONSchemaProps, limit string) bool {
	for _, bound := range []*float64{field.Minimum, field.Maximum} {
		if bound != nil && strconv.FormatFloat(*bound, 'f', -1, 64) == limit {
			return true
		}
	}
	return slices.ContainsFunc(field.XValidations, func(rule apiextensionsv1.ValidationRule) bool {
		return strings.Contains(rule.Rule, strings.TrimSuffix(limit, "%"))
	})
}

// walk visits each node of a schema.
func walk(path string, node *apiextensionsv1.JSONSchemaProps, visit func(string, *apiextensionsv1.JSONSchemaProps)) {
	visit(path, node)
	for name, property := range node.Properties {
		walk(path+"."+name, &property, visit)
	}
	if node.Items != nil && node.Items.Schema != nil {
		walk(path+"[]", node.Items.Schema, visit)
	}
}
