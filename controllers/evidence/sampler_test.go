// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// scripted is a slow source.
type scripted struct {
	takes time.Duration

	mu                  sync.Mutex
	targets             []Target
	running, maxRunning int
}

func (s *scripted) Sample(ctx context.Context, t Target) canary.Evidence {
	s.mu.Lock()
	s.targets = append(s.targets, t)
	s.running++
	s.maxRunning = max(s.maxRunning, s.running)
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	return canary.Evidence{At: time.Now(), Missing: t.Candidate}
}

func (s *scripted) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.targets)
}

// sourceFunc is a function that samples.
type sourceFunc func(context.Context, Target) canary.Evidence

// Sample implements Source.
func (f sourceFunc) Sample(ctx context.Context, t Target) canary.Evidence { return f(ctx, t) }

// runSampler runs a Sampler in virtual time, and fails if a goroutine of it remains.
func runSampler(t *testing.T, source Source, test func(*Sampler)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := NewSampler(Options{Source: source, Changed: func(types.NamespacedName) {}, MaxConcurrent: 4})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Start(ctx) }()
		synctest.Wait()
		test(s)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the sampler ended with %v", err)
		}
	})
}

// advance advances virtual time.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestSamplesImmediatelyAndAtEveryInterval(t *testing.T) {
	source := &scripted{takes: time.Second}
	target := aTarget()
	runSampler(t, source, func(s *Sampler) {
		s.Watch(target.FlagCache, target)
		if _, ok := s.Last(target.FlagCache); ok {
			t.Error("got a sample before the first was taken")
		}
		advance(time.Second)
		first, ok := s.Last(target.FlagCache)
		if !ok {
			t.Fatal("got no sample after the first was taken")
		}
		s.Watch(target.FlagCache, aTarget())
		advance(30 * time.Second)
		if last, _ := s.Last(target.FlagCache); source.times() != 4 || !last.At.After(first.At) {
			t.Errorf("%d samples in 31 s with an interval of 10 s, the last at %s", source.times(), last.At)
		}
	})
}

func TestForgetStopsARunningSample(t *testing.T) {
	source := &scripted{takes: time.Hour}
	target := aTarget()
	runSampler(t, source, func(s *Sampler) {
		s.Watch(target.FlagCache, target)
		synctest.Wait()
		s.Forget(target.FlagCache)
		s.Forget(target.FlagCache)
		synctest.Wait()
		if source.running != 0 {
			t.Error("the sample still runs")
		}
		advance(time.Minute)
		if _, ok := s.Last(target.FlagCache); ok || source.times() != 1 {
			t.Errorf("got a sample (%t) after Forget, %d were taken", ok, source.times())
		}
	})
}

func TestChangedTargetDiscardsTheSample(t *testing.T) {
	changes := map[string]func(*Target){
		"another candidate": func(t *Target) { t.Candidate = "00000000" },
		"another limit":     func(t *Target) { t.LatencyP95 = time.Second },
		"another server":    func(t *Target) { t.Prometheus = &v1alpha1.PrometheusSpec{Address: "http://a"} },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			source := &scripted{takes: time.Second}
			target := aTarget()
			runSampler(t, source, func(s *Sampler) {
				s.Watch(target.FlagCache, target)
				advance(time.Second)
				change(&target)
				s.Watch(target.FlagCache, target)
				if _, ok := s.Last(target.FlagCache); ok {
					t.Error("got the sample of the previous target")
				}
				advance(time.Second)
				if last, _ := s.Last(target.FlagCache); last.Missing != target.Candidate {
					t.Errorf("got the sample of candidate %s", last.Missing)
				}
			})
		})
	}
}

// watchMany samples n canaries of each namespace.
func watchMany(s *Sampler, n int, namespaces ...string) {
	for _, namespace := range namespaces {
		for i := range n {
			target := aTarget()
			target.FlagCache = types.NamespacedName{Namespace: namespace, Name: fmt.Sprint("fc", i)}
			s.Watch(target.FlagCache, target)
		}
	}
}

