// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strconv"
	"time"
)

// Load is how much of its memory and CPU a cache uses for long. It is empty while
// that is not known: it has not been watched for long enough, it has no limit of
// memory, or it does not say.
type Load string

const (
	// LoadNormal means none of the others.
	LoadNormal Load = "Normal"
	// LoadLow means that for a day it has used little of its memory and of a core.
	LoadLow Load = "Low"
	// LoadHighMemory means that for an hour its memory has been almost full.
	LoadHighMemory Load = "HighMemory"
	// LoadHighCPU means that for an hour it has kept a core busy.
	LoadHighCPU Load = "HighCPU"
)

// Usage is what a server says about its memory and CPU. What it does not say is
// zero.
type Usage struct {
	// Memory in use and its limit, in bytes.
	Memory, MemoryLimit int64
	// CPU is the time that it has used since it started.
	CPU time.Duration
}

// parseUsage reads the replies to INFO memory and INFO cpu. CPU is the main
// thread's where the server tells it apart: that is the one that commands wait for.
func parseUsage(memory, cpu string) Usage {
	var u Usage
	fields := parseInfo(memory)
	u.Memory, u.MemoryLimit = bytesOf(fields["used_memory"]), bytesOf(fields["maxmemory"])
	fields = parseInfo(cpu)
	if u.CPU = secondsOf(fields["used_cpu_sys_main_thread"]) + secondsOf(fields["used_cpu_user_main_thread"]); u.CPU == 0 {
		u.CPU = secondsOf(fields["used_cpu_sys"]) + secondsOf(fields["used_cpu_user"])
	}
	return u
}

// bytesOf is a number of bytes, 0 where there is none.
func bytesOf(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// secondsOf is a time in seconds, 0 where there is none that a server can have used.
func secondsOf(text string) time.Duration {
	const century = 100 * 365 * 24 * 3600
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n < century) {
		return 0
	}
	return time.Duration(n * float64(time.Second))
}

// What counts as high and as low, in percent, and when it no longer does. Between
// the two nothing changes, so that a load on a border is one thing.
var (
	memoryLimits = limits{low: 20, notLow: 30, notHigh: 70, high: 80}
	cpuLimits    = limits{low: 10, notLow: 20, notHigh: 65, high: 75}
)

// For how long a load must be what it is before anybody hears of it: high for
// longer than a peak lasts, low for long enough to have seen a day's peak.
const (
	highFor = time.Hour
	lowFor  = 24 * time.Hour
)

const (
	// cpuSample is the shortest time that CPU is measured over.
	cpuSample = 5 * time.Minute
	// loadGap is how long nobody may have looked for what was seen to count as one
	// stretch; the longest interval of a probe is 10 minutes.
	loadGap = 30 * time.Minute
)

// loadWatch is what is known about the load of one cache.
type loadWatch struct {
	load        Load
	memory, cpu band
	// cpuUsed is the CPU time at cpuAt, where the present measurement began.
	cpuUsed time.Duration
	cpuAt   time.Time
	seen    time.Time
}

// step is the watch after one more look, at now.
func (w loadWatch) step(u Usage, now time.Time) loadWatch {
	if now.Sub(w.seen) > loadGap {
		w = loadWatch{load: w.load}
	}
	w.seen = now
	if u.MemoryLimit > 0 {
		w.memory = w.memory.step(percent(float64(u.Memory), float64(u.MemoryLimit)), memoryLimits, now)
	}
	w = w.measureCPU(u.CPU, now)
	w.load = w.judge(now)
	return w
}

// measureCPU ends a measurement that has taken long enough and begins the next. A
// server that restarted, or was replaced by another, begins anew.
func (w loadWatch) measureCPU(used time.Duration, now time.Time) loadWatch {
	took := now.Sub(w.cpuAt)
	switch {
	case used == 0 || (!w.cpuAt.IsZero() && used >= w.cpuUsed && took < cpuSample):
		return w
	case !w.cpuAt.IsZero() && used >= w.cpuUsed:
		w.cpu = w.cpu.step(percent((used-w.cpuUsed).Seconds(), took.Seconds()), cpuLimits, now)
	}
	w.cpuUsed, w.cpuAt = used, now
	return w
}

// judge is what to call the load. While a stretch is not long enough yet, what it
// was called before stands, unless that has become untrue.
func (w loadWatch) judge(now time.Time) Load {
	if w.memory.level == unknown || w.cpu.level == unknown {
		return w.load
	}
	bothLow := w.memory.level == low && w.cpu.level == low
	switch {
	case w.memory.stays(high, highFor, now):
		return LoadHighMemory
	case w.cpu.stays(high, highFor, now):
		return LoadHighCPU
	case w.memory.stays(low, lowFor, now) && w.cpu.stays(low, lowFor, now):
		return LoadLow
	case w.load == "" && (bothLow || w.memory.level == high || w.cpu.level == high):
		return ""
	case w.load == LoadLow && bothLow:
		return LoadLow
	case w.load == LoadHighMemory && w.memory.level == high:
		return LoadHighMemory
	case w.load == LoadHighCPU && w.cpu.level == high:
		return LoadHighCPU
	default:
		return LoadNormal
	}
}

func percent(part, whole float64) float64 { return 100 * part / whole }

// level is where a share of something lies.
type level int

const (
	unknown level = iota
	low
	middle
	high
)

// limits of the levels, in percent: to become low or high, and to be so no longer.
type limits struct{ low, notLow, notHigh, high float64 }

// band is the level of a share, and since when it has been the same.
type band struct {
	level level
	since time.Time
}

// step is the band after one more measurement.
func (b band) step(percent float64, l limits, now time.Time) band {
	if next := b.next(percent, l); next != b.level {
		return band{level: next, since: now}
	}
	return b
}

func (b band) next(percent float64, l limits) level {
	switch {
	case percent < l.low, b.level == low && percent < l.notLow:
		return low
	case percent >= l.high, b.level == high && percent >= l.notHigh:
		return high
	default:
		return middle
	}
}

// stays reports whether the level has been the same for so long.
func (b band) stays(l level, long time.Duration, now time.Time) bool {
	return b.level == l && now.Sub(b.since) >= long
}
