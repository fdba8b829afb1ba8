// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
)

// normalized returns the state of a World in a form that is comparable between runs: without what
// legitimately differs, and with generated values replaced by the order of their first occurrence.
func (w digest) normalized() string {
	var lines strings.Builder
	for k := range kinds {
		for _, o := range w.api.now(k) {
			if stored, ok := o.(*appsv1.ControllerRevision); ok && find(w.api.now(deployments), stored.Name) == nil {
				continue // which revisions existed depends on the timing
			}
			if w.isEmptySplit(o) {
				continue // so does whether a rejected candidate came this far
			}
			fmt.Fprintf(&lines, "%s %s\n%s\n", k, o.GetName(), normalizedText(o))
		}
	}
	text := replaceByOrder(lines.String(), generatedPattern, secretMarker)
	return replaceByOrder(text, revisionPattern, "REVISION")
}

// isEmptySplit reports whether an object is the traffic file after a rollback, without a share.
// Pods treat it like a missing file.
func (w digest) isEmptySplit(o client.Object) bool {
	file, ok := o.(*corev1.ConfigMap)
	return ok && file.Name == name+"-traffic" && file.Data[config.SplitKey] == `{"weight":0}` &&
		slices.ContainsFunc(w.api.now(controllerRevisions), func(o client.Object) bool {
			record, valid := readRecord(o)
			return !valid || record.Outcome == canary.RolledBack && !record.Lifted
		})
}

// generatedPattern matches credentials, and revisionPattern the names of revisions, which are
// hashes of them.
var (
	generatedPattern = regexp.MustCompile(secretMarker + `\d{4}`)
	revisionPattern  = regexp.MustCompile(`\b[0-9a-f]{8}\b`)
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

// normalizedText returns an object as indented JSON.
func normalizedText(o client.Object) string {
	o = o.DeepCopyObject().(client.Object)
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	o.SetUID("")
	o.SetCreationTimestamp(metav1.Time{})
	withoutTimes(o)
	sortTags(o)
	if o.GetAnnotations() != nil {
		for _, key := range []string{v1alpha1.AnnotationApplied, annotationTemplate, annotationLogins, v1alpha1.AnnotationSeal, v1alpha1.AnnotationFlagsSeal} {
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
		text, err = json.MarshalIndent(decoded(o), "", " ")
	case *appsv1.StatefulSet:
		o.Status.CurrentRevision, o.Status.UpdateRevision = "", "" // hashes of a configuration with passwords
		text, err = json.MarshalIndent(withoutGenerations(o), "", " ")
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
				o.Annotations[key] = "a revision" // which one it is depends on the timing
			}
		}
		if c := o.Status.Canary; c != nil {
			o.Status.Canary = &v1alpha1.CanaryStatus{Phase: c.Phase, Weight: c.Weight, Summary: c.Summary}
		}
		text, err = json.MarshalIndent(o, "", " ")
	case *ack.ReplicationGroup:
		o.Spec.Description = ptr.To(attempts.ReplaceAllString(*o.Spec.Description, ""))
		text, err = json.MarshalIndent(withoutGenerations(o), "", " ")
	case *gatewayv1.HTTPRoute:
		o.Generation, o.Status = 0, gatewayv1.HTTPRouteStatus{}
		for i := range o.Spec.Rules[0].BackendRefs {
			ref := &o.Spec.Rules[0].BackendRefs[i]
			ref.Weight = ptr.To(ptr.Deref(ref.Weight, 1)) // the default
		}
		text, err = json.MarshalIndent(o, "", " ")
	case *appsv1.ControllerRevision:
		o.Revision = 0
		o.Data.Raw = withReadableTemplate(o)
		text, err = json.MarshalIndent(withRecordSummary(o), "", " ")
	default:
		text, err = json.MarshalIndent(withoutGenerations(o), "", " ")
	}
	if err != nil {
		panic(fmt.Sprintf("writing %T: %v", o, err))
	}
	return string(text)
}

// sortTags sorts the tags of an object of ACK: the operator changes their order to have ACK
// sync, which it does as often as the timing requires.
func sortTags(o client.Object) {
	spec := reflect.ValueOf(o).Elem().FieldByName("Spec")
	if spec.Kind() != reflect.Struct {
		return
	}
	tags := spec.FieldByName("Tags")
	if tags.Kind() != reflect.Slice {
		return
	}
	key := func(i int) string { return tags.Index(i).Elem().FieldByName("Key").Elem().String() }
	sort.Slice(tags.Interface(), func(i, j int) bool { return key(i) < key(j) })
}