func TestConcurrentSamplesAreLimited(t *testing.T) {
	source := &scripted{takes: time.Second}
	runSampler(t, source, func(s *Sampler) {
		watchMany(s, 3, "a", "b", "c")
		advance(5 * time.Second)
		if source.times() != 9 || source.maxRunning != 2 {
			t.Errorf("%d samples, at most %d concurrently", source.times(), source.maxRunning)
		}
	})
}

func TestNamespacesShareTheSlots(t *testing.T) {
	source := &scripted{takes: time.Second}
	runSampler(t, source, func(s *Sampler) {
		watchMany(s, 8, "greedy")
		advance(4 * time.Second)
		if source.times() != 5 || source.maxRunning != 1 {
			t.Errorf("%d samples of one namespace, at most %d concurrently", source.times(), source.maxRunning)
		}
		watchMany(s, 1, "other")
		advance(time.Second)
		if _, ok := s.Last(types.NamespacedName{Namespace: "other", Name: "fc0"}); !ok {
			t.Error("another namespace waits for the first one's canaries")
		}
	})
	if source.running != 0 {
		t.Errorf("%d samples still run", source.running)
	}
}

// TestSamplesOfANamespaceAreLimited has canaries that answer at once, and request a sample in
// each second.
func TestSamplesOfANamespaceAreLimited(t *testing.T) {
	for _, tt := range []struct{ canaries, samplesPerMinute int }{{1, 60}, {4, 4 * 60}, {40, 4 * 60}} {
		source := &scripted{}
		runSampler(t, source, func(s *Sampler) {
			for n := range tt.canaries {
				target := aTarget()
				target.Interval = time.Second
				target.FlagCache = types.NamespacedName{Namespace: "greedy", Name: fmt.Sprint(n)}
				s.Watch(target.FlagCache, target)
			}
			advance(10*time.Second + time.Millisecond) // the first samples were taken while there were fewer
			before := source.times()
			advance(time.Minute)
			if got := source.times() - before; got != tt.samplesPerMinute {
				t.Errorf("%d samples of %d canaries in a minute, want %d", got, tt.canaries, tt.samplesPerMinute)
			}
		})
	}
}

// TestSilentSourcesDelayNoOther has as many silent sources as in a review, in which they
// left a canary that answers at once three samples in a minute.
func TestSilentSourcesDelayNoOther(t *testing.T) {
	healthy := aTarget()
	healthy.Interval = time.Second
	source := &scripted{}
	silent := func(target Target) bool { return target.FlagCache != healthy.FlagCache }
	runSampler(t, sourceFunc(func(ctx context.Context, target Target) canary.Evidence {
		if silent(target) {
			<-ctx.Done()
			return canary.Evidence{Missing: "silent"}
		}
		return source.Sample(ctx, target)
	}), func(s *Sampler) {
		for n := range 4 {
			watchMany(s, 8, fmt.Sprint("silent", n))
		}
		advance(32 * quickTimeout / 2) // each was sampled once, two at a time
		s.Watch(healthy.FlagCache, healthy)
		advance(59 * time.Second)
		if source.times() != 60 {
			t.Errorf("%d samples of a canary in 59 s with an interval of 1 s, beside 32 that do not answer", source.times())
		}
	})
}

func TestSourceThatAnswersAgainIsSampledQuickly(t *testing.T) {
	source := &scripted{takes: quickTimeout + time.Second}
	target := aTarget()
	runSampler(t, source, func(s *Sampler) {
		s.Watch(target.FlagCache, target)
		advance(2*quickTimeout + time.Second)
		if last, ok := s.Last(target.FlagCache); !ok || last.Missing != target.Candidate || source.times() != 2 {
			t.Errorf("a source that needs %s has sample %t after %d attempts", source.takes, ok, source.times())
		}
		source.takes = 0
		advance(2 * target.Interval)
		before := source.times()
		source.takes = quickTimeout + time.Second
		advance(target.Interval)
		if source.times()-before != 2 {
			t.Error("it remains in the slow lane")
		}
	})
}

