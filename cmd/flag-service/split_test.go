// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
)

// fleet is three stable pods and a candidate with the same flag. Its value
// depends on the targeting key, so that a response for another key is detected.
type fleet struct {
	t         *testing.T
	stables   []*process
	candidate *process
	splitFile string
	// values are the correct responses by targeting key.
	values map[string]string
}

const (
	fleetKeys   = 300
	flagsByKey  = `{"flags":{"flag":{"state":"ENABLED","variants":{"a":1,"b":2},"defaultVariant":"a","targeting":{"fractional":[["a",1],["b",1]]}}}}`
	stableName  = "5d1a"
	releaseName = "8f2c"
)

func launchFleet(t *testing.T) *fleet {
	t.Helper()
	file := "FLAGS_FILE=" + flagsFile(t, flagsByKey)
	f := &fleet{t: t, splitFile: filepath.Join(t.TempDir(), "split.json"), values: map[string]string{}}
	split := []string{file, "SPLIT_FILE=" + f.splitFile, "SPLIT_SALT=shop/checkout"}
	f.candidate = launch(t, append(split, "FLAGCACHE_REVISION="+releaseName, "DRAIN_DELAY=1s")...)
	for range 3 {
		f.stables = append(f.stables, launch(t, append(split, "FLAGCACHE_REVISION="+stableName)...))
	}
	for _, p := range append(f.stables, f.candidate) {
		p.awaitReady(true)
	}
	for i := range fleetKeys {
		key := fmt.Sprintf("user-%d", i)
		_, f.values[key], _ = f.evaluate(f.candidate, key)
	}
	return f
}

// split writes the file that all pods share.
func (f *fleet) split(percent int, timeout string) {
	f.t.Helper()
	content := fmt.Sprintf(`{"revision":%q,"address":%q,"weight":%d,"timeout":%q}`, releaseName, f.candidate.ofrep, percent, timeout)
	fresh := f.splitFile + ".new"
	if err := os.WriteFile(fresh, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(fresh, f.splitFile); err != nil {
		f.t.Fatal(err)
	}
	for _, p := range f.stables {
		redistest.Eventually(f.t, 10*time.Second, "a stable pod does not apply the file", func() bool {
			return metric(p, "split_weight_percent ") == fmt.Sprint(percent)
		})
	}
}

// evaluate evaluates the flag for a key at a pod and returns the revision that
// answered.
func (f *fleet) evaluate(p *process, key string) (status int, body, revision string) {
	response, err := p.client.Post(p.ofrep+"/ofrep/v1/evaluate/flags/flag", "application/json",
		strings.NewReader(fmt.Sprintf(`{"context":{"targetingKey":%q}}`, key)))
	if err != nil {
		return 0, err.Error(), ""
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error(), ""
	}
	return response.StatusCode, string(content), response.Header.Get("FlagCache-Revision")
}

// sides returns the revision that answers each key at a pod.
func (f *fleet) sides(p *process) map[string]string {
	f.t.Helper()
	sides := map[string]string{}
	for key, want := range f.values {
		status, body, revision := f.evaluate(p, key)
		if status != http.StatusOK || body != want {
			f.t.Errorf("%s is answered with %d %s instead of %s", key, status, body, want)
		}
		sides[key] = revision
	}
	return sides
}

// underLoad sends requests to all stable pods from before a fault until each
// pod has answered a number of requests after it. No request may fail, and no
// value may be wrong.
func (f *fleet) underLoad(fault func()) {
	f.t.Helper()
	var asking sync.WaitGroup
	var answered [3]atomic.Int64
	stop := make(chan struct{})
	for i, p := range f.stables {
		for range 4 {
			asking.Go(func() {
				for f.evaluateAll(p, &answered[i], stop) {
				}
			})
		}
	}
	afterwards := func(count int64) {
		for i := range answered {
			before := answered[i].Load()
			redistest.Eventually(f.t, 30*time.Second, "a stable pod answers too few requests", func() bool { return answered[i].Load() > before+count })
		}
	}
	afterwards(fleetKeys)
	fault()
	afterwards(2 * fleetKeys)
	close(stop)
	asking.Wait()
}

// evaluateAll evaluates the flag for each key once. It returns false if it was
// stopped.
func (f *fleet) evaluateAll(p *process, answered *atomic.Int64, stop <-chan struct{}) bool {
	for key, want := range f.values {
		select {
		case <-stop:
			return false
		default:
		}
		if status, body, by := f.evaluate(p, key); status != http.StatusOK || body != want {
			f.t.Errorf("%s is answered with %d %s by %q instead of %s", key, status, body, by, want)
			return false
		}
		answered.Add(1)
	}
	return true
}

// metric returns the value of the line of /metrics with the given prefix.
func metric(p *process, begin string) string {
	_, text := p.get("/metrics")
	_, rest, _ := strings.Cut("\n"+text, "\n"+begin)
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func TestSplit(t *testing.T) {
	f := launchFleet(t)
	f.split(5, "5s")
	few := f.sides(f.stables[0])
	f.split(40, "5s")
	many := f.sides(f.stables[0])
	counts := map[string]int{}
	for key, side := range many {
		counts[side]++
		if few[key] == releaseName && side != releaseName {
			t.Errorf("%s is in 5 %% and not in 40 %%", key)
		}
	}
	if counts[releaseName] < fleetKeys/4 || counts[stableName] < fleetKeys/2 || counts[releaseName]+counts[stableName] != fleetKeys {
		t.Errorf("the keys are split into %v", counts)
	}
	for _, p := range f.stables[1:] {
		if !maps.Equal(f.sides(p), many) {
			t.Error("two stable pods split the keys differently")
		}
	}
	f.split(0, "5s")
	for key, side := range f.sides(f.stables[0]) {
		if side != stableName {
			t.Errorf("%s is answered by %s after the split", key, side)
		}
	}
}

// TestSplitWithAFailingCandidate stops the candidate's process under load. The
// result of a request depends on its timing, so several outcomes are expected.
func TestSplitWithAFailingCandidate(t *testing.T) {
	tests := map[string]struct {
		signal   syscall.Signal
		outcomes []string
	}{
		"killed": {syscall.SIGKILL, []string{`requests_total{result="refused",`}},
		"hung":   {syscall.SIGSTOP, []string{`requests_total{result="timeout",`}},
		"terminated as by Kubernetes": {
			syscall.SIGTERM, []string{`skipped_total{reason="draining",`, `requests_total{result="refused",`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := launchFleet(t)
			f.split(50, "150ms")
			f.underLoad(func() {
				if err := f.candidate.command.Process.Signal(test.signal); err != nil {
					t.Fatal(err)
				}
				for _, outcome := range test.outcomes {
					redistest.Eventually(t, 20*time.Second, outcome+" is not counted", func() bool {
						count := metric(f.stables[0], "split_"+outcome+`revision="8f2c"} `)
						return count != "" && count != "0"
					})
				}
			})
			if ok := metric(f.stables[0], `split_requests_total{result="ok",revision="8f2c"} `); ok == "0" || ok == "" {
				t.Errorf("%q requests were forwarded before", ok)
			}
		})
	}
}
