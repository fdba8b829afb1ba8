// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command policyschema writes config/policy.schema.json, the JSON schema of the
// administrator's policy, from the types of controllers/policy and their comments. Editors
// and CI pipelines validate a policy with it before the operator reads it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"github.com/invopop/jsonschema"

	"github.com/flagcache/flagcache/controllers/policy"
)

// file is written relative to the root of the repository.
const file = "config/policy.schema.json"

func main() {
	if err := write(); err != nil {
		fmt.Fprintf(os.Stderr, "policyschema: %v\n", err)
		os.Exit(1)
	}
}

func write() error {
	reflector := jsonschema.Reflector{ExpandedStruct: true, DoNotReference: true, Mapper: prefix}
	if err := reflector.AddGoComments("github.com/flagcache/flagcache", "controllers/policy"); err != nil {
		return fmt.Errorf("reading the comments of the policy: %w", err)
	}
	schema := reflector.Reflect(&policy.Policy{})
	schema.ID = "https://flagcache.dev/policy.schema.json"
	for field, value := range map[string]string{"apiVersion": policy.APIVersion, "kind": policy.Kind} {
		property, _ := schema.Properties.Get(field)
		property.Const = value
	}
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the schema: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the schema: %w", err)
	}
	return nil
}

// prefix is the schema of an address or a prefix, which is a text in the file.
func prefix(t reflect.Type) *jsonschema.Schema {
	if t != reflect.TypeFor[policy.Prefix]() {
		return nil
	}
	return &jsonschema.Schema{Type: "string", Pattern: `^[0-9a-fA-F:.]+(/[0-9]{1,3})?$`}
}
