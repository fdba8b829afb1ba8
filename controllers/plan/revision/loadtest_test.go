// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

func testedFlagCache() *v1alpha1.FlagCache {
	return &v1alpha1.FlagCache{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "demo"},
		Spec: v1alpha1.FlagCacheSpec{Canary: &v1alpha1.CanarySpec{LoadTest: &v1alpha1.LoadTestSpec{
			Concurrency: 50, Duration: metav1.Duration{Duration: 30 * time.Second},
		}}},
	}
}

func TestLoadTestsHaveNoProxyOfAServiceMesh(t *testing.T) {
	none := map[string]string{"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
	for name, test := range map[string]struct {
		service v1alpha1.ServiceSpec
		label   string
		want    map[string]string
	}{
		"by default": {label: "false", want: none},
		"unless the flag service has one of Istio": {
			service: v1alpha1.ServiceSpec{PodLabels: map[string]v1alpha1.LabelValue{"sidecar.istio.io/inject": "true"}},
			label:   "true",
			want:    map[string]string{"sidecar.istio.io/inject": "true", "linkerd.io/inject": "disabled"},
		},
		"unless the flag service has one of Linkerd": {
			service: v1alpha1.ServiceSpec{PodAnnotations: map[string]v1alpha1.AnnotationValue{"linkerd.io/inject": "enabled"}},
			label:   "false",
			want:    map[string]string{"sidecar.istio.io/inject": "false", "linkerd.io/inject": "enabled"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			fc := testedFlagCache()
			fc.Spec.Service = test.service
			pod := LoadTestJob(observed.NewIndex(observed.Snapshot{FlagCache: fc}), canary.Record{Revision: "8f2c"}, 0.01).Spec.Template
			if diff := cmp.Diff(test.want, pod.Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
			if got := pod.Labels["sidecar.istio.io/inject"]; got != test.label {
				t.Errorf("the label of Istio is %q, want %q", got, test.label)
			}
		})
	}
}

func TestLoadTestsReachTheFlagServiceUnderDefaultDeny(t *testing.T) {
	fc := testedFlagCache()
	pod := LoadTestJob(observed.NewIndex(observed.Snapshot{FlagCache: fc}), canary.Record{Revision: "8f2c"}, 0.01).Spec.Template
	policy := LoadTestNetworkPolicy(fc, "8f2c")
	selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
	if err != nil {
		t.Fatal(err)
	}
	if !selector.Matches(labels.Set(pod.Labels)) {
		t.Errorf("the policy selects %v, which does not match the pod's labels %v", selector, pod.Labels)
	}
	service, err := metav1.LabelSelectorAsSelector(policy.Spec.Egress[1].To[0].PodSelector)
	if err != nil {
		t.Fatal(err)
	}
	if !service.Matches(labels.Set(observed.RevisionLabels(fc, "8f2c"))) {
		t.Errorf("the policy does not let it reach pods of the candidate: %v", service)
	}
}
