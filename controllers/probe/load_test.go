// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// period is a time in which a cache is observed every minute with the given memory and
// CPU usage in percent.
type period struct {
	duration    time.Duration
	memory, cpu float64
}

// trackLoad returns the changes of the load over the periods.
func trackLoad(periods ...period) []Load {
	var changes []Load
	var w loadTracker
	now, cpu := time.Unix(0, 0), time.Second
	for _, s := range periods {
		for range int(s.duration / time.Minute) {
			now = now.Add(time.Minute)
			cpu += time.Duration(s.cpu / 100 * float64(time.Minute))
			before := w.load
			w = w.step(Usage{Memory: int64(s.memory * 10), MemoryLimit: 1000, CPU: cpu}, now)
			if w.load != before {
				changes = append(changes, w.load)
			}
		}
	}
	return changes
}

func TestLoad(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		sequence []period
		want     []Load
	}{
		"normal load is known soon":                       {[]period{{10 * time.Minute, 50, 30}}, []Load{LoadNormal}},
		"low load is unknown before a day":                {[]period{{day - time.Hour, 5, 1}}, nil},
		"low load after a day":                            {[]period{{day + time.Hour, 5, 1}}, []Load{LoadLow}},
		"low load at night only":                          {[]period{{10 * time.Hour, 5, 1}, {time.Hour, 5, 30}, {20 * time.Hour, 5, 1}}, []Load{LoadNormal}},
		"low memory and normal CPU":                       {[]period{{2 * day, 5, 30}}, []Load{LoadNormal}},
		"a memory peak":                                   {[]period{{30 * time.Minute, 90, 30}, {time.Hour, 60, 30}}, []Load{LoadNormal}},
		"high memory after an hour":                       {[]period{{2 * time.Hour, 90, 30}}, []Load{LoadHighMemory}},
		"high CPU after an hour":                          {[]period{{2 * time.Hour, 50, 90}}, []Load{LoadHighCPU}},
		"low load ends":                                   {[]period{{2 * day, 5, 1}, {10 * time.Minute, 40, 1}}, []Load{LoadLow, LoadNormal}},
		"hysteresis of low load":                          {[]period{{2 * day, 15, 1}, {day, 25, 1}, {day, 15, 1}}, []Load{LoadLow}},
		"hysteresis of high load":                         {[]period{{2 * time.Hour, 85, 1}, {day, 75, 1}, {time.Hour, 85, 1}}, []Load{LoadHighMemory}},
		"no flapping at a threshold":                      {[]period{{2 * day, 19, 9}, {time.Hour, 21, 11}, {time.Hour, 19, 9}, {time.Hour, 21, 11}}, []Load{LoadLow}},
		"a resize from too large to too small":            {[]period{{2 * day, 5, 1}, {2 * time.Hour, 95, 1}}, []Load{LoadLow, LoadNormal, LoadHighMemory}},
		"two hours of high load between days of low load": {[]period{{2 * day, 5, 1}, {2 * time.Hour, 5, 90}, {2 * day, 5, 1}}, []Load{LoadLow, LoadNormal, LoadHighCPU, LoadNormal, LoadLow}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, trackLoad(c.sequence...)); diff != "" {
				t.Errorf("loads (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadIsUnknownWithoutUsage(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	for name, usage := range map[string]func(n int) Usage{
		"no memory limit": func(n int) Usage { return Usage{Memory: 1, CPU: time.Duration(n) * time.Second} },
		"no CPU":          func(int) Usage { return Usage{Memory: 1, MemoryLimit: 1000} },
		"a server that restarts repeatedly": func(n int) Usage {
			return Usage{Memory: 1, MemoryLimit: 1000, CPU: time.Hour / time.Duration(n)}
		},
	} {
		var w loadTracker
		for n := 1; n < 3000; n++ {
			w = w.step(usage(n), start.Add(time.Duration(n)*time.Minute))
		}
		if w.load != "" {
			t.Errorf("%s: the load is %s", name, w.load)
		}
	}
}

func TestLoadIsUnknownAfterGaps(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	var w loadTracker
	for n := range 100 {
		// Ten minutes of observations alternate with gaps of an hour.
		at := time.Duration(n)*time.Minute + time.Duration(n/10)*time.Hour
		w = w.step(Usage{Memory: 900, MemoryLimit: 1000, CPU: at/2 + time.Second}, start.Add(at))
	}
	if w.load != "" {
		t.Errorf("the load is %s after ten minutes", w.load)
	}
}

func TestParseUsage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		memory, cpu string
		want        Usage
	}{
		"no fields": {"", "", Usage{}},
		"a server": {
			"# Memory\r\nused_memory:1048576\r\nmaxmemory:4194304\r\nmaxmemory_policy:allkeys-lru\r\n",
			"# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:2.5\r\nused_cpu_sys_main_thread:1.0\r\nused_cpu_user_main_thread:2.0\r\n",
			Usage{Memory: 1 << 20, MemoryLimit: 4 << 20, CPU: 3 * time.Second},
		},
		"an old server":  {"used_memory:10\r\nmaxmemory:0\r\n", "used_cpu_sys:1.5\r\nused_cpu_user:2.5\r\n", Usage{Memory: 10, CPU: 4 * time.Second}},
		"invalid values": {"used_memory:-1\r\nmaxmemory:much\r\n", "used_cpu_sys:NaN\r\nused_cpu_user:1e300\r\n", Usage{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, parseUsage(c.memory, c.cpu)); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
		})
	}
}
