// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// sizeHint is what to do about the size of the cache, "" for nothing. While the probe
// does not know, as for a day after a restart of the operator, the previous hint about
// the same cache remains.
func sizeHint(s *observed.Index, p parts) string {
	hints := caches.Of(s.FlagCache).Hints()
	old := s.FlagCache.Status.Cache
	switch s.Probe.Load {
	case observed.LoadHighMemory:
		return "Memory stays over 80 %: " + hints.HighMemory
	case observed.LoadHighCPU:
		return "CPU stays over 75 % of a core: " + hints.HighCPU
	case observed.LoadLow:
		if p.cache.Cost.SmallerNodeExists && hints.Low != "" {
			return "Memory stays under 20 %, CPU under 10 % of a core: " + hints.Low
		}
	case observed.LoadUnknown:
		if old != nil && p.connection.InUse != nil && old.Endpoint == p.connection.InUse.Endpoint() {
			return old.Hint
		}
	}
	return ""
}
