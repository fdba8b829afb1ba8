// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/service/config"
)

// maxTogether is what all samples hold at the same time, in bytes of heap: a quarter of the memory
// limit of the operator. Beyond it one text at a time is parsed, and one response decoded.
const maxTogether = 64 << 20

// TestSamplesTogetherAreBounded is the arithmetic: the largest of what canaries hold, and what is
// held for the comparison of flags. A slice that grows has a quarter more than its content; a
// response is there twice while it is joined.
func TestSamplesTogetherAreBounded(t *testing.T) {
	const (
		kept       = maxKeptBytes * 5 / 4
		connection = 16 << 10
		pods       = maxConcurrentSamples * maxConcurrentScrapes * (kept + maxLine + connection)
		prometheus = maxConcurrentSamples * (2*maxResponseBytes + maxConcurrentQueries*connection)
		minutes    = 2 * int(maxCanaryAge/minute) // of bad events, and of all
		cloudWatch = maxConcurrentSamples * (2*maxResponseBytes + maxConcurrentQueries*(connection+minutes))
		deliveries = maxDeliveries * maxConcurrentDeliveries * (kept + maxLine + connection)
	)
	if together := max(pods, prometheus, cloudWatch) + deliveries; together > maxTogether {
		t.Errorf("samples of pods %d, of Prometheus %d, of CloudWatch %d, and comparisons of flags %d bytes are more than %d", pods, prometheus, cloudWatch, deliveries, maxTogether)
	}
}

// tally counts the bytes that are received and not closed yet.
type tally struct{ held, most atomic.Int64 }

func (c *tally) add(n int) {
	held := c.held.Add(int64(n))
	for most := c.most.Load(); held > most && !c.most.CompareAndSwap(most, held); most = c.most.Load() {
	}
}

// RoundTrip implements http.RoundTripper.
func (c *tally) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err == nil {
		response.Body = &tallied{ReadCloser: response.Body, tally: c}
	}
	return response, err
}

// tallied is a body that is counted.
type tallied struct {
	io.ReadCloser

	tally *tally
	read  int
}

func (b *tallied) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += n
	b.tally.add(n)
	return n, err
}

func (b *tallied) Close() error {
	b.tally.add(-b.read)
	b.read = 0
	return b.ReadCloser.Close()
}

// TestCanariesHoldOneResponseEach: of servers that send as much as they may, and do not end.
func TestCanariesHoldOneResponseEach(t *testing.T) {
	received := &tally{}
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat(" ", maxResponseBytes-1))
		_ = http.NewResponseController(w).Flush()
		<-release
	}))
	defer server.Close()
	source := &Prometheus{Clock: clock.RealClock{}, HTTP: &http.Client{Transport: received}}
	var samples sync.WaitGroup
	for range maxConcurrentSamples {
		target := aTarget()
		target.Prometheus = &v1alpha1.PrometheusSpec{Address: server.URL}
		samples.Go(func() { _ = source.Sample(t.Context(), target) })
	}
	NewWithT(t).Eventually(received.held.Load).WithTimeout(queryTimeout).Should(BeNumerically(">=", maxConcurrentSamples*(maxResponseBytes-1)), "each canary receives one")
	close(release)
	samples.Wait()
	if most := received.most.Load(); most > maxConcurrentSamples*maxResponseBytes {
		t.Errorf("%d canaries held %d bytes at the same time", maxConcurrentSamples, most)
	}
}

// TestCloudWatchCanariesHoldOneResponseEach: of a CloudWatch that sends as much as it may, and does not
// end; and what they hold of minutes is a byte for each.
func TestCloudWatchCanariesHoldOneResponseEach(t *testing.T) {
	received := &tally{}
	release := make(chan struct{})
	fakeAWS(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		_, _ = io.WriteString(w, strings.Repeat(" ", maxResponseBytes-1))
		_ = http.NewResponseController(w).Flush()
		<-release
	})
	source := &CloudWatch{Clock: clocktesting.NewFakePassiveClock(now), Pods: sourceFunc(func(context.Context, Target) canary.Evidence { return canary.Evidence{} })}
	config, err := source.aws(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config.HTTPClient = &http.Client{Transport: received, Timeout: time.Minute}
	source.config = &config
	target := aCloudWatchTarget()
	for _, check := range canary.Names() {
		for _, part := range []string{partBad, partTotal} {
			target.CloudWatch.Queries[string(check)+"."+part] = target.CloudWatch.Queries[string(canary.ErrorRate)+"."+part]
		}
	}
	var samples sync.WaitGroup
	for range maxConcurrentSamples {
		samples.Go(func() { _ = source.Sample(t.Context(), target) })
	}
	NewWithT(t).Eventually(received.held.Load).WithTimeout(queryTimeout).Should(BeNumerically(">=", maxConcurrentSamples*(maxResponseBytes-1)), "each canary receives one")
	close(release)
	samples.Wait()
	if most := received.most.Load(); most > maxConcurrentSamples*maxResponseBytes {
		t.Errorf("%d canaries held %d bytes at the same time", maxConcurrentSamples, most)
	}
}

// countedConn counts the bytes that are read of a connection.
type countedConn struct {
	net.Conn

	read *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// TestHeldMetricsOfPodsAreBounded: of pods that send as much as they may, and do not end.
func TestHeldMetricsOfPodsAreBounded(t *testing.T) {
	text := lines(maxKeptBytes-128, config.MetricSplitLocal+"{a=\"%d\"} 1 # and a comment that makes it longer\n")
	release := make(chan struct{})
	hostile := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
		<-release
	}
	s, target := newNetwork(t), aTarget()
	for range maxConcurrentScrapes {
		s.add(target.Stable, hostile)
	}
	source := s.source()
	var read atomic.Int64
	source.HTTP.Timeout = time.Minute
	source.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := s.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return countedConn{conn, &read}, nil
	}
	before := live()
	var samples sync.WaitGroup
	for range maxConcurrentSamples {
		samples.Go(func() { _ = source.Sample(t.Context(), target) })
	}
	all := int64(maxConcurrentSamples * maxConcurrentScrapes * len(text))
	NewWithT(t).Eventually(read.Load).WithTimeout(time.Minute).Should(BeNumerically(">=", all))
	held := live() - before
	close(release)
	samples.Wait()
	if held < all || held > maxTogether {
		t.Errorf("%d bytes of metrics hold %d bytes, want at most %d", all, held, maxTogether)
	}
}

// live returns the bytes of heap in use.
func live() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
