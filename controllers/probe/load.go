// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strconv"
	"time"
)

// Load is the sustained memory and CPU load of a cache. It is empty while unknown: the
// cache was not observed for long enough, has no memory limit, or reports no usage.
type Load string

const (
	// LoadNormal is a load that is neither low nor high.
	LoadNormal Load = "Normal"
	// LoadLow means that memory and CPU usage were low for a day.
	LoadLow Load = "Low"
	// LoadHighMemory means that the memory was almost full for an hour.
	LoadHighMemory Load = "HighMemory"
	// LoadHighCPU means that a core was busy for an hour.
	LoadHighCPU Load = "HighCPU"
)

// Usage is the memory and CPU usage that a server reports. What it does not report is
// zero.
type Usage struct {
	// Memory in use and its limit, in bytes.
	Memory, MemoryLimit int64
	// CPU time used since the server started.
	CPU time.Duration
}

// parseUsage parses the replies to INFO memory and INFO cpu. CPU is that of the main
// thread, which commands wait for, if the server reports it separately.
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

// bytesOf parses a number of bytes, 0 if it is invalid.
func bytesOf(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// secondsOf parses a duration in seconds, 0 if it is invalid.
func secondsOf(text string) time.Duration {
	const century = 100 * 365 * 24 * 3600
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n < century) {
		return 0
	}
	return time.Duration(n * float64(time.Second))
}

// Thresholds of high and low, in percent, with hysteresis so that a load at a threshold
// does not flap.
var (
	memoryLimits = limits{low: 20, notLow: 30, notHigh: 70, high: 80}
	cpuLimits    = limits{low: 10, notLow: 20, notHigh: 65, high: 75}
)

// How long a load must hold before it is reported: high for longer than a peak, low for
// long enough to include a day's peak.
const (
	highFor = time.Hour
	lowFor  = 24 * time.Hour
)

const (
	// cpuSample is the minimum duration of a CPU measurement.
	cpuSample = 5 * time.Minute
	// loadGap is the maximum time between two observations of the same period; the
	// longest interval of a probe is 10 minutes.
	loadGap = 30 * time.Minute
)

// loadTracker tracks the load of one cache.
type loadTracker struct {
	load        Load
	memory, cpu band
	// cpuUsed is the CPU time at cpuAt, when the current measurement started.
	cpuUsed time.Duration
	cpuAt   time.Time
	seen    time.Time
}

// step returns the tracker after an observation at now.
func (w loadTracker) step(u Usage, now time.Time) loadTracker {
	if now.Sub(w.seen) > loadGap {
		w = loadTracker{load: w.load}
	}
	w.seen = now
	if u.MemoryLimit > 0 {
		w.memory = w.memory.step(utilization(float64(u.Memory), float64(u.MemoryLimit)), memoryLimits, now)
	}
	w = w.measureCPU(u.CPU, now)
	w.load = w.assess(now)
	return w
}

// measureCPU completes a measurement that is long enough and starts the next. A
// restarted or replaced server resets the measurement.
func (w loadTracker) measureCPU(used time.Duration, now time.Time) loadTracker {
	took := now.Sub(w.cpuAt)
	switch {
	case used == 0 || (!w.cpuAt.IsZero() && used >= w.cpuUsed && took < cpuSample):
		return w
	case !w.cpuAt.IsZero() && used >= w.cpuUsed:
		w.cpu = w.cpu.step(utilization((used-w.cpuUsed).Seconds(), took.Seconds()), cpuLimits, now)
	}
	w.cpuUsed, w.cpuAt = used, now
	return w
}

// assess returns the load. While a level has not held long enough, the previous load
// remains unless it no longer applies.
func (w loadTracker) assess(now time.Time) Load {
	if w.memory.level == unknown || w.cpu.level == unknown {
		return w.load
	}
	bothLow := w.memory.level == low && w.cpu.level == low
	switch {
	case w.memory.heldFor(high, highFor, now):
		return LoadHighMemory
	case w.cpu.heldFor(high, highFor, now):
		return LoadHighCPU
	case w.memory.heldFor(low, lowFor, now) && w.cpu.heldFor(low, lowFor, now):
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

// utilization returns the used part of a whole in percent.
func utilization(used, whole float64) float64 { return 100 * used / whole }

// level is a range of a utilization.
type level int

const (
	unknown level = iota
	low
	middle
	high
)

// limits of the levels, in percent: to enter and to leave low and high.
type limits struct{ low, notLow, notHigh, high float64 }

// band is the level of a utilization, and since when it holds.
type band struct {
	level level
	since time.Time
}

// step returns the band after a measurement.
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

// heldFor reports whether the level has been l for the given duration.
func (b band) heldFor(l level, duration time.Duration, now time.Time) bool {
	return b.level == l && now.Sub(b.since) >= duration
}
