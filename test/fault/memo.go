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

// memo knows states of the World from which all went well. A run whose faults
// are over and that comes to such a state needs no further play: the World is
// deterministic and the operator remembers nothing, so what follows is known.
// Most runs rejoin the reference a look or two after their fault.
type memo struct {
	mu   sync.RWMutex
	good map[stateKey]future
}

// stateKey is a hash of all that the future depends on.
type stateKey [sha256.Size]byte

// future is what came of a state.
type future struct {
	looks int
	final string
}

func (m *memo) known(k stateKey) (future, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f, ok := m.good[k]
	return f, ok
}

// learn takes the states that a good run went through.
func (m *memo) learn(w *World) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, looks := range w.visited {
		m.good[key] = future{looks: w.effort.looks - looks, final: w.final}
	}
}

// foreseen ends a run whose future is known.
func (w *World) foreseen() bool {
	if w.memo == nil || w.current != nil || !w.spent() {
		return false
	}
	key := w.stateKey()
	if f, ok := w.memo.known(key); ok {
		w.effort, w.final = effort{looks: w.looks + f.looks}, f.final
		return true
	}
	if _, seen := w.visited[key]; !seen {
		w.visited[key] = w.looks
	}
	return false
}

// spent says that the plan has nothing more in store.
func (w *World) spent() bool {
	if w.cache.isOld() || w.plan.memory || w.plan.order != 0 || w.offset != 0 || w.queue.lose > 0 || w.queue.extra > 0 {
		return false
	}
	for i, p := range w.plan.points {
		s := w.struck[i]
		if s.times == 0 && (w.calls < p.call || !p.intrudes()) || p.times == untilLifted && s.times > 0 && w.strikesLater() || s.times < p.times && s.times > 0 {
			return false
		}
	}
	for _, s := range w.plan.skews {
		if s.look > w.looks {
			return false
		}
	}
	for _, d := range w.plan.wakes {
		if d.look > w.looks {
			return false
		}
	}
	return len(w.plan.jumps) == 0
}

// skeleton is an object without what differs by nature; tokens are the parts of
// it that chance decided.
type skeleton struct {
	text   string
	tokens []string
}

// stateKey is the World's state.
func (w *World) stateKey() stateKey {
	h := sha256.New()
	seen := map[string]int{}
	tell := func(s skeleton) {
		for _, t := range s.tokens {
			if _, ok := seen[t]; !ok {
				seen[t] = len(seen)
			}
			fmt.Fprint(h, seen[t], " ")
		}
	}
	owner := find(w.api.now(flagCaches), name)
	for k := range kinds {
		for _, o := range w.api.now(k) {
			s := w.skeleton(o)
			ref := metav1.GetControllerOf(o)
			fmt.Fprintln(h, s.text, ref != nil && owner != nil && ref.UID == owner.GetUID(), w.patienceLeft(o), w.cloudState(o))
			tell(s)
		}
	}
	since := func(t time.Time) time.Duration {
		if t.IsZero() {
			return -1
		}
		return t.Sub(w.time)
	}
	fmt.Fprintln(h, w.queue.dirty, w.queue.failed, w.queue.stale, since(w.queue.later), max(0, since(w.queue.ready)), w.step, since(w.stepped),
		since(w.nextTick), since(w.alarm), w.load, w.cloud, w.api.terminating, w.last.clean, w.last.again, w.last.revision == w.api.revision)
	for _, address := range slices.Sorted(maps.Keys(w.servers)) {
		s := skeletonOf(fmt.Sprint(address, w.servers[address]))
		fmt.Fprintln(h, s.text)
		tell(s)
	}
	for _, key := range w.redis.keys() {
		// An ID is a hash of what was drawn, among other things.
		p := w.redis[key]
		id, target, last := p.target.ID, p.target, probe.Result{}
		target.ID = ""
		if p.last != nil {
			last = *p.last
			last.ID = ""
		}
		fmt.Fprintln(h, key.Name, target.Addr, hash(target), seen[id], seen[drawn.FindString(string(target.Password))], p.fresh, p.last != nil, last)
	}
	if fc, ok := owner.(*v1alpha1.FlagCache); ok && fc.Spec.Canary != nil {
		s := skeletonOf(w.canaryState(fc))
		fmt.Fprintln(h, s.text)
		tell(s)
	}
	return stateKey(h.Sum(nil))
}

// canaryState is what the future of canaries depends on: records, evidence, and what
// will be counted. Times are told by how long ago they are, and counters by how far
// they were read. When the story is told and every trial has its outcome, what it
// was judged by does not matter any more.
func (w *World) canaryState(fc *v1alpha1.FlagCache) string {
	var text strings.Builder
	over := w.step == len(w.scenario.steps) && w.trialsEnded()
	fmt.Fprintln(&text, over, w.mended, w.promised, w.clients.served)
	var order []string
	for _, o := range w.api.now(controllerRevisions) {
		record, _ := readRecord(o)
		order = append(order, record.StartedAt.Format(time.RFC3339)+" "+record.Revision)
		if record.Outcome == canary.Promoted {
			fmt.Fprintln(&text, record.Revision, "promoted", max(record.FinishedAt.Sub(w.time), -2*stays))
		}
		if !over {
			fmt.Fprintln(&text, w.trialState(record))
		}
	}
	slices.Sort(order)
	for _, entry := range order {
		fmt.Fprintln(&text, entry[strings.Index(entry, " "):])
	}
	if over {
		return text.String()
	}
	for _, s := range w.shares() {
		fmt.Fprintln(&text, s, w.clients.trials[s])
	}
	if shown := fc.Status.Canary.DeepCopy(); shown != nil {
		shown.StepStartedAt, shown.DeadlineAt = nil, nil
		fmt.Fprintln(&text, asText(shown))
	}
	fmt.Fprintln(&text, hash(w.metrics.target), w.metrics.next.Sub(w.time))
	if last := w.metrics.last; last != nil {
		fmt.Fprintln(&text, last.At.Sub(w.time))
		for _, s := range last.Streams {
			fmt.Fprintln(&text, s.Revision, w.unread(s.Revision, s.Counts))
		}
	}
	return text.String()
}

