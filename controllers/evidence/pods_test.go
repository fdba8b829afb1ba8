// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/dial"
)

// network routes the addresses of pods to test servers.
type network struct {
	t    *testing.T
	pods []client.Object

	mu      sync.Mutex
	servers map[string]string
	// dialled are the addresses of connection attempts.
	dialled []string
}

func newNetwork(t *testing.T) *network { return &network{t: t, servers: map[string]string{}} }

// add adds a pod of a revision, at the next address, with a handler for its metrics.
func (n *network) add(revision string, respond http.HandlerFunc, changes ...func(*corev1.Pod)) {
	n.t.Helper()
	server := httptest.NewServer(respond)
	n.t.Cleanup(server.Close)
	i := len(n.pods) + 1
	deployment := "checkout-" + revision
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: fmt.Sprintf("%s-7d9f-%d", deployment, i), UID: types.UID(fmt.Sprint("uid-", i)),
			Labels: map[string]string{
				v1alpha1.LabelName: "checkout", v1alpha1.LabelComponent: v1alpha1.ComponentService, v1alpha1.LabelRevision: revision,
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: deployment + "-7d9f", Controller: ptr.To(true)}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprint("10.0.0.", i)},
	}
	for _, change := range changes {
		change(pod)
	}
	n.servers[net.JoinHostPort(pod.Status.PodIP, "8081")] = server.Listener.Addr().String()
	n.pods = append(n.pods, pod)
}

// dial connects to the server at an address.
func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	server, ok := n.servers[address]
	n.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("no server at %s", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, server)
}

// sample scrapes the pods of the network with the operator's own client.
func (n *network) sample(t Target) canary.Evidence { return n.source().Sample(n.t.Context(), t) }

// source returns the source of the pods of the network.
func (n *network) source() *Pods {
	client := NewHTTPClient(&dial.Rules{})
	client.Transport.(*http.Transport).DialContext = n.dial
	return &Pods{Client: fake.NewClientBuilder().WithObjects(n.pods...).Build(), Clock: clock.RealClock{}, HTTP: client}
}

// respondWith returns a handler that responds with a text.
func respondWith(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestReadsTheMetricsOfTheFlagService(t *testing.T) {
	s, target := newNetwork(t), aTarget()
	s.add(target.Candidate, respondWith(testdata(t, "candidate.txt")))
	s.add(target.Stable, respondWith(testdata(t, "stable.txt")))
	expectTestdataCounts(NewWithT(t), s.sample(target), target)
}

func TestRevisionsCountTheirOwnRequestsWithoutSplit(t *testing.T) {
	s, target := newNetwork(t), aTarget()
	target.Split = false
	s.add(target.Candidate, respondWith(testdata(t, "candidate.txt")))
	s.add(target.Stable, respondWith(testdata(t, "stable.txt")))
	sample := s.sample(target)
	g := NewWithT(t)
	g.Expect(countsOfRevision(sample, target.Candidate)).To(HaveKeyWithValue(canary.ErrorRate, analysis.Counts{Total: 28}))
	g.Expect(countsOfRevision(sample, target.Stable)).To(HaveKeyWithValue(canary.ErrorRate, analysis.Counts{Total: 19}))
	g.Expect(sample.Streams[1].Local).To(Equal(int64(19)))
}

func TestRestartedPodIsANewStream(t *testing.T) {
	s, target := newNetwork(t), aTarget()
	starts := 0
	s.add(target.Candidate, func(w http.ResponseWriter, _ *http.Request) {
		starts++
		_, _ = fmt.Fprintf(w, "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n", 1795432369+starts/2)
	})
	first, second, third := ids(s.sample(target)), ids(s.sample(target)), ids(s.sample(target))
	if slices.Equal(first, second) || !slices.Equal(second, third) {
		t.Errorf("the streams are %v, then %v, then %v", first, second, third)
	}
}

func TestPodWithUnreadableMetricsIsAbsent(t *testing.T) {
	const started = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1795432369\n"
	responses := map[string]http.HandlerFunc{
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://10.0.0.1:8081/metrics", http.StatusFound)
		},
		"oversized metrics":     respondWith(started + strings.Repeat("# a comment that says nothing\n", maxBytes/30+1)),
		"garbage":               respondWith("<html>hello</html>"),
		"a truncated line":      respondWith(started + "split_requests_tot"),
		"no start time":         respondWith("# TYPE split_local_total counter\nsplit_local_total 5\n"),
		"an invalid start time": respondWith("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds NaN\n"),
		"an empty response":     respondWith(""),
		"a truncated response": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "999")
			_, _ = io.WriteString(w, started)
		},
		"a closed connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"oversized headers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 128<<10))
		},
		"a decompression bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			_, _ = io.WriteString(zip, started+strings.Repeat("# a comment that says nothing\n", maxBytes/30+1))
			_ = zip.Close()
		},
		"no response": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a stalled response": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, started)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	}
	for name, respond := range responses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, target := newNetwork(t), aTarget()
			s.add(target.Stable, respondWith(testdata(t, "stable.txt")))
			s.add(target.Stable, respond)
			sample := s.sample(target)
			if sample.Missing == "" || len(sample.Streams) != 2 || !strings.HasPrefix(sample.Streams[0].ID, "uid-1/") {
				t.Errorf("got the streams %v, missing %q", ids(sample), sample.Missing)
			}
		})
	}
}

