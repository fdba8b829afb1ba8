// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/probe"
)

// memo has the states of the World from which earlier runs have succeeded. A run that reaches such
// a state after its last fault is not continued: the World is deterministic and the operator has no
// memory, so the result is known. Most runs rejoin the reference a reconciliation or two after
// their fault.
type memo struct {
	mu     sync.RWMutex
	states map[stateKey]future
}

// stateKey is a hash of everything that the rest of a run depends on.
type stateKey [sha256.Size]byte

// future is the result of continuing from a state.
type future struct {
	reconciles int
	final      string
}

func (m *memo) lookUp(k stateKey) (future, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f, ok := m.states[k]
	return f, ok
}

// learn adds the states of a successful run.
func (m *memo) learn(w *World) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, reconciles := range w.visited {
		m.states[key] = future{reconciles: w.effort.reconciles - reconciles, final: w.final}
	}
}

// predicted ends a run whose result is known.
func (w digest) predicted() bool {
	if w.memo == nil || w.current != nil || !w.planExhausted() {
		return false
	}
	key := w.stateKey()
	if f, ok := w.memo.lookUp(key); ok {
		w.effort, w.final = effort{reconciles: w.reconciles + f.reconciles}, f.final
		return true
	}
	if _, seen := w.visited[key]; !seen {
		w.visited[key] = w.reconciles
	}
	return false
}

// planExhausted reports whether the plan has no further faults.
func (w digest) planExhausted() bool {
	if w.cache.isOld() || w.plan.keepMemory || w.plan.order != 0 || w.offset != 0 || w.queue.loseNext > 0 || w.queue.addNext > 0 {
		return false
	}
	for i, p := range w.plan.points {
		s := w.injections[i]
		if s.times == 0 && (w.calls < p.call || !p.isEvent()) || p.times == untilLifted && s.times > 0 && w.outageActive() || s.times < p.times && s.times > 0 {
			return false
		}
	}
	for _, s := range w.plan.staleViews {
		if s.reconcile > w.reconciles {
			return false
		}
	}
	for _, d := range w.plan.queueFaults {
		if d.reconcile > w.reconciles {
			return false
		}
	}
	return len(w.plan.clockJumps) == 0
}

// fingerprint is an object without what legitimately differs between runs; credentials are the
// generated parts of it.
type fingerprint struct {
	text        string
	credentials []string
}

// stateKey returns the key of the World's state.
func (w digest) stateKey() stateKey {
	h := sha256.New()
	seen := map[string]int{}
	writeCredentials := func(s fingerprint) {
		for _, t := range s.credentials {
			if _, ok := seen[t]; !ok {
				seen[t] = len(seen)
			}
			fmt.Fprint(h, seen[t], " ")
		}
	}
	owner := find(w.api.now(flagCaches), name)
	for k := range kinds {
		for _, o := range w.ordered(k) {
			s := w.fingerprintOf(o)
			ref := metav1.GetControllerOf(o)
			fmt.Fprintln(h, s.text, ref != nil && owner != nil && ref.UID == owner.GetUID(), w.timesOf(o), w.cloudOracle().cloudState(o))
			writeCredentials(s)
		}
	}
	since := func(t time.Time) time.Duration {
		if t.IsZero() {
			return -1
		}
		return t.Sub(w.time)
	}
	fmt.Fprintln(h, w.queue.dirty, w.queue.failed, w.queue.stale, since(w.queue.later), max(0, since(w.queue.ready)), w.step, w.sinceLastStep(),
		since(w.nextTick), since(w.alarm), w.statusNumber(), w.flagsSealed(), w.desiredLoad, w.cloud.installed, w.cloud.stopped, w.api.terminating, w.lastResult.unchanged, w.lastResult.requeueAfter, w.lastResult.revision == w.api.revision)
	w.writeOrder(h)
	s := fingerprintText(w.cloud.Describe(w.time))
	fmt.Fprintln(h, s.text, asText(w.servers))
	writeCredentials(s)
	for _, key := range w.redis.keys() {
		// An ID is a hash that includes a generated credential.
		p := w.redis[key]
		id, target, last := p.target.ID, p.target, probe.Result{}
		target.ID = ""
		if p.last != nil {
			last = *p.last
			last.ID = ""
		}
		fmt.Fprintln(h, key.Name, target.Addr, hash(target), seen[id], seen[generatedPattern.FindString(target.Password.Reveal())], p.fresh, p.last != nil, last)
	}
	fmt.Fprintln(h, w.broadcastState())
	if t := w.broadcasts.target; t != nil {
		fmt.Fprintln(h, seen[t.Redis.ID], seen[generatedPattern.FindString(t.Redis.Password.Reveal())], seen[generatedPattern.FindString(t.Key.Reveal())])
	}
	if fc, ok := owner.(*v1alpha1.FlagCache); ok && fc.Spec.Canary != nil {
		s := fingerprintText(w.canaryState(fc))
		fmt.Fprintln(h, s.text)
		writeCredentials(s)
	}
	return stateKey(h.Sum(nil))
}