// trialState is a record, told from now on.
func (w *World) trialState(record canary.Record) string {
	var text strings.Builder
	job, ok := live[*batchv1.Job](&w.api.store, jobs, name+"-"+record.Revision+"-load")
	fmt.Fprintln(&text, ok && job.Annotations[v1alpha1.AnnotationTrial] == record.StartedAt.UTC().Format(time.RFC3339))
	if record.Canary != nil {
		state := *record.Canary
		p, l := &state.Progress, &state.Ledger
		fmt.Fprintln(&text, p.DecidedAt.Sub(w.time), l.SampledAt.Sub(w.time))
		for _, revision := range slices.Sorted(maps.Keys(l.Streams)) {
			fmt.Fprintln(&text, revision, l.Streams[revision].Missed, w.unread(revision, l.Streams[revision].Counts))
		}
		p.DecidedAt, l.SampledAt, p.StepStartedAt, l.Streams = time.Time{}, time.Time{}, time.Time{}, nil
		record.Canary = &state
	}
	record.StartedAt, record.FinishedAt = time.Time{}, time.Time{}
	fmt.Fprintln(&text, asText(record))
	return text.String()
}

// unread is what a revision answered since it was asked.
func (w *World) unread(revision string, counts map[canary.Check]analysis.Counts) analysis.Counts {
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

// knowsRecords tells whether the status gives the times that are on record, and not
// those of a record that could not be written.
func (w *World) knowsRecords(fc *v1alpha1.FlagCache) bool {
	times := map[string][2]time.Time{}
	for _, o := range w.api.now(controllerRevisions) {
		if record, ok := readRecord(o); ok {
			times[record.Revision] = [2]time.Time{record.StartedAt, record.FinishedAt}
		}
	}
	for _, told := range fc.Status.History {
		kept := times[told.Revision]
		if !told.StartedAt.Equal(asTime(kept[0])) || !told.FinishedAt.Equal(asTime(kept[1])) {
			return false
		}
	}
	return true
}

// asTime is a time as a status has it, nil for none.
func asTime(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t}
}

// patienceLeft is how long the deployment controller, or a load test, will still
// wait.
func (w *World) patienceLeft(o client.Object) time.Duration {
	if job, ok := o.(*batchv1.Job); ok {
		return max(job.CreationTimestamp.Sub(w.time), -2*loadTestTime)
	}
	d, ok := o.(*appsv1.Deployment)
	if !ok || len(d.Status.Conditions) == 0 || !strings.Contains(d.Spec.Template.Spec.Containers[0].Image, brokenImage) {
		return 0
	}
	return d.Status.Conditions[0].LastUpdateTime.Sub(w.time)
}

func (w *World) skeleton(o client.Object) skeleton {
	if s, ok := w.common[o]; ok {
		return s
	}
	if s, ok := w.own[o]; ok {
		return s
	}
	s := newSkeleton(o)
	w.own[o] = s
	return s
}

func newSkeleton(o client.Object) skeleton {
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
	case *batchv1.Job:
		delete(s.Annotations, v1alpha1.AnnotationTrial) // see trialState
	case *appsv1.Deployment:
		for i := range s.Status.Conditions {
			s.Status.Conditions[i].LastUpdateTime = metav1.Time{}
		}
	}
	var content any = s
	if secret, ok := s.(*corev1.Secret); ok {
		content = readable(secret)
	}
	text, err := json.Marshal(content)
	if err != nil {
		panic(fmt.Sprintf("writing %T: %v", o, err))
	}
	return skeletonOf(string(text))
}

// skeletonOf takes out of a text credentials, and words that are hashes, of
// which some are of credentials.
func skeletonOf(text string) skeleton {
	var s skeleton
	kept := make([]byte, 0, len(text))
	take := func(token string) {
		s.tokens = append(s.tokens, token)
		kept = append(kept, '?')
	}
	for begin, end := 0, 0; begin < len(text); begin = end {
		for end = begin; end < len(text) && isWord(text[end]); end++ {
		}
		word := text[begin:end]
		if isHash(word) {
			take(word)
			continue
		}
		for at := strings.Index(word, secretMarker); at >= 0 && len(word) >= at+drawnLength; at = strings.Index(word, secretMarker) {
			kept = append(kept, word[:at]...)
			take(word[at : at+drawnLength])
			word = word[at+drawnLength:]
		}
		kept = append(kept, word...)
		if end < len(text) {
			kept = append(kept, text[end])
			end++
		}
	}
	s.text = string(kept)
	return s
}

// drawnLength is the length of a credential that the operator drew.
const drawnLength = len(secretMarker) + 4

func isWord(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}

// isHash tells the hashes in names and labels (8 digits) and those of contents
// (14 to 16, as leading zeros are not written).
func isHash(word string) bool {
	if len(word) != 8 && (len(word) < 14 || len(word) > 16) {
		return false
	}
	return strings.Trim(word, "0123456789abcdef") == ""
}
