// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/service/config"
)

// normal is the state of a World in a form in which two runs can be compared:
// without what differs by nature, and with what was drawn by chance replaced by
// the order in which it first appears.
func (w *World) normal() string {
	var lines strings.Builder
	for k := range kinds {
		for _, o := range w.api.now(k) {
			if kept, ok := o.(*appsv1.ControllerRevision); ok && find(w.api.now(deployments), kept.Name) == nil {
				continue // which revisions came and went depends on who was late
			}
			if w.leftBehind(o) {
				continue // whether a rejected candidate came so far depends on it too
			}
			fmt.Fprintf(&lines, "%s %s\n%s\n", k, o.GetName(), normalText(o))
		}
	}
	text := replaceByOrder(lines.String(), drawn, secretMarker)
	return replaceByOrder(text, revisionName, "REVISION")
}

// leftBehind tells whether an object is the file of the shares after a rollback, when
// it gives nobody any: pods that read it do as without one.
func (w *World) leftBehind(o client.Object) bool {
	file, ok := o.(*corev1.ConfigMap)
	return ok && file.Name == name+"-traffic" && file.Data[config.SplitKey] == `{"weight":0}` &&
		slices.ContainsFunc(w.api.now(controllerRevisions), func(o client.Object) bool {
			record, _ := readRecord(o)
			return record.Outcome == canary.RolledBack && !record.Lifted
		})
}

// drawn are credentials, and revisionName is what is named after one.
var (
	drawn        = regexp.MustCompile(secretMarker + `\d{4}`)
	revisionName = regexp.MustCompile(`\b[0-9a-f]{8}\b`)
)

func replaceByOrder(text string, pattern *regexp.Regexp, word string) string {
	seen := map[string]string{}
	return pattern.ReplaceAllStringFunc(text, func(match string) string {
		if seen[match] == "" {
			seen[match] = fmt.Sprintf("%s#%d", word, len(seen)+1)
		}
		return seen[match]
	})
}

// normalText is an object as indented JSON.
func normalText(o client.Object) string {
	o = o.DeepCopyObject().(client.Object)
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	o.SetUID("")
	o.SetCreationTimestamp(metav1.Time{})
	withoutTimes(o)
	if o.GetAnnotations() != nil {
		for _, key := range []string{v1alpha1.AnnotationApplied, noteTemplate, notePassword, noteSent} {
			delete(o.GetAnnotations(), key)
		}
	}
	for i := range o.GetOwnerReferences() {
		o.GetOwnerReferences()[i].UID = ""
	}
	var text []byte
	var err error
	switch o := o.(type) {
	case *corev1.Secret:
		text, err = json.MarshalIndent(readable(o), "", " ")
	case *v1alpha1.FlagCache:
		for i := range o.Status.Conditions {
			o.Status.Conditions[i].LastTransitionTime = metav1.Time{}
			o.Status.Conditions[i].Message = withoutCounts(o.Status.Conditions[i].Message)
		}
		o.Status.History = nil
		if o.Status.Cache != nil {
			o.Status.Cache.CreatedAt = nil
		}
		for _, key := range []string{v1alpha1.AnnotationPause, v1alpha1.AnnotationResume, v1alpha1.AnnotationPromote, v1alpha1.AnnotationAbort, v1alpha1.AnnotationRetry} {
			if o.Annotations[key] != "" {
				o.Annotations[key] = "a revision" // which one a person means depends on when
			}
		}
		if c := o.Status.Canary; c != nil {
			o.Status.Canary = &v1alpha1.CanaryStatus{Phase: c.Phase, Weight: c.Weight, Summary: c.Summary}
		}
		text, err = json.MarshalIndent(o, "", " ")
	case *ack.ReplicationGroup:
		o.Spec.Description = attempts.ReplaceAllString(o.Spec.Description, "")
		text, err = json.MarshalIndent(withoutHistory(o), "", " ")
	case *gatewayv1.HTTPRoute:
		o.Generation, o.Status = 0, gatewayv1.HTTPRouteStatus{}
		for i := range o.Spec.Rules[0].BackendRefs {
			ref := &o.Spec.Rules[0].BackendRefs[i]
			ref.Weight = ptr.To(ptr.Deref(ref.Weight, 1)) // what a weight is that nobody gave
		}
		text, err = json.MarshalIndent(o, "", " ")
	case *appsv1.ControllerRevision:
		o.Revision = 0
		text, err = json.MarshalIndent(verdict(o), "", " ")
	default:
		text, err = json.MarshalIndent(withoutHistory(o), "", " ")
	}
	if err != nil {
		panic(fmt.Sprintf("writing %T: %v", o, err))
	}
	return string(text)
}

// attempts are how often AWS was asked anew, which depends on when it gave in.
var attempts = regexp.MustCompile(`, attempt \d+`)

// breachCounts are those of a sentence about a breach, lackingChecks the checks that
// one about too little evidence names.
var (
	breachCounts  = regexp.MustCompile(`[\d.]+% of \d+ events are bad \(at least [\d.]+%`)
	lackingChecks = regexp.MustCompile(`(too little evidence): [a-zA-Z0-9]+(, [a-zA-Z0-9]+)*`)
)

// withoutCounts is a message without how much evidence there was when it was
// written.
func withoutCounts(message string) string {
	message = breachCounts.ReplaceAllString(message, "too many events are bad (at least some")
	return lackingChecks.ReplaceAllString(message, "$1: some checks")
}

// verdict is a ControllerRevision with what its record says of the outcome. When
// that was, and how much evidence there was by then, differs from run to run.
func verdict(kept *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	record, err := canary.Decode(kept.Annotations[v1alpha1.AnnotationRecord])
	if err != nil {
		return kept
	}
	kept.Annotations[v1alpha1.AnnotationRecord] = fmt.Sprintf("%s %s, lifted %t, passed %t, retried %t",
		record.Outcome, record.Reason, record.Lifted, record.Passed, record.Retried)
	return kept
}

// readable is a Secret with its values in clear.
func readable(s *corev1.Secret) any {
	values := map[string]string{}
	for key, value := range s.Data {
		values[key] = string(value)
	}
	return map[string]any{"metadata": s.ObjectMeta, "type": s.Type, "values": values}
}

// withoutHistory leaves out how often an object was changed, and when.
func withoutHistory(o client.Object) any {
	text, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("writing %T: %v", o, err))
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		panic(fmt.Sprintf("reading %T: %v", o, err))
	}
	delete(all["metadata"].(map[string]any), "generation")
	if status, ok := all["status"].(map[string]any); ok {
		delete(status, "observedGeneration")
		delete(status, "conditions")
	}
	return all
}

// differences are the lines by which two objects differ.
func differences(before, after client.Object) string {
	var changed []string
	for _, line := range strings.Split(cmp.Diff(strings.Split(normalText(before), "\n"), strings.Split(normalText(after), "\n")), "\n") {
		if strings.HasPrefix(line, "+") || strings.HasPrefix(line, "-") {
			changed = append(changed, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(changed, " ")
}
