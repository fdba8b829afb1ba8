// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
)

// changesMeasured is how often it is measured how long a change takes.
const changesMeasured = 5

// TestChangeReachesEveryInstance prints how long that takes: the aims are under
// a second with Redis, and under five without.
func TestChangeReachesEveryInstance(t *testing.T) {
	r := startRig(t)
	measure := func(how string) {
		var slowest time.Duration
		for range changesMeasured {
			slowest = max(slowest, r.change())
		}
		r.settled()
		r.compare()
		t.Logf("%s the slowest of %d changes reached all %d instances in %s", how, changesMeasured, instances, slowest.Round(time.Millisecond))
	}
	measure("with Redis")
	killRedis(r)
	measure("without Redis")
	// Changes are not announced while the subscriptions are disconnected.
	restartRedis(r)
	muteRedis(r)
	r.database("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()")
	measure("with messages lost")
}

// TestColdStartReadsTheSourceOnce starts everything at once, with clients that
// send requests from the first moment on and do not retry.
func TestColdStartReadsTheSourceOnce(t *testing.T) {
	const clients = 1000
	r := prepareRig(t)
	first := launch(t, r.environ()...)
	r.services = [instances]*instance{first, first, first}
	r.insertFlags()
	redistest.Eventually(t, freshLimit, "the flags did not arrive", func() bool { return first.marker() == "a" })
	first.kill()
	r.redis.do(t, "FLUSHALL")

	toxic(t, r.postgresProxy, "latency", `{"latency":100}`)
	for n := range r.services {
		r.services[n] = launch(t, r.environ()...)
	}
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 100}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var asking sync.WaitGroup
	answers := make(chan string, clients)
	for n := range clients {
		asking.Go(func() { answers <- untilAnswered(t, client, r.services[n%instances].ofrep) })
	}
	asking.Wait()
	close(answers)
	for answer := range answers {
		if answer != `{"key":"plain","reason":"STATIC","variant":"on","value":true}` {
			t.Fatalf("a client was answered with %s", answer)
		}
	}
	// The metric counts reads, and is final once none is in progress.
	redistest.Eventually(t, freshLimit, "the source is read without end", func() bool { return r.sum("flag_source_loads_in_flight") == 0 })
	if loads := r.sum("flag_source_loads_total"); loads != 1 {
		t.Errorf("%d clients at a cold start of %d instances caused %g reads of the source, want 1", clients, instances, loads)
	}
}

// untilAnswered sends requests as a client that waits as Retry-After says while there are no
// flags yet.
func untilAnswered(t *testing.T, client *http.Client, url string) string {
	for deadline := time.Now().Add(freshLimit); time.Now().Before(deadline); {
		response, err := client.Post(url+"/ofrep/v1/evaluate/flags/plain", "application/json", strings.NewReader(`{"context":{"targetingKey":"u"}}`))
		if err != nil {
			return err.Error()
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable {
			return string(body)
		}
		if response.Header.Get("Retry-After") == "" {
			return fmt.Sprintf("%s without Retry-After", response.Status)
		}
		retry := time.NewTimer(20 * time.Millisecond)
		select {
		case <-t.Context().Done():
		case <-retry.C:
		}
	}
	return "nothing but 503"
}

// TestLockOfADeadHolderExpires leaves Redis with a lock that nobody will release
// before it expires, and without the flags that its holder was to write.
func TestLockOfADeadHolderExpires(t *testing.T) {
	r := startRig(t)
	r.redis.do(t, "SET", "feature_flags_lock:default", "a dead holder", "PX", "5000")
	r.redis.do(t, "DEL", environmentKey)
	t.Logf("a change reaches all %d instances in %s", instances, r.change().Round(time.Millisecond))
	r.settled()
	r.compare()
}

// TestHalvesWithARedisEachAgree has one instance use another Redis than the
// others, as half a fleet does after a failover that it has not noticed.
func TestHalvesWithARedisEachAgree(t *testing.T) {
	r := startRig(t)
	other := startRedis(t, r.tls)
	r.bindTo(other.tlsAddr)
	r.services[2].end()
	r.services[2] = launch(t, r.environ()...)
	r.services[2].awaitReady()
	for range 2 {
		t.Logf("a change reaches both halves in %s", r.change().Round(time.Millisecond))
		r.settled()
		r.compare()
	}
	// What the other Redis holds is older than what everybody has seen.
	value, err := other.admin.Get(t.Context(), environmentKey).Result()
	if err != nil {
		t.Fatalf("reading what the other half has cached: %v", err)
	}
	r.change()
	r.settled()
	r.redis.do(t, "SET", environmentKey, value)
	r.redis.do(t, "PUBLISH", "feature_flags_changed:default", "older")
	r.change()
	r.settled()
	r.compare()
}

// TestStartWithoutSource starts an instance while the source is down: what
// is in Redis will do, and it is no other than before.
func TestStartWithoutSource(t *testing.T) {
	r := startRig(t)
	r.settled()
	r.awaitRedis()
	r.postgres.Kill()
	r.services[0].kill()
	r.services[0].start()
	r.services[0].awaitReady()
	r.compare()
	r.postgres.Restart(t)
	r.change()
	r.settled()
	r.compare()
}