// canaryState returns the state that the rest of a canary depends on: records, evidence, and what
// will be counted. Times are relative to now, and counters to the last sample. When all steps are
// done and every canary has its outcome, the evidence is irrelevant.
func (w digest) canaryState(fc *v1alpha1.FlagCache) string {
	var text strings.Builder
	over := w.step == len(w.scenario.steps) && w.canaryOracle().allConcluded()
	fmt.Fprintln(&text, over, w.imageFixed, w.lostImage, w.keptPods, w.assigned, w.clients.served, w.clients.ready, w.clients.selected, w.clients.last)
	var order []string
	for _, o := range w.ordered(controllerRevisions) {
		record, _ := readRecord(o)
		order = append(order, record.StartedAt.Format(time.RFC3339)+" "+record.Revision)
		if record.Outcome == canary.Promoted {
			fmt.Fprintln(&text, record.Revision, "promoted", max(record.FinishedAt.Sub(w.time), -w.agesOut(fc)))
		}
		if !over || w.reduced {
			fmt.Fprintln(&text, w.recordState(w.concluded(record)), w.recentTimes(record))
		}
	}
	slices.Sort(order)
	last := ""
	for _, entry := range order {
		begun, revision, _ := strings.Cut(entry, " ")
		fmt.Fprintln(&text, revision, w.reduced && begun == last)
		last = begun
	}
	if over {
		return text.String()
	}
	for _, s := range w.load().traffic() {
		fmt.Fprintln(&text, s, w.exposure(fc, s))
	}
	if shown := fc.Status.Canary.DeepCopy(); shown != nil {
		shown.StepStartedAt, shown.DeadlineAt = nil, nil
		fmt.Fprintln(&text, asText(shown))
	}
	fmt.Fprintln(&text, hash(w.evidence.target), w.evidence.next.Sub(w.time))
	if last := w.evidence.last; last != nil {
		fmt.Fprintln(&text, last.At.Sub(w.time))
		for _, s := range last.Streams {
			fmt.Fprintln(&text, s.Revision, w.newCounts(s.Revision, s.Counts))
		}
	}
	return text.String()
}

