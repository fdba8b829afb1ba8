// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
)

// The keys that authenticate documents in Redis are replaced while pods run, which read them from a
// Secret, each at its own time.

const (
	// keyPeriod is the time between two steps of a rotation, longer than a World at rest is verified.
	keyPeriod = 48 * time.Hour
	// keyStep is when the next step is due, whatever FlagCache it is, with time for faults.
	keyStep = keyPeriod + keyPeriod/8 + time.Hour

	integrityName = name + "-integrity"
)

// keyHistory is what the Secret with the keys had.
type keyHistory struct {
	// current is the key that documents are sealed with, seal that of what the operator reads back.
	current, seal string
	// known has when each of the keys that pods accept was first in the Secret. It is never
	// modified in place.
	known map[string]time.Time
	// replaced counts the replacements of the current key.
	replaced int
}

// keyScenarios are about the rotation of keys.
var keyScenarios = []scenario{
	{name: "keysRotated", steps: []step{createInCluster, passTime(keyStep), passTime(keyStep), passTime(keyStep)}, waitsForRest: true, keyPeriod: keyPeriod},
}

// passTime lets time pass in which nothing happens but what the operator has planned.
func passTime(d time.Duration) step {
	return step{"let " + d.String() + " pass", func(w *World) {
		w.setTime(w.time.Add(d))
		w.start, w.lastStep = w.start.Add(d), w.time
		w.queue.enqueue(w.time)
	}}
}

// checkKeys verifies S13: a key is used a period after pods could know it, the previous one is
// accepted after that, and the key of seals stays.
func (w oracle) checkKeys(k kind, before, after client.Object) {
	switch {
	case k != secrets:
	case after == nil && before.GetName() == integrityName:
		w.keys = keyHistory{}
	case after != nil && after.GetName() == integrityName:
		w.recordKeys(after.(*corev1.Secret))
	}
}

func (w oracle) recordKeys(holder *corev1.Secret) {
	was, now := w.keys, keyHistory{current: string(holder.Data[config.IntegrityKey]), seal: string(holder.Data[observed.SealKey]), known: map[string]time.Time{}, replaced: w.keys.replaced}
	for _, suffix := range []string{"", config.IntegrityNextSuffix, config.IntegrityPreviousSuffix} {
		if key := string(holder.Data[config.IntegrityKey+suffix]); key != "" {
			now.known[key] = w.time
			if since, ok := was.known[key]; ok {
				now.known[key] = since
			}
		}
	}
	if now.current != was.current {
		now.replaced++
	}
	w.keys = now
	if was.current == "" || w.writer != operator {
		return
	}
	if _, accepted := now.known[was.current]; !accepted {
		w.violation("S13 keys: what was sealed with the key in use until now is not accepted any more")
	}
	since, known := was.known[now.current]
	early := w.time.Sub(since) < w.scenario.keyPeriod-tick && len(w.plan.clockJumps) == 0
	if now.current != was.current && (!known || early) {
		w.violation("S13 keys: a key is used %v after pods could know it", w.time.Sub(since))
	}
	if was.seal != "" && now.seal != was.seal {
		w.violation("S13 keys: the key of seals was replaced")
	}
}

// checkKeysAtRest verifies S13: the key is replaced.
func (w oracle) checkKeysAtRest() {
	ended := w.step == len(w.scenario.steps) && w.keys.current != ""
	if w.scenario.keyPeriod > 0 && ended && w.keys.replaced < 2 {
		w.violation("S13 keys: the first key is still in use")
	}
}

// sinceKeyStep returns the time of the last step of a rotation relative to now, 0 if it is unknown.
func sinceKeyStep(holder *corev1.Secret, now time.Time) time.Duration {
	since, err := time.Parse(time.RFC3339, holder.Annotations[v1alpha1.AnnotationKeyStep])
	if err != nil {
		return 0
	}
	return since.Sub(now)
}
