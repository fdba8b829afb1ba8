// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// expectKstatusAgrees compares what kstatus computes for each new version of each
// FlagCache, in some namespaces or in all, with what the version reports. A version
// without a status is left out: it is the user's, from before the operator saw it,
// and kstatus considers it current.
func (r *recorder) expectKstatusAgrees(namespaces ...string) {
	GinkgoHelper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, versions := range r.flagCaches {
		namespace, _, _ := strings.Cut(key, "/")
		if len(namespaces) > 0 && !slices.Contains(namespaces, namespace) {
			continue
		}
		judged := r.judged[key]
		r.judged[key] = len(versions) // before a failure, which is reported once
		for _, version := range versions[judged:] {
			expectKstatusAgrees(version)
		}
	}
}

func expectKstatusAgrees(o *unstructured.Unstructured) {
	GinkgoHelper()
	fc := typed(o)
	if fc.Status.ObservedGeneration == 0 {
		return
	}
	computed, err := status.Compute(o)
	Expect(err).NotTo(HaveOccurred())
	about := fmt.Sprintf("of %s/%s at version %s: %s", fc.Namespace, fc.Name, fc.ResourceVersion, asJSON(o))
	Expect(computed.Status).To(Equal(expectedStatus(fc)), "kstatus %s", about)

	reconciling := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionReconciling)
	stalled := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionStalled)
	Expect(reconciling && stalled).To(BeFalse(), "both Reconciling and Stalled %s", about)
	for _, c := range fc.Status.Conditions {
		Expect(c.ObservedGeneration).To(BeNumerically("<=", fc.Generation), "generation of %s %s", c.Type, about)
	}
}

// expectedStatus is what the conditions of a FlagCache mean in the terms of kstatus.
func expectedStatus(fc *v1alpha1.FlagCache) status.Status {
	ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady)
	current := ready != nil && ready.ObservedGeneration == fc.Generation
	switch {
	case !fc.DeletionTimestamp.IsZero():
		return status.TerminatingStatus
	case !current:
		return status.InProgressStatus
	case ready.Status == metav1.ConditionTrue && changing(fc):
		return status.InProgressStatus
	case ready.Status == metav1.ConditionTrue:
		return status.CurrentStatus
	case meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionStalled):
		return status.FailedStatus
	default:
		return status.InProgressStatus
	}
}

// changing reports whether the cache serves while it is being changed: by AWS, or until AWS
// accepts the change, or until a new token can be used.
func changing(fc *v1alpha1.FlagCache) bool {
	reasons := []string{v1alpha1.ReasonModifying, v1alpha1.ReasonAWSRetrying, v1alpha1.ReasonRotationPending}
	reconciling := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReconciling)
	return reconciling != nil && slices.Contains(reasons, reconciling.Reason)
}

// phases are the statuses that kstatus computed for a FlagCache, in order, without
// repetitions.
func (r *recorder) phases(namespace, name string) []status.Status {
	GinkgoHelper()
	var phases []status.Status
	for _, version := range r.recorded(namespace, name) {
		if typed(version).Status.ObservedGeneration == 0 {
			continue
		}
		computed, err := status.Compute(version)
		Expect(err).NotTo(HaveOccurred())
		phases = append(phases, computed.Status)
	}
	return slices.Compact(phases)
}

func typed(o *unstructured.Unstructured) *v1alpha1.FlagCache {
	GinkgoHelper()
	fc := &v1alpha1.FlagCache{}
	Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, fc)).To(Succeed())
	return fc
}
