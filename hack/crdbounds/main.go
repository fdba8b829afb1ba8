// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command crdbounds adds bounds to the parts of the generated CRD whose types are those
// of Kubernetes, which have none. Those of the project's own types are markers on them.
package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

const file = "config/crd/bases/flagcache.dev_flagcaches.yaml"

// Bounds of types of Kubernetes: what the API server accepts in a pod fits into them.
const (
	// maxText is the length of the longest text, the key of a label: 253 characters of
	// its prefix, a slash and 63 of its name.
	maxText = 317
	// maxQuantity is the length of a quantity such as 128Mi.
	maxQuantity = 64
	// maxObjects are the objects of a list, such as the terms of an affinity.
	maxObjects = 64
	// maxTexts are the texts of a list, such as the instance types of a term.
	maxTexts = 1024
	// maxLabels are the labels of a selector.
	maxLabels = 64
)

// foreign are the fields of spec.service with types of Kubernetes.
var foreign = []string{"affinity", "tolerations", "topologySpreadConstraints"}

// withResources are the fields of the spec with resources, by their path.
var withResources = [][]string{{"service"}, {"cache", "inCluster"}}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "crdbounds:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the CRD: %w", err)
	}
	crd := map[string]any{}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return fmt.Errorf("parsing the CRD: %w", err)
	}
	for _, version := range crd["spec"].(map[string]any)["versions"].([]any) {
		spec := property(version.(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any), "spec")
		for _, field := range foreign {
			bound(property(spec, "service", field))
		}
		for _, path := range withResources {
			for _, field := range []string{"requests", "limits"} {
				quantity := property(spec, append(path, "resources", field)...)["additionalProperties"].(map[string]any)
				quantity["maxLength"] = maxQuantity
			}
		}
	}
	if text, err = yaml.Marshal(crd); err != nil {
		return fmt.Errorf("encoding the CRD: %w", err)
	}
	if err := os.WriteFile(file, append([]byte("---\n"), text...), 0o644); err != nil {
		return fmt.Errorf("writing the CRD: %w", err)
	}
	return nil
}

// property returns a property of a schema, by its path.
func property(schema map[string]any, path ...string) map[string]any {
	for _, name := range path {
		schema = schema["properties"].(map[string]any)[name].(map[string]any)
	}
	return schema
}

// bound adds the bounds that a schema and the schemas within it lack.
func bound(schema map[string]any) {
	lack := func(key string, value any) {
		if _, has := schema[key]; !has {
			schema[key] = value
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, nested := range properties {
		bound(nested.(map[string]any))
	}
	switch values, isMap := schema["additionalProperties"].(map[string]any); {
	case isMap:
		lack("maxProperties", maxLabels)
		lack("x-kubernetes-validations", []any{map[string]any{
			"rule":    fmt.Sprintf("self.all(k, k.size() <= %d)", maxText),
			"message": fmt.Sprintf("keys must have at most %d characters", maxText),
		}})
		bound(values)
	case schema["type"] == "array":
		items := schema["items"].(map[string]any)
		if items["type"] == "string" {
			lack("maxItems", maxTexts)
		}
		lack("maxItems", maxObjects)
		bound(items)
	case schema["type"] == "string":
		lack("maxLength", maxText)
	}
}
