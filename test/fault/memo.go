// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
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
	owner := find(w.api.now(flagCaches), name)
	for k := range kinds {
		for _, o := range w.api.now(k) {
			s := w.skeleton(o)
			ref := metav1.GetControllerOf(o)
			fmt.Fprintln(h, s.text, ref != nil && owner != nil && ref.UID == owner.GetUID(), w.patienceLeft(o))
			for _, t := range s.tokens {
				if _, ok := seen[t]; !ok {
					seen[t] = len(seen)
				}
				fmt.Fprint(h, seen[t], " ")
			}
		}
	}
	since := func(t time.Time) time.Duration {
		if t.IsZero() {
			return -1
		}
		return t.Sub(w.time)
	}
	fmt.Fprintln(h, w.queue.dirty, w.queue.failed, w.queue.stale, since(w.queue.later), max(0, since(w.queue.ready)), w.step, since(w.stepped),
		since(w.nextTick), since(w.alarm), w.load, len(w.servers), w.api.terminating, w.last.clean, w.last.again, w.last.revision == w.api.revision)
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
		// Records hold times, and how far counters were read.
		fmt.Fprintln(h, w.time.Sub(w.began), w.answered, hash(w.metrics.target), hash(w.metrics.last), w.metrics.next)
	}
	return stateKey(h.Sum(nil))
}

// patienceLeft is how long the deployment controller will still wait.
func (w *World) patienceLeft(o client.Object) time.Duration {
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
	switch s := s.(type) {
	case *v1alpha1.FlagCache:
		for i := range s.Status.Conditions {
			s.Status.Conditions[i].LastTransitionTime = metav1.Time{}
		}
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
		for at := strings.Index(word, canary); at >= 0 && len(word) >= at+drawnLength; at = strings.Index(word, canary) {
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
const drawnLength = len(canary) + 4

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