// attempts matches the number of attempts to create a group, which depends on the timing.
var attempts = regexp.MustCompile(`, attempt \d+`)

// breachCounts matches the counts in a message about a breach, lackingChecks the list of checks
// with too little evidence.
var (
	breachCounts  = regexp.MustCompile(`[\d.]+% of \d+ events are bad \(at least [\d.]+%`)
	lackingChecks = regexp.MustCompile(`(too little evidence): [a-zA-Z0-9]+(, [a-zA-Z0-9]+)*`)
)

// withoutCounts returns a message without the amount of evidence at the time it was written.
func withoutCounts(message string) string {
	message = breachCounts.ReplaceAllString(message, "too many events are bad (at least some")
	return lackingChecks.ReplaceAllString(message, "$1: some checks")
}

// withRecordSummary returns a ControllerRevision with only the outcome of its record. Times and the
// amount of evidence differ between runs, and so does whether a revision that was promoted
// passed its canary or stood in for a stable one that did not serve.
func withRecordSummary(stored *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	record, err := canary.Decode(stored.Annotations[v1alpha1.AnnotationRecord])
	if err != nil {
		return stored
	}
	stored.Annotations[v1alpha1.AnnotationRecord] = fmt.Sprintf("%s %s, lifted %t, passed %t, retried %t",
		record.Outcome, record.Reason, record.Lifted, record.Passed || record.Outcome == canary.Promoted, record.Retried)
	return stored
}

// withReadableTemplate returns the data of a ControllerRevision with its pod template as JSON: the
// compressed one cannot be compared, because the names of Secrets in it are hashes of credentials.
func withReadableTemplate(stored *appsv1.ControllerRevision) []byte {
	templates := observed.TemplatesOf(stored)
	if len(templates) == 0 {
		return stored.Data.Raw
	}
	return []byte(observed.ToJSON(templates[0]))
}

// decoded returns a Secret with decoded values.
func decoded(s *corev1.Secret) any {
	values := map[string]string{}
	for key, value := range s.Data {
		values[key] = string(value)
	}
	return map[string]any{"metadata": s.ObjectMeta, "type": s.Type, "values": values}
}

// withoutGenerations removes the generation and the conditions of an object, and who uses a user
// or a user group: ACK reports that as of when it last looked.
func withoutGenerations(o client.Object) any {
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
		for _, key := range []string{"observedGeneration", "conditions", "userGroupIDs", "replicationGroups"} {
			delete(status, key)
		}
	}
	return all
}

