// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package source plans where the flag service reads its flags: the condition
// FlagsValid, and the variable, volume and ports that its pods need.
package source

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Part is the state of the source of flags.
type Part struct {
	Valid metav1.Condition
	// Delivered is whether the pods serve the published document; nil for a database.
	Delivered *metav1.Condition
	// Usable: a flag service that starts now could serve it.
	Usable bool
	// Publish is the document to publish; nil if there is none. Keep is the ConfigMap of
	// published flags, and Delete is one that cannot be changed.
	Publish      *Publication
	Keep, Delete []observed.Object
	// Status is about the published document.
	Status *v1alpha1.FlagsStatus
	// Ports that the pods must reach to read it.
	Ports []int32
	// Delivery is which pods are to serve it; nil if there are none.
	Delivery *Target
	// current is the published document as it was observed.
	current published
	// RequeueAfter is when pods that serve something else are to be reported; 0 is never.
	RequeueAfter time.Duration
}

// maxProblems is how many rejected flags a condition names.
const maxProblems = 3

// Check reports whether the source of flags can be served. If it cannot, the flag
// service continues to serve its last good set.
func Check(s *observed.Index) Part {
	if s.FlagCache.Spec.Flags.Type == v1alpha1.FlagsPostgres {
		return checkDatabase(s)
	}
	return checkFile(s)
}

// checkFile plans the publication of a flags file, and reports on it. Pods serve the document
// that was published last, whatever happens to the file.
func checkFile(s *observed.Index) Part {
	published := readPublished(s)
	part := Part{
		current: published, Usable: s.Flags.State == observed.FlagsLoaded || published.intact() || published.restored(),
		Valid: checkValid(s, published), Publish: publication(s, published), Delivery: target(s, published),
	}
	part.Keep, part.Delete = published.keep(s, part.Publish)
	part.Status = published.status(s, part.Delivery)
	part.Delivered = delivered(s, part)
	if part.Valid.Status == metav1.ConditionTrue {
		part = checkDelivery(s, part)
	}
	if published.waits(s, part.Publish) {
		part.RequeueAfter = numberInterval
	}
	return part
}

// HeldBack returns the condition FlagsValid of a FlagCache for which nothing is created or
// deleted, for a reason such as spec.suspend: nil unless its flags can be used, and cannot be
// published because of that. Before the first document there are no pods to serve one.
func HeldBack(s *observed.Index, why string) *metav1.Condition {
	if s.FlagCache.Spec.Flags.ConfigMap == nil || s.Flags.State != observed.FlagsLoaded {
		return nil
	}
	name, p := observed.PublishedFlagsName(s.FlagCache), readPublished(s)
	var problem string
	switch {
	case p.configMap == nil && lastNumber(s) > 0:
		problem = "ConfigMap " + name + " was deleted, and is not created again. Running pods keep their flags, and new pods do not start"
	case p.frozen() && p.due(s) && p.intact():
		problem = "ConfigMap " + name + " is immutable, and is not replaced. Pods serve the flags that were published before"
	case p.frozen() && p.due(s):
		problem = "ConfigMap " + name + " is immutable and was edited, and is not replaced. Pods may serve what it has"
	default:
		return nil
	}
	return ptr.To(conditions.False(v1alpha1.ConditionFlagsValid, v1alpha1.ReasonHeldBack, "%s: %s", problem, why))
}

// checkValid reports whether the file can be served.
func checkValid(s *observed.Index, published published) metav1.Condition {
	ref := s.FlagCache.Spec.Flags.ConfigMap
	invalid := func(reason, format string, args ...any) metav1.Condition {
		return conditions.False(v1alpha1.ConditionFlagsValid, reason, format, args...)
	}
	kept := ""
	switch {
	case published.intact(), published.restored():
		kept = ". The last good flags are still served"
	case published.foreign:
		kept = ". The last good flags are lost: somebody edited ConfigMap " + observed.PublishedFlagsName(s.FlagCache) + ", and pods may serve what it has"
	case published.lost(s):
		kept = ". Running pods still serve the last good flags, but new pods cannot: ConfigMap " + observed.PublishedFlagsName(s.FlagCache) + " was deleted or edited"
	}
	switch s.Flags.State {
	case observed.FlagsNoConfigMap:
		return invalid(v1alpha1.ReasonConfigMapNotFound, "ConfigMap %s does not exist: create it with the key %s%s", ref.Name, ref.Key, kept)
	case observed.FlagsNoKey:
		return invalid(v1alpha1.ReasonKeyNotFound, "ConfigMap %s has no key %s: add it, or name another in spec.flags.configMap.key%s", ref.Name, ref.Key, kept)
	case observed.FlagsUnparseable:
		return invalid(v1alpha1.ReasonUnparseable, "ConfigMap %s, key %s: %s%s", ref.Name, ref.Key, s.Flags.Error, kept)
	}
	if len(s.Flags.Problems) > 0 {
		return invalid(v1alpha1.ReasonFlagsRejected, "ConfigMap %s, key %s: %s. All other flags are served", ref.Name, ref.Key, summary(s.Flags.Problems))
	}
	return conditions.True(v1alpha1.ConditionFlagsValid, v1alpha1.ReasonValid, "ConfigMap %s, key %s is valid", ref.Name, ref.Key)
}

func summary(problems []string) string {
	shown := problems[:min(len(problems), maxProblems)]
	text := strings.Join(shown, "; ")
	if more := len(problems) - len(shown); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
