// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/loadtest"
	"github.com/flagcache/flagcache/service/redistest"
)

// TestRollingRestartLosesNoRequest replaces each instance in turn while clients
// send requests over persistent connections.
func TestRollingRestartLosesNoRequest(t *testing.T) {
	r := startRig(t)
	b := startBalancer(t, r.services[:])
	restarts := setting("CHAOS_SECONDS", 2) * instances / 2
	report := r.behind(b, func() {
		for n := range restarts {
			service := r.services[n%instances]
			if code := service.terminate(); code != 0 {
				t.Errorf("a stopped instance exits with %d", code)
			}
			service.start()
			redistest.Eventually(t, freshLimit, "the balancer does not use a restarted instance", b.backends[n%instances].ready.Load)
		}
	})
	mustNotFail(t, fmt.Sprintf("with %d restarts", restarts), []loadtest.Report{report})
	r.settled()
	r.compare()
}

// TestKilledInstanceFailsOnlyItsOwnRequests has one of three crash.
func TestKilledInstanceFailsOnlyItsOwnRequests(t *testing.T) {
	r := startRig(t)
	b := startBalancer(t, r.services[:])
	report := r.behind(b, func() {
		r.services[1].kill()
		redistest.Eventually(t, freshLimit, "the balancer does not notice that an instance is down", func() bool { return !b.backends[1].ready.Load() })
		r.services[1].start()
		redistest.Eventually(t, freshLimit, "the balancer does not use a restarted instance", b.backends[1].ready.Load)
	})
	// Between the crash and the balancer's next check, connections are refused as well.
	lost := report.ErrorsByKind["connection lost"] + report.ErrorsByKind["no answer"]
	if most := int64(r.options("").Connections) + int64(rate()*2); report.Errors != lost || lost > most {
		t.Errorf("of %d requests these failed: %v; the crash may cost %d", report.Requests, report.ErrorsByKind, most)
	}
	if loads := r.services[1].metric("flag_source_loads_total"); loads > 1 {
		t.Errorf("the restarted instance read the source %g times", loads)
	}
	r.settled()
	r.compare()
}

// behind sends requests through the balancer until what happens meanwhile is over.
func (r *rig) behind(b *balancer, meanwhile func()) loadtest.Report {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	defer cancel()
	o := r.options(b.url)
	o.Duration, o.Rate = 10*time.Minute, 2*rate()
	var once sync.Once
	begun := make(chan struct{})
	o.Progress = func(loadtest.Progress) { once.Do(func() { close(begun) }) }
	var report loadtest.Report
	var err error
	var client sync.WaitGroup
	client.Go(func() { report, err = loadtest.Run(ctx, o) })
	<-begun
	meanwhile()
	cancel()
	client.Wait()
	if err != nil {
		r.t.Fatalf("asking through the balancer: %v", err)
	}
	return report
}

// alone starts one instance with a file of flags and nothing else.
func alone(t *testing.T, environ ...string) (i *instance, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "flags.json")
	writeMarker(t, file, "a")
	i = launch(t, append(environ, "FLAGS_FILE="+file)...)
	i.awaitReady()
	return i, file
}

func writeMarker(t *testing.T, file, variant string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(`{"flags":{"marker":`+markerFlag(variant)+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestOverloadIsShed sends a throttled instance far more requests than its limit:
// what is too much it refuses at once, and what it does is right.
func TestOverloadIsShed(t *testing.T) {
	const limit = 500
	i, _ := alone(t, "GOMAXPROCS=1", "GOMEMLIMIT=32MiB", fmt.Sprintf("RATE_LIMIT=%d", limit), fmt.Sprintf("RATE_LIMIT_BURST=%d", limit))
	healthy, checks := 0, 0
	report, err := loadtest.Run(t.Context(), loadtest.Options{
		URL: i.ofrep, Users: users, Duration: faultLength(), Rate: 5 * limit, Connections: 100, Answers: &loadtest.Consistent{},
		Progress: func(loadtest.Progress) {
			checks++
			if i.ready() {
				healthy++
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if shed := report.ErrorsByKind["status 429"]; shed == 0 || shed != report.Errors {
		t.Errorf("of %d requests these failed: %v; only 429 is right", report.Requests, report.ErrorsByKind)
	}
	if healthy < checks {
		t.Errorf("the overloaded instance was ready at %d of %d checks", healthy, checks)
	}
	good := float64(report.Requests - report.Errors)
	if due := limit * report.Seconds; good < 0.9*due {
		t.Errorf("it gave %.0f answers, with a limit that allows %.0f", good, due)
	}
	t.Logf("at 5 times its limit, it gave %.0f answers and refused %d, with a P99 of %.1f ms", good, report.Errors, report.Latency.P99)
}

// TestBlockedLogStopsNothing gives an instance a standard output that nobody reads
// any more.
func TestBlockedLogStopsNothing(t *testing.T) {
	i, file := alone(t)
	i.logs.reading.Lock()
	defer i.logs.reading.Unlock()
	// The pipe holds 4 KiB, and each change makes a line of 150 bytes.
	for n := range 60 {
		marker := [...]string{"b", "a"}[n%2]
		writeMarker(t, file, marker)
		redistest.Eventually(t, freshLimit, fmt.Sprintf("change %d was not served", n), func() bool { return i.marker() == marker })
	}
	if !i.ready() {
		t.Error("the instance is not ready any more")
	}
}
