// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stretch is a time in which a cache is looked at every minute and uses so much of
// its memory and of a core, in percent.
type stretch struct {
	lasts       time.Duration
	memory, cpu float64
}

// watched plays stretches and returns what was said of the load, change by change.
func watched(stretches ...stretch) []Load {
	var said []Load
	var w loadWatch
	now, cpu := time.Unix(0, 0), time.Second
	for _, s := range stretches {
		for range int(s.lasts / time.Minute) {
			now = now.Add(time.Minute)
			cpu += time.Duration(s.cpu / 100 * float64(time.Minute))
			before := w.load
			w = w.step(Usage{Memory: int64(s.memory * 10), MemoryLimit: 1000, CPU: cpu}, now)
			if w.load != before {
				said = append(said, w.load)
			}
		}
	}
	return said
}

func TestLoad(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		film []stretch
		want []Load
	}{
		"what is in between is soon known":          {[]stretch{{10 * time.Minute, 50, 30}}, []Load{LoadNormal}},
		"low is not said before a day":              {[]stretch{{day - time.Hour, 5, 1}}, nil},
		"low is said after a day":                   {[]stretch{{day + time.Hour, 5, 1}}, []Load{LoadLow}},
		"a night is not low enough":                 {[]stretch{{10 * time.Hour, 5, 1}, {time.Hour, 5, 30}, {20 * time.Hour, 5, 1}}, []Load{LoadNormal}},
		"little memory and much CPU is not low":     {[]stretch{{2 * day, 5, 30}}, []Load{LoadNormal}},
		"a peak of memory is not high":              {[]stretch{{30 * time.Minute, 90, 30}, {time.Hour, 60, 30}}, []Load{LoadNormal}},
		"full memory is high after an hour":         {[]stretch{{2 * time.Hour, 90, 30}}, []Load{LoadHighMemory}},
		"a busy core is high after an hour":         {[]stretch{{2 * time.Hour, 50, 90}}, []Load{LoadHighCPU}},
		"low ends when it is low no more":           {[]stretch{{2 * day, 5, 1}, {10 * time.Minute, 40, 1}}, []Load{LoadLow, LoadNormal}},
		"low bears what is about low":               {[]stretch{{2 * day, 15, 1}, {day, 25, 1}, {day, 15, 1}}, []Load{LoadLow}},
		"high bears what is about high":             {[]stretch{{2 * time.Hour, 85, 1}, {day, 75, 1}, {time.Hour, 85, 1}}, []Load{LoadHighMemory}},
		"on a border it is one thing":               {[]stretch{{2 * day, 19, 9}, {time.Hour, 21, 11}, {time.Hour, 19, 9}, {time.Hour, 21, 11}}, []Load{LoadLow}},
		"a resize from too large to too small":      {[]stretch{{2 * day, 5, 1}, {2 * time.Hour, 95, 1}}, []Load{LoadLow, LoadNormal, LoadHighMemory}},
		"an hour of high in a low life, then again": {[]stretch{{2 * day, 5, 1}, {2 * time.Hour, 5, 90}, {2 * day, 5, 1}}, []Load{LoadLow, LoadNormal, LoadHighCPU, LoadNormal, LoadLow}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, watched(c.film...)); diff != "" {
				t.Errorf("loads (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALoadIsNotJudgedOnWhatIsMissing(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	for name, usage := range map[string]func(look int) Usage{
		"no limit of memory": func(look int) Usage { return Usage{Memory: 1, CPU: time.Duration(look) * time.Second} },
		"no CPU":             func(int) Usage { return Usage{Memory: 1, MemoryLimit: 1000} },
		"a server that restarts all the time": func(look int) Usage {
			return Usage{Memory: 1, MemoryLimit: 1000, CPU: time.Hour / time.Duration(look)}
		},
	} {
		var w loadWatch
		for look := 1; look < 3000; look++ {
			w = w.step(usage(look), start.Add(time.Duration(look)*time.Minute))
		}
		if w.load != "" {
			t.Errorf("%s: the load is %s", name, w.load)
		}
	}
}

// An outage is not a stretch of any load: nobody looked.
func TestALoadIsNotJudgedOverAGap(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	var w loadWatch
	for look := range 100 {
		// Ten minutes of looks, an hour of none, and so on.
		at := time.Duration(look)*time.Minute + time.Duration(look/10)*time.Hour
		w = w.step(Usage{Memory: 900, MemoryLimit: 1000, CPU: at/2 + time.Second}, start.Add(at))
	}
	if w.load != "" {
		t.Errorf("the load is %s, after ten minutes at most", w.load)
	}
}

func TestParseUsage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		memory, cpu string
		want        Usage
	}{
		"nothing": {"", "", Usage{}},
		"a server": {
			"# Memory\r\nused_memory:1048576\r\nmaxmemory:4194304\r\nmaxmemory_policy:allkeys-lru\r\n",
			"# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:2.5\r\nused_cpu_sys_main_thread:1.0\r\nused_cpu_user_main_thread:2.0\r\n",
			Usage{Memory: 1 << 20, MemoryLimit: 4 << 20, CPU: 3 * time.Second},
		},
		"a server of old": {"used_memory:10\r\nmaxmemory:0\r\n", "used_cpu_sys:1.5\r\nused_cpu_user:2.5\r\n", Usage{Memory: 10, CPU: 4 * time.Second}},
		"nonsense":        {"used_memory:-1\r\nmaxmemory:much\r\n", "used_cpu_sys:NaN\r\nused_cpu_user:1e300\r\n", Usage{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, parseUsage(c.memory, c.cpu)); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
		})
	}
}
