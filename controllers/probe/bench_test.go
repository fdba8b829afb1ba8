// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"syscall"
	"testing"
	"time"

	"github.com/flagcache/flagcache/controllers/secret"
)

// BenchmarkOnce measures one probe of a healthy cache. cpu-µs/op is the CPU time of the
// prober without the server, which is another process. A thousand caches with an
// interval of ten seconds need a hundred probes per second.
func BenchmarkOnce(b *testing.B) {
	ca := newAuthority(b)
	for name, target := range map[string]Target{
		"plain": {Addr: startRedis(b)},
		"TLS":   {Addr: startTLSRedis(b, ca.certificateFor(b, "", inOneHour())), Password: secret.New(secretPassword), TLS: true, CA: ca.pem},
	} {
		b.Run(name, func(b *testing.B) {
			target.Key = "k"
			before := cpuTime(b)
			b.ReportAllocs()
			for b.Loop() {
				if a := Once(b.Context(), target, loopback); a.Err != nil {
					b.Fatal(a.Err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
