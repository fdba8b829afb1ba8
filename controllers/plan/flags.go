// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// flagsPart is what is known of the source of flags.
type flagsPart struct {
	valid metav1.Condition
	// usable says that a flag service starting now could serve it.
	usable bool
	// ports are those that the pods must reach to read it.
	ports []int32
}

// shownProblems is how many rejected flags a condition names.
const shownProblems = 3

// judgeFlags says whether the source of flags can be served as it is. One that
// cannot leaves what was served before in place: the flag service keeps its
// last good set.
func judgeFlags(s *observed.Index) flagsPart {
	if s.FlagCache.Spec.Flags.Type == v1alpha1.FlagsPostgres {
		return judgeDatabase(s)
	}
	return judgeFile(s)
}

func judgeFile(s *observed.Index) flagsPart {
	ref := s.FlagCache.Spec.Flags.ConfigMap
	invalid := func(reason, format string, args ...any) flagsPart {
		return flagsPart{valid: conditions.False(v1alpha1.ConditionFlagsValid, reason, format, args...)}
	}
	switch s.Flags.State {
	case observed.FlagsNoConfigMap:
		return invalid(v1alpha1.ReasonConfigMapNotFound, "ConfigMap %s does not exist: create it with the key %s", ref.Name, ref.Key)
	case observed.FlagsNoKey:
		return invalid(v1alpha1.ReasonKeyNotFound, "ConfigMap %s has no key %s: add it, or name another in spec.flags.configMap.key", ref.Name, ref.Key)
	case observed.FlagsUnparseable:
		return invalid(v1alpha1.ReasonUnparseable, "ConfigMap %s, key %s: %s. The last good flags go on being served", ref.Name, ref.Key, s.Flags.Error)
	}
	if len(s.Flags.Problems) > 0 {
		part := invalid(v1alpha1.ReasonFlagsRejected, "ConfigMap %s, key %s: %s. All other flags are served", ref.Name, ref.Key, summary(s.Flags.Problems))
		part.usable = true
		return part
	}
	return flagsPart{
		usable: true,
		valid:  conditions.True(v1alpha1.ConditionFlagsValid, v1alpha1.ReasonValid, "ConfigMap %s, key %s is valid", ref.Name, ref.Key),
	}
}

func summary(problems []string) string {
	shown := problems[:min(len(problems), shownProblems)]
	text := strings.Join(shown, "; ")
	if more := len(problems) - len(shown); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
