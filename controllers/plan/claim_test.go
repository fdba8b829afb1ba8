// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// TestClaims: nothing is changed before it is on record that this operator handles the
// FlagCache, and a claim changes nothing else.
func TestClaims(t *testing.T) {
	at := metav1.NewTime(noon)
	for name, test := range map[string]struct {
		change    func(*v1alpha1.FlagCache)
		finalizer FinalizerChange
		claimed   bool
	}{
		"a new one":                  {change: func(fc *v1alpha1.FlagCache) { fc.Finalizers = nil }, finalizer: AddFinalizer, claimed: true},
		"one of an earlier version":  {change: func(*v1alpha1.FlagCache) {}, claimed: true},
		"one that lost its status":   {change: func(fc *v1alpha1.FlagCache) { fc.Status = v1alpha1.FlagCacheStatus{} }, claimed: true},
		"one that was handed over":   {change: func(fc *v1alpha1.FlagCache) { fc.Status.Operator = "elsewhere" }, claimed: true},
		"one that is being deleted":  {change: func(fc *v1alpha1.FlagCache) { fc.DeletionTimestamp = &at }, claimed: true},
		"one that is almost deleted": {change: func(fc *v1alpha1.FlagCache) { fc.DeletionTimestamp, fc.Finalizers = &at, nil }},
		"one that is suspended":      {change: func(fc *v1alpha1.FlagCache) { fc.Spec.Suspend = true }, claimed: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache()).ready()
			w.fc.Status.Operator = ""
			test.change(w.fc)
			before := w.fc.Status.DeepCopy()
			p := Make(w.snapshot())
			if len(p.Apply)+len(p.Delete)+len(p.Routes) > 0 || p.Finalizer != test.finalizer {
				t.Errorf("the plan applies %v, deletes %v, finalizer %v", names(p.Apply), names(p.Delete), p.Finalizer)
			}
			if got := p.Status.Operator; test.claimed != (got == "flagcache-system") {
				t.Errorf("the operator in the status is %q", got)
			}
			if len(before.Conditions) > 0 {
				p.Status.Operator = before.Operator
				if diff := cmp.Diff(*before, p.Status); diff != "" {
					t.Errorf("the claim changes (-before +after):\n%s", diff)
				}
			}
		})
	}
}
