// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/hack/bench/counter"
	"github.com/flagcache/flagcache/test/machine"
)

func TestReport(t *testing.T) {
	write := counter.Write{Method: "POST", Resource: "secrets"}
	status := counter.Write{Method: "PATCH", Resource: "flagcaches.flagcache.dev", Subresource: "status"}
	event := counter.Write{Method: "POST", Resource: "events.events.k8s.io"}
	r := report{
		Machine: machine.Machine{CPU: "A CPU", Cores: 2, Memory: 8 << 30, Go: "go1.26", OS: "linux/amd64"},
		Started: time.Unix(0, 0), Window: time.Minute,
		Creations: []creation{
			{Cache: v1alpha1.CacheInCluster, Total: 4 * time.Second, Kubectl: time.Second, Pods: 2 * time.Second, Writes: counter.Tally{write: 3, event: 1}},
			{Cache: v1alpha1.CacheInCluster, Total: 2 * time.Second, Kubectl: time.Second, Pods: time.Second, Writes: counter.Tally{write: 5, status: 1}},
			{Cache: v1alpha1.CacheInCluster, Total: 9 * time.Second, Kubectl: time.Second, Pods: 3 * time.Second, Writes: counter.Tally{write: 4, status: 2}},
		},
		Fleets: []fleetResult{
			{FlagCaches: 1000, Duration: time.Minute, CPU: 9 * time.Second, RSS: 200 << 20, Writes: counter.Tally{write: 7500, status: 2000},
				Window: time.Minute, Cost: cost{CPU: 0.0321, RSS: 160 << 20, Heap: 50 << 20, Probes: 6000}},
			{FlagCaches: 1000, Restarted: true, Duration: time.Second, Writes: counter.Tally{}},
		},
	}
	got, err := r.render()
	if err != nil {
		t.Fatal(err)
	}
	for about, line := range map[string]string{
		"a target that was met":           "| no API writes in 60 s      |        0 |         met |",
		"a target that was missed":        "| less than 150 MiB          |  160 MiB | **not met** |",
		"the median and its share":        "| InCluster |         4.00 s |  2.00 s |  9.00 s |  1.00 s |        2.00 s |          50 % |",
		"medians of writes":               "| InCluster              |                4 |                0 |         0 |      1 |          6 |        0 |      0 |",
		"writes of one among many":        "| External, one of 1,000 |              7.5 |                0 |         0 |      2 |        9.5 |        0 |      0 |",
		"the cost at rest, once for each": "| 1,000      |     60 s | 160 MiB |       50 MiB |           3.2 % |  6,000 |             0 |               0 |",
		"the restart":                     "| 1,000, operator restarted |  1.0 s |",
		"the machine":                     "Machine: A CPU, 2 cores, 8192 MiB of memory; go1.26 linux/amd64.",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("%s: the report does not contain\n%s\nit is\n%s", about, line, got)
		}
	}
}

func TestSampleFlagsExist(t *testing.T) {
	flags, err := sampleFlags()
	if err != nil || flags["flags.json"] == "" {
		t.Errorf("the sample's flags are %v, %v", flags, err)
	}
}

func TestDeployedEnvHasFlagServiceImage(t *testing.T) {
	env, err := deployedEnv()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(env, " "), "FLAG_SERVICE_IMAGE=") {
		t.Errorf("the manifest's environment is %v", env)
	}
}
