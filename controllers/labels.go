// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// managed selects the children of FlagCaches. The label is the operator's own: others
// that are in common use, such as LabelManagedBy, may be owned by policies of the cluster.
func managed() labels.Selector {
	named, err := labels.NewRequirement(v1alpha1.LabelName, selection.Exists, nil)
	if err != nil {
		panic(fmt.Sprintf("the name of a label is not valid: %v", err))
	}
	return labels.NewSelector().Add(*named)
}

// required returns the labels that a child must have. LabelManagedBy is for people and
// other tools.
func required(all map[string]string) map[string]string {
	all = maps.Clone(all)
	delete(all, v1alpha1.LabelManagedBy)
	return all
}

// hasLabels reports whether an object has the labels that a child must have.
func hasLabels(live, desired observed.Object) bool {
	return labels.SelectorFromSet(required(desired.GetLabels())).Matches(labels.Set(live.GetLabels()))
}

// tolerateLabels takes over the value that others gave to a label which is not required,
// so that there is no contest about it.
func tolerateLabels(fields map[string]any, current observed.Object) map[string]any {
	theirs := current.GetLabels()[v1alpha1.LabelManagedBy]
	metadata, ok := fields["metadata"].(map[string]any)
	if !ok || theirs == "" {
		return fields
	}
	ours, ok := metadata["labels"].(map[string]any)
	if !ok {
		return fields
	}
	fields, metadata, ours = maps.Clone(fields), maps.Clone(metadata), maps.Clone(ours)
	ours[v1alpha1.LabelManagedBy] = theirs
	metadata["labels"], fields["metadata"] = ours, metadata
	return fields
}

// labelError is the error of a label that was written and has another value afterwards.
type labelError struct {
	child      observed.Object
	label, got string
}

func (e labelError) Error() string {
	return fmt.Sprintf("%s: label %s is %q after it was written: exclude it from the admission policy or webhook that changes it", describe(e.child), e.label, e.got)
}

// checkLabels compares the labels of an object that was just written with those that it
// was written with. One that is required and does not stick is an error, another one an
// event.
func (a *applier) checkLabels(ctx context.Context, written observed.Object, wanted map[string]string) error {
	for _, label := range slices.Sorted(maps.Keys(wanted)) {
		got := written.GetLabels()[label]
		if got == wanted[label] {
			continue
		}
		problem := labelError{child: written, label: label, got: got}
		if label != v1alpha1.LabelManagedBy {
			return problem
		}
		ctrl.LoggerFrom(ctx).Info("Leaving a label to another writer", "child", describe(written), "label", label, "value", got)
		a.events.Eventf(a.fresh.snapshot.FlagCache, nil, corev1.EventTypeWarning, v1alpha1.ReasonLabelChanged, v1alpha1.ConditionReady, "%s", problem.Error())
	}
	return nil
}