// recordState returns a record with times relative to now.
func (w digest) recordState(record canary.Record) string {
	var text strings.Builder
	job, ok := live[*batchv1.Job](&w.api.store, jobs, name+"-"+record.Revision+"-load")
	fmt.Fprintln(&text, ok && job.Annotations[v1alpha1.AnnotationTrial] == record.StartedAt.UTC().Format(time.RFC3339))
	if record.Canary != nil {
		state := *record.Canary
		p, l := &state.Progress, &state.Ledger
		fmt.Fprintln(&text, p.DecidedAt.Sub(w.time), l.SampledAt.Sub(w.time), w.sharedSince(state))
		for _, revision := range slices.Sorted(maps.Keys(l.Streams)) {
			fmt.Fprintln(&text, revision, l.Streams[revision].Missed, w.newCounts(revision, l.Streams[revision].Counts))
		}
		p.DecidedAt, l.SampledAt, p.StepStartedAt, p.SharedAt, l.Streams = time.Time{}, time.Time{}, time.Time{}, time.Time{}, nil
		record.Canary = &state
	}
	record.StartedAt, record.FinishedAt = time.Time{}, time.Time{}
	fmt.Fprintln(&text, asText(record))
	return text.String()
}

// sharedSince describes since when a step has had its share. Before the last sample, and not in the
// future, it does not matter when.
func (w digest) sharedSince(state canary.State) string {
	switch at := state.Progress.SharedAt; {
	case at.IsZero():
		return "no share"
	case at.After(state.Ledger.SampledAt), at.After(w.Now()):
		return at.Sub(w.time).String()
	default:
		return "a share"
	}
}

// newCounts returns the requests that a revision served since its last sample.
func (w digest) newCounts(revision string, counts map[canary.Check]analysis.Counts) analysis.Counts {
	now, then := w.clients.answered[revision], counts[canary.ErrorRate]
	return analysis.Counts{Bad: now.Bad - then.Bad, Total: now.Total - then.Total}
}

func asText(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("writing %T: %v", value, err))
	}
	return string(text)
}

// statusMatchesRecords reports whether the times in the status are those of the records, and not of
// a record that could not be written.
func (w digest) statusMatchesRecords(fc *v1alpha1.FlagCache) bool {
	times := map[string][2]time.Time{}
	for _, o := range w.api.now(controllerRevisions) {
		if record, ok := readRecord(o); ok {
			times[record.Revision] = [2]time.Time{record.StartedAt, record.FinishedAt}
		}
	}
	for _, entry := range fc.Status.History {
		recorded := times[entry.Revision]
		if !entry.StartedAt.Equal(asTime(recorded[0])) || !entry.FinishedAt.Equal(asTime(recorded[1])) {
			return false
		}
	}
	return true
}

// asTime converts a time for a status, to nil if it is zero.
func asTime(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t}
}

// timesOf returns the times of an object that the rest of a run depends on.
func (w digest) timesOf(o client.Object) any {
	if w.reduced {
		return fmt.Sprint(w.timeToDeadline(o), w.ages(o))
	}
	return w.timeToDeadline(o)
}

// timeToDeadline returns the remaining time of the deployment controller, of a load test, or of the
// rotation of keys.
func (w digest) timeToDeadline(o client.Object) time.Duration {
	if job, ok := o.(*batchv1.Job); ok {
		return max(job.CreationTimestamp.Sub(w.time), -2*loadTestDuration)
	}
	if holder, ok := o.(*corev1.Secret); ok && holder.Name == integrityName {
		return sinceKeyStep(holder, w.time)
	}
	d, ok := o.(*appsv1.Deployment)
	if !ok || w.reduced || len(d.Status.Conditions) == 0 || !strings.Contains(d.Spec.Template.Spec.Containers[0].Image, unstartableImage) {
		return 0
	}
	return d.Status.Conditions[0].LastUpdateTime.Sub(w.time)
}

func (w digest) fingerprintOf(o client.Object) fingerprint {
	if s, ok := w.common[o]; ok {
		return s
	}
	if s, ok := w.own[o]; ok {
		return s
	}
	s := newFingerprint(w.reduce(o))
	if w.reduced {
		sum := sha256.Sum256([]byte(s.text))
		s.text = string(sum[:])
	}
	w.own[o] = s
	return s
}

