// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Handler returns which operator handles a FlagCache, by its namespace, of which the
// replicas of one operator share a lease: the one that a person named, else the one that
// claimed it; "" for none yet. A name that no namespace can have is ignored: no operator
// would handle the FlagCache.
func Handler(fc *v1alpha1.FlagCache) string {
	named := fc.Annotations[v1alpha1.AnnotationOperator]
	if !namesNamespace(named) {
		named = ""
	}
	return cmp.Or(named, fc.Status.Operator)
}

// namesNamespace reports whether a namespace can have a name.
func namesNamespace(name string) bool { return len(validation.IsDNS1123Label(name)) == 0 }

// claimed reports whether it is on record that this operator handles the FlagCache.
func claimed(s *observed.Index) bool { return s.FlagCache.Status.Operator == s.Operator.Namespace }

// claim records that this operator handles the FlagCache before it changes anything. Of
// two operators that try it, one fails, because a status is written in the version that
// was read. A FlagCache that is new gets the finalizer, and one without a status of its
// spec a first one: a resource without conditions counts as reconciled (kstatus).
func claim(s *observed.Index) Plan {
	p := Plan{Status: *s.FlagCache.Status.DeepCopy()}
	if len(p.Status.Conditions) == 0 || p.Status.ObservedGeneration != s.FlagCache.Generation {
		p.Status = initialStatus(s)
	}
	if s.FlagCache.DeletionTimestamp.IsZero() && !slices.Contains(s.FlagCache.Finalizers, v1alpha1.Finalizer) {
		p.Finalizer = AddFinalizer
	}
	p.Status.Operator = s.Operator.Namespace
	return p
}