// differences returns the lines in which two objects differ.
func differences(before, after client.Object) string {
	var changed []string
	for _, line := range strings.Split(cmp.Diff(strings.Split(normalizedText(before), "\n"), strings.Split(normalizedText(after), "\n")), "\n") {
		if strings.HasPrefix(line, "+") || strings.HasPrefix(line, "-") {
			changed = append(changed, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(changed, " ")
}

// reduce returns an object without counters of which only the order or the difference matters to
// what follows, so that an exploration recognizes a state in which it has been before.
func (w digest) reduce(o client.Object) client.Object {
	if !w.reduced {
		return o
	}
	o = o.DeepCopyObject().(client.Object)
	generation := o.GetGeneration()
	o.SetGeneration(0)
	switch o := o.(type) {
	case *v1alpha1.FlagCache:
		o.Status.ObservedGeneration -= generation
		for i := range o.Status.Conditions {
			o.Status.Conditions[i].ObservedGeneration -= generation
		}
	case *appsv1.Deployment:
		o.Status.ObservedGeneration -= generation
	case *appsv1.StatefulSet:
		o.Status.ObservedGeneration -= generation
	case *appsv1.ControllerRevision:
		o.Revision = 0 // see writeOrder
	}
	return o
}

// ordered returns the current objects of a kind, in an order that does not depend on hashes in
// their names.
func (w digest) ordered(k kind) []client.Object {
	objects := w.api.now(k)
	if !w.reduced || len(objects) < 2 {
		return objects
	}
	return slices.SortedStableFunc(slices.Values(objects), func(a, b client.Object) int {
		return strings.Compare(w.fingerprintOf(a).text, w.fingerprintOf(b).text)
	})
}

// maxAge is longer than the operator waits for anything in an explored World, but a deadline of
// which there is an alarm.
const maxAge = 30 * time.Minute

// settledAge is longer than pods have to start before the operator reads why they do not.
const settledAge = 10 * time.Second

// ages returns how long ago something was that the operator or the cluster waits for, since then.
func (w digest) ages(o client.Object) []time.Duration {
	var ages []time.Duration
	add := func(since time.Time) { ages = append(ages, min(w.time.Sub(since), maxAge)) }
	switch o := o.(type) {
	case *v1alpha1.FlagCache:
		for _, c := range o.Status.Conditions {
			if c.Status != metav1.ConditionTrue && (c.Type == v1alpha1.ConditionCacheProvisioned || c.Type == v1alpha1.ConditionCacheHealthy) {
				add(c.LastTransitionTime.Time)
			}
		}
	case *appsv1.Deployment:
		if len(o.Status.Conditions) > 0 && o.Status.AvailableReplicas < ptr.Deref(o.Spec.Replicas, 1) && o.Status.Conditions[0].Status == corev1.ConditionTrue {
			add(o.Status.Conditions[0].LastUpdateTime.Time)
		}
	case *appsv1.StatefulSet:
		created, settled := o.CreationTimestamp.Time, w.time.Add(-settledAge)
		if created.Before(settled) && (o.Status.ReadyReplicas > 0 || w.provisioningSince().After(created)) {
			created = settled // the operator waits since a later time
		}
		add(created)
	default:
		if ack.Is(o) && w.cloud.stopped {
			since := ack.ConditionsOf(o).LastSyncTime().Time
			if since.IsZero() { // only then does it matter when the object was created
				since = o.GetCreationTimestamp().Time
			}
			add(since)
		}
	}
	return ages
}

// provisioningSince returns when the cache of the FlagCache was last provisioned, or no longer.
func (w digest) provisioningSince() time.Time {
	fc, ok := find(w.api.now(flagCaches), name).(*v1alpha1.FlagCache)
	if !ok {
		return time.Time{}
	}
	if c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionCacheProvisioned); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// writeOrder writes the order of the revisions.
func (w digest) writeOrder(to io.Writer) {
	if !w.reduced {
		return
	}
	records := w.ordered(controllerRevisions)
	order := make([]int, len(records))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return int(records[a].(*appsv1.ControllerRevision).Revision - records[b].(*appsv1.ControllerRevision).Revision)
	})
	fmt.Fprintln(to, order)
}

// sinceLastStep returns the time since the last step of the scenario, on which only further steps
// depend.
func (w digest) sinceLastStep() time.Duration {
	if w.reduced && w.step == len(w.scenario.steps) {
		return 0
	}
	return w.time.Sub(w.lastStep)
}

// exposure returns for how long a candidate has had a share, and how many requests it has served with
// it, as far as these have not reached what promotion requires.
func (w digest) exposure(fc *v1alpha1.FlagCache, s share) exposure {
	had := w.clients.exposures[s]
	if !w.reduced {
		return had
	}
	had.requests = min(had.requests, fc.Spec.Canary.MinimumRequests)
	for _, step := range fc.Spec.Canary.GetSteps() {
		if step.Weight == s.weight {
			had.duration = min(had.duration, step.Duration.Duration)
		}
	}
	return had
}

// concluded returns a record that is over without what another canary of the revision does not
// continue.
func (w digest) concluded(record canary.Record) canary.Record {
	if !w.reduced || record.Outcome == "" || record.Canary == nil {
		return record
	}
	was := record.Canary
	kept := canary.State{Progress: canary.Progress{Forced: was.Progress.Forced, DecidedAt: w.time}, Ledger: canary.Ledger{SampledAt: w.time}}
	if record.Outcome != canary.Promoted {
		kept.Ledger.Origin, kept.Ledger.Streams = was.Ledger.Origin, was.Ledger.Streams
	}
	record.Canary = &kept
	return record
}

// recentTimes reports whether a record began or ended in this second: of records of the same second
// the names decide which is the newer one.
func (w digest) recentTimes(record canary.Record) [2]bool {
	recent := func(t time.Time) bool { return w.reduced && w.time.Sub(t) < tick }
	return [2]bool{recent(record.StartedAt), recent(record.FinishedAt)}
}

// agesOut is the age from which it does not matter how long ago a promotion was.
func (w digest) agesOut(fc *v1alpha1.FlagCache) time.Duration {
	if !w.reduced {
		return 2 * scaleDownDelay
	}
	return fc.Spec.Canary.ScaleDownDelay.Duration + tick
}

// sinceKeyStep returns the time of the last step of a rotation relative to now, 0 if it is unknown.
func sinceKeyStep(holder *corev1.Secret, now time.Time) time.Duration {
	since, err := time.Parse(time.RFC3339, holder.Annotations[v1alpha1.AnnotationKeyStep])
	if err != nil {
		return 0
	}
	return since.Sub(now)
}
