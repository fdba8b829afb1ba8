// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// fluxExample is the Kustomization that waits for Serving.
const fluxExample = "../../config/flux/kustomization.yaml"

// seen is what the tools report of a FlagCache: Flux without settings and with those of
// fluxExample, and Argo CD with the health check and with that of Serving.
type seen struct{ flux, fluxServing, argo, argoServing string }

// TestWhatToolsReport: the columns of Flux and Argo CD of the table in docs/canary.md.
func TestWhatToolsReport(t *testing.T) {
	const (
		current, inProgress, failed               = "Current", "InProgress", "Failed"
		healthy, progressing, degraded, suspended = "Healthy", "Progressing", "Degraded", "Suspended"
	)
	want := map[string]seen{
		"the-first-revision-starts":          {inProgress, inProgress, progressing, progressing},
		"at-rest":                            {current, current, healthy, healthy},
		"a-canary":                           {inProgress, current, progressing, healthy},
		"a-canary-that-is-held":              {inProgress, current, progressing, healthy},
		"a-canary-that-is-paused":            {inProgress, current, suspended, healthy},
		"an-inconclusive-canary":             {failed, current, suspended, healthy},
		"rolled-back":                        {failed, current, degraded, healthy},
		"the-stable-revision-does-not-serve": {inProgress, current, progressing, healthy},
		"pods-do-not-come":                   {inProgress, inProgress, progressing, progressing},
		"pods-did-not-come-in-five-minutes":  {failed, failed, degraded, degraded},
		"suspended":                          {inProgress, current, suspended, healthy},
	}
	flux := servingExpressions(t)
	for _, path := range fixtures(t) {
		phase := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(phase, func(t *testing.T) {
			var object map[string]any
			read(t, path, &object)
			o := &unstructured.Unstructured{}
			read(t, path, &o.Object)
			toIntegers(o.Object)
			computed, err := status.Compute(o)
			if err != nil {
				t.Fatal(err)
			}
			evaluated, err := flux.Evaluate(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			got := seen{
				computed.Status.String(), evaluated.Status.String(),
				healthOf(t, filepath.Join(customization, "health.lua"), object).Status, healthOf(t, servingCheck, object).Status,
			}
			if got != want[phase] {
				t.Errorf("got %+v, want %+v", got, want[phase])
			}
		})
	}
	if found := len(fixtures(t)); found != len(want) {
		t.Errorf("there are %d fixtures and %d phases", found, len(want))
	}
}

// servingExpressions are the healthCheckExprs of the example, as Flux evaluates them.
func servingExpressions(t *testing.T) *cel.StatusEvaluator {
	t.Helper()
	var example struct {
		Spec struct {
			HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	read(t, fluxExample, &example)
	if len(example.Spec.HealthCheckExprs) != 1 {
		t.Fatalf("%s has %d health checks", fluxExample, len(example.Spec.HealthCheckExprs))
	}
	evaluator, err := cel.NewStatusEvaluator(&example.Spec.HealthCheckExprs[0].HealthCheckExpressions)
	if err != nil {
		t.Fatal(err)
	}
	return evaluator
}

// TestNothingReportedYet: a FlagCache that the operator has not seen, and one whose new spec it has
// not seen, are in progress for Argo CD; for Flux with the expressions, the second one is.
func TestNothingReportedYet(t *testing.T) {
	created := map[string]any{"metadata": map[string]any{"generation": float64(1)}, "spec": map[string]any{}}
	var changed map[string]any
	read(t, filepath.Join(customization, "testdata", "at-rest.yaml"), &changed)
	changed["metadata"].(map[string]any)["generation"] = float64(99)
	for _, script := range []string{filepath.Join(customization, "health.lua"), servingCheck} {
		for what, object := range map[string]map[string]any{"created": created, "changed": changed} {
			if got := healthOf(t, script, object); got.Status != "Progressing" {
				t.Errorf("%s: a FlagCache that was just %s is %+v", script, what, got)
			}
		}
	}
	toIntegers(changed)
	got, err := servingExpressions(t).Evaluate(t.Context(), &unstructured.Unstructured{Object: changed})
	if err != nil || got.Status != status.InProgressStatus {
		t.Errorf("Flux reports %+v, %v of a FlagCache that was just changed", got, err)
	}
}

// toIntegers converts the generations of an object to integers, as the clients of Kubernetes read
// them.
func toIntegers(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, item := range value {
			if number, ok := item.(float64); ok {
				value[key] = int64(number)
			}
			toIntegers(item)
		}
	case []any:
		for _, item := range value {
			toIntegers(item)
		}
	}
}
