// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package incluster

import (
	"os"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// Whatever else runs in the operator's namespace has no business with Redis.
func TestRedisAdmitsPodsRatherThanNamespaces(t *testing.T) {
	policy := redisNetworkPolicy(&v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "shop"}}, "operators")
	for _, rule := range policy.Spec.Ingress {
		for _, from := range rule.From {
			if from.PodSelector == nil || len(from.PodSelector.MatchLabels) == 0 {
				t.Errorf("a whole namespace is admitted: %+v", from.NamespaceSelector)
			}
		}
	}
	manifest, err := os.ReadFile("../../../../config/manager/manager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var operator appsv1.Deployment
	if err := yaml.Unmarshal(manifest, &operator); err != nil {
		t.Fatal(err)
	}
	for label, value := range operatorPods {
		if got := operator.Spec.Template.Labels[label]; got != value {
			t.Errorf("the operator's pods have the label %s=%q, and %q is admitted", label, got, value)
		}
	}
}
