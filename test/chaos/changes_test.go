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

// TestAChangeReachesEveryInstance prints how long that takes: the aims are under
// a second with Redis, and under five without.
func TestAChangeReachesEveryInstance(t *testing.T) {
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
	// Nobody is told of a change while the connections that listen are gone.
	restartRedis(r)
	muteRedis(r)
	r.database("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()")
	measure("with messages lost")
}

// TestAColdStartReadsTheSourceOnce starts everything at once, with clients that
// ask from the first moment on and have no patience.
func TestAColdStartReadsTheSourceOnce(t *testing.T) {
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
	// Metrics say how often; that nothing is going on any more makes it final.
	redistest.Eventually(t, freshLimit, "the source is read for ever", func() bool { return r.sum("flag_source_loads_in_flight") == 0 })
	if loads := r.sum("flag_source_loads_total"); loads != 1 {
		t.Errorf("%d clients at a cold start of %d instances made %g readings of the source, want 1", clients, instances, loads)
	}
}

// untilAnswered asks as a client does that waits as it is told while there are no
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
