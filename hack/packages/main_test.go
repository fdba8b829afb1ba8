// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestDrawLeavesOutImpliedImports(t *testing.T) {
	got := draw([]goPackage{
		{path: "controllers", imports: []string{"api/v1alpha1", "controllers/plan"}},
		{path: "controllers/plan", imports: []string{"api/v1alpha1", "service/config"}},
		{path: "api/v1alpha1"},
	})
	for _, want := range []string{"p_controllers --> p_controllers_plan\n", "p_controllers_plan --> p_api_v1alpha1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the diagram does not contain %q:\n%s", want, got)
		}
	}
	for _, unwanted := range []string{"p_controllers --> p_api_v1alpha1", "service_config"} {
		if strings.Contains(got, unwanted) {
			t.Errorf("the diagram has %q:\n%s", unwanted, got)
		}
	}
}
