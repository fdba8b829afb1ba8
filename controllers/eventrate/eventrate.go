// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package eventrate limits the Events about the objects of one namespace. The broadcaster of
// client-go keeps each Event for up to twelve minutes and writes it in a goroutine of its own, so
// that FlagCaches that change all the time would fill the operator's memory.
package eventrate

import (
	"sync"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/lru"
)

// Limits of a namespace: so many Events at once, and one a second.
const (
	burst     = 1000
	perSecond = 1
	// maxNamespaces whose Events are counted. Those that had none for longest are forgotten.
	maxNamespaces = 4096
)

// Recorder drops the Events beyond the limits. What they tell is also in conditions.
type Recorder struct {
	to events.EventRecorder

	mu sync.Mutex
	// limiters of namespaces.
	limiters *lru.Cache
}

// New returns a Recorder that passes Events on.
func New(to events.EventRecorder) *Recorder {
	return &Recorder{to: to, limiters: lru.New(maxNamespaces)}
}

// Eventf implements events.EventRecorder.
func (r *Recorder) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	namespace := ""
	if o, err := meta.Accessor(regarding); err == nil {
		namespace = o.GetNamespace()
	}
	if r.limiter(namespace).Allow() {
		r.to.Eventf(regarding, related, kind, reason, action, note, args...)
	}
}

func (r *Recorder) limiter(namespace string) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if found, ok := r.limiters.Get(namespace); ok {
		return found.(*rate.Limiter)
	}
	created := rate.NewLimiter(perSecond, burst)
	r.limiters.Add(namespace, created)
	return created
}
