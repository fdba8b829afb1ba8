// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"sync"
	"time"
)

// propagation is the time after which a change of flags has reached all pods. A
// mounted ConfigMap takes about a minute.
const propagation = 2 * time.Minute

// missing records since when the candidate lacks flags that the stable pod
// serves. While a change of flags reaches the pods one after the other, that is
// no failure.
type missing struct {
	mu    sync.Mutex
	since map[string]time.Duration
}

// persists reports whether a flag has been missing for longer than a change of
// flags takes.
func (m *missing) persists(key string, now time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, known := m.since[key]
	if !known {
		if m.since == nil {
			m.since = map[string]time.Duration{}
		}
		m.since[key], first = now, now
	}
	return now-first >= propagation
}

// found records that the candidate has a flag; "" is all flags.
func (m *missing) found(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key == "" {
		clear(m.since)
	}
	delete(m.since, key)
}
