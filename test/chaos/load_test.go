// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/loadtest"
)

// mostConnections is the pool of connections to Redis that the instance gets.
const mostConnections = 10

// TestLoad sends one instance, with Redis and PostgreSQL behind it, 50 requests at
// a time as fast as it answers, and changes its flags every second. LOAD_SECONDS
// is how long (1), LOAD_P95_MS the limit of the 95th percentile of latency, for
// machines that have nothing else to do (none).
func TestLoad(t *testing.T) {
	r := prepareRig(t)
	only := launch(t, append(r.environ(), "REDIS_POOL_SIZE=10")...)
	r.services = [instances]*instance{only, only, only}
	r.insertFlags()
	only.awaitReady()
	r.learn()

	watched := r.watchConnections()
	stopChanging := r.keepChanging()
	report, err := loadtest.Run(t.Context(), loadtest.Options{
		URL: only.ofrep, Connections: 50, Duration: time.Duration(setting("LOAD_SECONDS", 1)) * time.Second, Users: users, Answers: r.expected,
	})
	changes := stopChanging()
	most := watched()
	if err != nil {
		t.Fatal(err)
	}
	report.Judge(loadtest.Limits{P95: time.Duration(setting("LOAD_P95_MS", 0)) * time.Millisecond})
	t.Logf("\n%s  %d changes of the flags; at most %d connections to Redis, %d are allowed", report, changes, most, mostConnections)
	if !report.Passed {
		t.Error("a limit is broken")
	}
	if most < 1 || most > mostConnections {
		t.Errorf("the instance had %d connections to Redis", most)
	}
}

// watchConnections counts the services' connections to Redis until it is told to
// stop, and returns the most that it saw.
func (r *rig) watchConnections() (stop func() int) {
	ended, most := make(chan struct{}), 0
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			list, err := r.redis.admin.ClientList(context.Background()).Result()
			if err != nil {
				r.t.Errorf("listing the connections: %v", err)
				return
			}
			most = max(most, strings.Count(list, "user=default"))
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
	})
	return func() int { close(ended); watching.Wait(); return most }
}

// keepChanging changes the marker every second until it is told to stop, and
// returns how often it did.
func (r *rig) keepChanging() (stop func() int) {
	r.expected.allow("a", "b")
	ended, changes := make(chan struct{}), 0
	var changing sync.WaitGroup
	changing.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			if err := r.mark([...]string{"a", "b"}[changes%2]); err != nil {
				r.t.Errorf("changing the marker: %v", err)
				return
			}
			changes++
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
	})
	return func() int { close(ended); changing.Wait(); return changes }
}
