// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/postgrestest"
	"github.com/flagcache/flagcache/service/redistest"
)

// notification is what a provider keeps of an event.
type notification struct {
	Etag         string
	LastModified json.Number
}

// query returns the query with which a provider requests the flags.
func (n notification) query() string {
	return "?" + url.Values{"flagConfigEtag": {n.Etag}, "flagConfigLastModified": {n.LastModified.String()}}.Encode()
}

// notifications returns the events of an instance.
func (p *process) notifications() <-chan notification {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	response, err := client.Get(p.ofrep + config.PathEvents)
	if err != nil {
		p.t.Fatal(err)
	}
	events := make(chan notification, 1000)
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var n notification
				if err := json.Unmarshal([]byte(data), &n); err != nil {
					p.t.Errorf("the event %s: %v", data, err)
				}
				events <- n
			}
		}
	})
	p.t.Cleanup(func() {
		_ = response.Body.Close()
		reading.Wait()
		client.CloseIdleConnections()
	})
	return events
}

// number returns the number of the flags in a store.
func (n notification) number(t *testing.T) (number int64) {
	t.Helper()
	parts := strings.FieldsFunc(n.Etag, func(r rune) bool { return r == '-' || r == '.' })
	if len(parts) != 4 {
		t.Fatalf("the event has the tag %s", n.Etag)
	}
	if _, err := fmt.Sscan(parts[2], &number); err != nil {
		t.Fatalf("the event has the tag %s: %v", n.Etag, err)
	}
	return number
}

// next returns the event of a change with a higher number.
func next(t *testing.T, events <-chan notification, number int64) notification {
	t.Helper()
	for {
		select {
		case n := <-events:
			if n.number(t) > number {
				return n
			}
		case <-time.After(timeout):
			t.Fatal("a change was not notified")
		}
	}
}

// all requests all flags, and returns status, headers and the body.
func (p *process) all(query string, headers ...string) (int, http.Header, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), "POST", p.ofrep+config.PathEvaluate+query, strings.NewReader(`{"context":{}}`))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := p.client.Do(r)
	if err != nil {
		p.t.Errorf("requesting all flags: %v", err)
		return 0, nil, ""
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Errorf("reading all flags: %v", err)
	}
	return response.StatusCode, response.Header, string(body)
}

func flagsWith(value int) string {
	return strings.Replace(validFlags, `"v":1`, fmt.Sprintf(`"v":%d`, value), 1)
}

// The mount of one node is updated before that of another, and there is no Redis.
func TestClientsOfAnInstanceThatIsBehindWait(t *testing.T) {
	const store = "flagcache:shop/demo"
	dirs := []string{t.TempDir(), t.TempDir()}
	var pods []*process
	for _, dir := range dirs {
		pods = append(pods, launch(t, "FLAGS_MANIFEST="+publishAs(t, dir, store, 1, flagsWith(1)), "FLAGS_STORE="+store, "EVENT_STREAMS_SPREAD=0s"))
	}
	for _, p := range pods {
		p.awaitReady(true)
	}
	events := pods[0].notifications()
	known := next(t, events, 0)
	_, header, _ := pods[1].all("")
	old := header.Get("ETag")
	for value := 2; value < 6; value++ {
		publishAs(t, dirs[0], store, value, flagsWith(value))
		known = next(t, events, known.number(t))
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() {
				status, header, body := pods[1].all(known.query(), "If-None-Match", old)
				if behind := header.Get(config.HeaderBehind); status != 200 || strings.Contains(body, fmt.Sprintf(`"value":%d`, value)) == (behind != "") {
					t.Errorf("after %+v the answer is %d %v %s", known, status, header, body)
				}
			})
		}
		redistest.Eventually(t, timeout, "no client waits", func() bool {
			_, metrics := pods[1].get("/metrics")
			return !strings.Contains(metrics, `ofrep_freshness_waits_total{result="behind"} 0`+"\n") || waitingRequests(pods[1]) > 0
		})
		publishAs(t, dirs[1], store, value, flagsWith(value))
		asking.Wait()
		status, header, body := pods[1].all(known.query(), "If-None-Match", old)
		if status != 200 || !strings.Contains(body, fmt.Sprintf(`"value":%d`, value)) || header.Get(config.HeaderBehind) != "" {
			t.Errorf("once the mount is updated, the answer is %d %v %s", status, header, body)
		}
		old = header.Get("ETag")
		if status, _, _ := pods[1].all(known.query(), "If-None-Match", old); status != 304 {
			t.Errorf("a client that has these flags is answered with %d", status)
		}
	}
	// A client that knows more than any instance does not keep one from stopping.
	made := notification{Etag: strings.Replace(known.Etag, "-1.5-", "-1.500-", 1)}
	made.Etag = made.Etag[:len(made.Etag)-5] + `0000"`
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 100 {
			response, err := pods[1].client.Post(pods[1].ofrep+config.PathEvaluate+made.query(), "application/json", nil)
			if err != nil {
				return
			}
			_ = response.Body.Close()
		}
	}()
	redistest.Eventually(t, timeout, "no client waits", func() bool { return waitingRequests(pods[1]) > 0 })
	if code := pods[1].terminate(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
	<-ended
	if strings.Contains(pods[1].logs.String(), "unfinished requests") {
		t.Errorf("a request was not finished:\n%s", pods[1].logs.String())
	}
}

// waitingRequests returns how many requests of an instance are waiting.
func waitingRequests(p *process) (n int) {
	_, metrics := p.get("/metrics")
	_, rest, _ := strings.Cut(metrics, "\nofrep_freshness_waiting ")
	_, _ = fmt.Sscan(rest, &n)
	return n
}

// Clients of an instance that got a change from the database reach any other one next.
func TestClientsOfADatabaseNeverGoBack(t *testing.T) {
	for name, environ := range map[string][]string{
		"without Redis": nil,
		"with Redis":    {"REDIS_URL=" + redistest.Start(t).URL()},
	} {
		t.Run(name, func(t *testing.T) {
			f := launchDatabaseFleet(t, postgrestest.Database(t), append(environ, "EVENT_STREAMS_SPREAD=0s")...)
			tag := f.change(t, 1, "")
			f.awaitAnswers(t, 1)
			var streams []<-chan notification
			for _, p := range f {
				streams = append(streams, p.notifications())
			}
			known := next(t, streams[0], 0)
			for value := 2; value < 12; value++ {
				tag = f.change(t, value, tag)
				known = next(t, streams[value%len(f)], known.number(t))
				var asking sync.WaitGroup
				for i, p := range f {
					asking.Go(func() {
						status, header, body := p.all(known.query())
						if behind := header.Get(config.HeaderBehind); status != 200 || strings.Contains(body, fmt.Sprintf(`"value":%d`, value)) == (behind != "") {
							t.Errorf("instance %d answers after %+v with %d %v %s", i, known, status, header, body)
						}
					})
				}
				asking.Wait()
			}
		})
	}
}

// A Redis that accepts connections and never replies does not delay a start for long.
func TestStartWithADatabaseAndRedisThatHangs(t *testing.T) {
	hanging, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hanging.Close() })
	uri := filepath.Join(t.TempDir(), "uri")
	writeFile(t, uri, postgrestest.Database(t))
	launch(t, "FLAGS_POSTGRES_URI_FILE="+uri).awaitReady(true)
	began := time.Now()
	p := launch(t, "FLAGS_POSTGRES_URI_FILE="+uri, "REDIS_URL=redis://"+hanging.Addr().String(), "REDIS_DIAL_TIMEOUT=30s")
	p.awaitReady(true)
	t.Logf("it was ready after %s", time.Since(began))
}