// Any user who can create pods can set the labels of a revision.
func TestForeignPodsAreNotScraped(t *testing.T) {
	changes := map[string]func(*corev1.Pod){
		"no owner":                       func(p *corev1.Pod) { p.OwnerReferences = nil },
		"an owner that is no controller": func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil },
		"another kind":                   func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "Job" },
		"another group":                  func(p *corev1.Pod) { p.OwnerReferences[0].APIVersion = "example.com/v1" },
		"another deployment":             func(p *corev1.Pod) { p.OwnerReferences[0].Name = "checkout2-8f2c1a3b-7d9f" },
		"another namespace":              func(p *corev1.Pod) { p.Namespace = "bank" },
		"another FlagCache":              func(p *corev1.Pod) { p.Labels[v1alpha1.LabelName] = "cart" },
		"another component":              func(p *corev1.Pod) { p.Labels[v1alpha1.LabelComponent] = "redis" },
		"host network":                   func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"loopback":                       func(p *corev1.Pod) { p.Status.PodIP = "127.0.0.1" },
		"loopback in IPv6":               func(p *corev1.Pod) { p.Status.PodIP = "::1" },
		"loopback as IPv4-mapped IPv6":   func(p *corev1.Pod) { p.Status.PodIP = "::ffff:127.0.0.1" },
		"a metadata service":             func(p *corev1.Pod) { p.Status.PodIP = "169.254.169.254" },
		"a name":                         func(p *corev1.Pod) { p.Status.PodIP = "example.com" },
		"no address":                     func(p *corev1.Pod) { p.Status.PodIP = "" },
		"a pod that ended":               func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s, target := newNetwork(t), aTarget()
			s.add(target.Candidate, respondWith(testdata(t, "candidate.txt")), change)
			sample := s.sample(target)
			if len(s.dialled) > 0 || len(sample.Streams) > 0 {
				t.Errorf("connected to %v and got the streams %v", s.dialled, ids(sample))
			}
		})
	}
}

func TestClientsRefuseLocalAddresses(t *testing.T) {
	server := httptest.NewServer(respondWith("hello"))
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, c := range []*http.Client{NewHTTPClient(&dial.Rules{}), NewPrometheusHTTPClient(&dial.Rules{})} {
		for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1.2.3", "0.0.0.0", "169.254.169.254", "[fd00:ec2::254]", "[fd00:ec2::23]", "168.63.129.16", "100.100.100.200", "0.0.0.1", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[fe80::1]", "224.0.0.1", "2130706433"} {
			response, err := c.Get("http://" + net.JoinHostPort(strings.Trim(host, "[]"), port))
			if err == nil {
				_ = response.Body.Close()
				t.Errorf("connected to %s", host)
			}
		}
		if c.Transport.(*http.Transport).Proxy != nil {
			t.Error("the client uses a proxy of the environment")
		}
	}
}

func TestClientsFollowNoRedirects(t *testing.T) {
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(inside.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(inside.URL, status))
		t.Cleanup(server.Close)
		for _, c := range []*http.Client{NewHTTPClient(loopback), NewPrometheusHTTPClient(loopback)} {
			response, err := c.Post(server.URL, "text/plain", strings.NewReader("query"))
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != status {
				t.Errorf("a redirect by %d ends with %d", status, response.StatusCode)
			}
		}
	}
	if reached.Load() > 0 {
		t.Errorf("%d redirects were followed", reached.Load())
	}
}

func TestSamplesThatAreNoCountsAreAbsent(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		want  bool
	}{
		"a count": {"17", true}, "zero": {"0", true}, "negative zero": {"-0", true}, "the largest": {"9007199254740992", true},
		"not a number": {"NaN", false}, "infinite": {"+Inf", false}, "negative": {"-1", false}, "negative infinite": {"-Inf", false},
		"inexact": {"1e308", false}, "a fraction": {"0.5", false}, "subnormal": {"5e-324", false},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(testdata(t, "candidate.txt"), `ofrep_requests_total{code="200",endpoint="single",track="own"} 28`,
				`ofrep_requests_total{code="200",endpoint="single",track="own"} `+c.value, 1)
			parsed, err := parse(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			target := aTarget()
			target.Split = false
			found, err := streams(parsed, "pod", target.Candidate, target)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := found[0].Counts[canary.ErrorRate]; ok != c.want {
				t.Errorf("counted: %t", ok)
			}
			if _, ok := found[0].Counts[canary.LatencyP95]; !ok {
				t.Error("an invalid sample of one check affects another")
			}
		})
	}
}

func TestSlowEventsAreCountedAtTheNextBoundary(t *testing.T) {
	const text = "# TYPE h histogram\n" +
		`h_bucket{le="0.1"} 70` + "\n" + `h_bucket{le="0.3"} 90` + "\n" + `h_bucket{le="1"} 99` + "\n" + `h_bucket{le="+Inf"} 100` + "\nh_sum 9\nh_count 100\n"
	parsed, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[time.Duration]int64{10 * time.Millisecond: 30, 100 * time.Millisecond: 30, 150 * time.Millisecond: 10, time.Second: 1} {
		if got, ok := slower(parsed.series("h"), limit); !ok || got != (analysis.Counts{Bad: want, Total: 100}) {
			t.Errorf("slower than %s: %+v, %t", limit, got, ok)
		}
	}
	if got, ok := slower(parsed.series("h"), 2*time.Second); ok {
		t.Errorf("got %+v for a limit above the last boundary, want no counts", got)
	}
}