func newFingerprint(o client.Object) fingerprint {
	s := o.DeepCopyObject().(client.Object)
	s.SetResourceVersion("")
	s.SetUID("")
	s.SetCreationTimestamp(metav1.Time{})
	for i := range s.GetManagedFields() {
		s.GetManagedFields()[i].Time = nil
	}
	for i := range s.GetOwnerReferences() {
		s.GetOwnerReferences()[i].UID = ""
	}
	if s.GetDeletionTimestamp() != nil {
		s.SetDeletionTimestamp(&metav1.Time{})
	}
	withoutTimes(s)
	switch s := s.(type) {
	case *v1alpha1.FlagCache:
		if s.Status.Cache != nil {
			s.Status.Cache.CreatedAt = nil
		}
		for i := range s.Status.Conditions {
			s.Status.Conditions[i].LastTransitionTime = metav1.Time{}
			s.Status.Conditions[i].Message = withoutCounts(s.Status.Conditions[i].Message)
		}
		for i := range s.Status.History {
			s.Status.History[i].StartedAt, s.Status.History[i].FinishedAt = nil, nil
		}
		s.Status.Canary = nil // see canaryState
	case *appsv1.ControllerRevision:
		if record, ok := readRecord(s); ok {
			record.StartedAt, record.FinishedAt, record.Canary, record.Message = time.Time{}, time.Time{}, nil, ""
			s.Annotations[v1alpha1.AnnotationRecord] = asText(record)
		}
		s.Data.Raw = withReadableTemplate(s)
		if s.Annotations[v1alpha1.AnnotationSeal] != "" {
			s.Annotations[v1alpha1.AnnotationSeal] = "of the template, with a generated key"
		}
	case *corev1.ConfigMap:
		delete(s.Annotations, v1alpha1.AnnotationFlagsSeal) // see flagsSealed
	case *batchv1.Job:
		delete(s.Annotations, v1alpha1.AnnotationTrial) // see recordState
	case *appsv1.Deployment:
		for i := range s.Status.Conditions {
			s.Status.Conditions[i].LastUpdateTime = metav1.Time{}
		}
	case *appsv1.StatefulSet:
		if logins, ok := s.Annotations[annotationLogins]; ok { // whether they are those of the Secret matters
			s.Annotations[annotationLogins] = strings.ReplaceAll(logins, loginMarker, secretMarker)
		}
	}
	var content any = s
	if secret, ok := s.(*corev1.Secret); ok {
		content = decoded(secret)
	}
	text, err := json.Marshal(content)
	if err != nil {
		panic(fmt.Sprintf("writing %T: %v", o, err))
	}
	return fingerprintText(string(text))
}

// fingerprintText replaces credentials, and words that are hashes, some of which are hashes of
// credentials.
func fingerprintText(text string) fingerprint {
	var s fingerprint
	rest := make([]byte, 0, len(text))
	take := func(token string) {
		s.credentials = append(s.credentials, token)
		rest = append(rest, '?')
	}
	for begin, end := 0, 0; begin < len(text); begin = end {
		for end = begin; end < len(text) && isWord(text[end]); end++ {
		}
		word := text[begin:end]
		if isHash(word) {
			take(word)
			continue
		}
		for at := strings.Index(word, secretMarker); at >= 0 && len(word) >= at+generatedLength; at = strings.Index(word, secretMarker) {
			rest = append(rest, word[:at]...)
			take(word[at : at+generatedLength])
			word = word[at+generatedLength:]
		}
		rest = append(rest, word...)
		if end < len(text) {
			rest = append(rest, text[end])
			end++
		}
	}
	s.text = string(rest)
	return s
}

// generatedLength is the length of a credential that the operator generated.
const generatedLength = len(secretMarker) + 4

func isWord(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}

// isHash recognizes hashes in names and labels (8 digits) and of contents (14 to 16, since leading
// zeros are omitted).
func isHash(word string) bool {
	if len(word) != 8 && (len(word) < 14 || len(word) > 16) {
		return false
	}
	return strings.Trim(word, "0123456789abcdef") == ""
}