func TestSlowSourceTimesOut(t *testing.T) {
	source := &scripted{takes: time.Hour}
	target := aTarget()
	runSampler(t, source, func(s *Sampler) {
		s.Watch(target.FlagCache, target)
		advance(quickTimeout + slowTimeout)
		if _, ok := s.Last(target.FlagCache); !ok {
			t.Error("got no sample after the timeout")
		}
	})
}

func TestWatchBeforeStartAndAfterStop(t *testing.T) {
	source := &scripted{}
	target := aTarget()
	target.Interval = 0
	synctest.Test(t, func(t *testing.T) {
		s := NewSampler(Options{Source: source, Changed: func(types.NamespacedName) {}})
		s.Watch(target.FlagCache, target)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Start(ctx) }()
		advance(1500 * time.Millisecond)
		if source.times() != 2 {
			t.Errorf("%d samples in 1.5 s with a minimum interval of 1 s", source.times())
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the sampler ended with %v", err)
		}
		target.Candidate = "late"
		s.Watch(target.FlagCache, target)
		advance(time.Minute)
		if source.times() != 2 {
			t.Error("sampled after it was stopped")
		}
	})
}

func TestOriginChangesWithWhatIsCounted(t *testing.T) {
	of := func(change func(*Target)) string {
		target := aTarget()
		change(&target)
		source := &scripted{}
		return Sources{v1alpha1.MetricsPods: source}.Sample(t.Context(), target).Origin
	}
	first := of(func(*Target) {})
	for name, change := range map[string]func(*Target){
		"another interval":  func(t *Target) { t.Interval = time.Minute },
		"another candidate": func(t *Target) { t.Candidate = "00000000" },
		"another canary":    func(t *Target) { t.Since = t.Since.Add(time.Hour) },
	} {
		if of(change) != first {
			t.Errorf("%s changes the origin", name)
		}
	}
	for name, change := range map[string]func(*Target){
		"another limit":  func(t *Target) { t.LatencyP95 = time.Second },
		"another server": func(t *Target) { t.Prometheus = &v1alpha1.PrometheusSpec{Address: "http://a"} },
		"CloudWatch":     func(t *Target) { t.CloudWatch = &v1alpha1.CloudWatchSpec{} },
		"no split":       func(t *Target) { t.Split = false },
	} {
		if of(change) == first {
			t.Errorf("%s does not change the origin", name)
		}
	}
}

// The origin is persisted in the record of a canary.
func TestOriginStaysTheSameAcrossVersions(t *testing.T) {
	sample := Sources{v1alpha1.MetricsPods: &scripted{}}.Sample(t.Context(), aTarget())
	if want := "7211613091d4f90d"; sample.Origin != want {
		t.Errorf("origin %s, want %s", sample.Origin, want)
	}
}

func TestSourceIsSelectedByType(t *testing.T) {
	pods, prometheus := &scripted{}, &scripted{}
	sources := Sources{v1alpha1.MetricsPods: pods, v1alpha1.MetricsPrometheus: prometheus}
	target := aTarget()
	sources.Sample(t.Context(), target)
	target.Type = v1alpha1.MetricsPrometheus
	sources.Sample(t.Context(), target)
	if pods.times() != 1 || prometheus.times() != 1 {
		t.Errorf("the pods were sampled %d times and Prometheus %d times, want once each", pods.times(), prometheus.times())
	}
	target.Type = v1alpha1.MetricsCloudWatch
	if sample := sources.Sample(t.Context(), target); sample.Missing == "" || len(sample.Streams) > 0 {
		t.Errorf("got %+v for a type without a source", sample)
	}
}
